//! The one place that decides how a [`Param`] becomes a multiplication.
//!
//! Layers hold handles and call [`linear`] and [`embedding`]; nothing else looks at how weights are
//! stored. A matrix that its file holds in blocks of GGUF stays in them; every other parameter is a
//! dense tensor.

use candle_core::quantized::QMatMul;
use candle_core::{DType, Module, Tensor};

use crate::{Error, Param, Result, ops};

/// How the weight of a linear map lies in memory.
///
/// ```
/// use pycandle::{Device, Tensor, dispatch::{Layout, dense}};
/// # fn main() -> pycandle::Result<()> {
/// let weight = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let x = Tensor::new(&[1f32, 0.], &Device::Cpu)?;
/// assert_eq!(dense(&x, &weight, None, Layout::OutIn)?.to_vec1::<f32>()?, [1., 3.]);
/// assert_eq!(dense(&x, &weight, None, Layout::InOut)?.to_vec1::<f32>()?, [1., 2.]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in]`, as `torch.nn.Linear` stores it.
    OutIn,
    /// `[in, out]`, as GPT-2's `Conv1D` stores it.
    InOut,
}

/// `x · Wᵀ + b` (or `x · W + b` for [`Layout::InOut`]) over the last dimension of `x`.
///
/// `x` is `[…, in]`, `weight` `[out, in]` or `[in, out]`, `bias` `[out]`, all of one dtype (f64, f32,
/// f16 or bf16); the result is `[…, out]`.
/// Half-precision sums run in f32 and are rounded once, after the bias, as `aten.linear` and
/// `aten.addmm` do on the CPU.
/// A weight in blocks of GGUF is multiplied by as Candle does it, with `x` rounded to 8 bits per block
/// of it on the CPU; only f64 dequantizes the weight.
///
/// ```
/// use pycandle::{Device, Param, Tensor, dispatch::{Layout, linear}};
/// # fn main() -> pycandle::Result<()> {
/// let weight = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
/// let weight = Param::from_tensor("weight", weight);
/// let x = Tensor::new(&[[1f32, 1.]], &Device::Cpu)?;
/// let y = linear(&x, &weight, None, Layout::OutIn)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[3., 7., 11.]]);
/// # Ok(())
/// # }
/// ```
pub fn linear(x: &Tensor, weight: &Param, bias: Option<&Param>, layout: Layout) -> Result<Tensor> {
    let bias = bias.map(Param::tensor).transpose()?;
    if layout == Layout::OutIn
        && x.dtype() != DType::F64
        && let Some(blocks) = weight.blocks()?
    {
        return multiply(x, &blocks, weight, bias.as_ref());
    }
    dense(x, &weight.tensor()?, bias.as_ref(), layout)
}

/// Rows of a table by index (`aten.embedding`); of a table in blocks only those are dequantized.
///
/// ```
/// use pycandle::{Device, Param, Tensor, dispatch::embedding};
/// # fn main() -> pycandle::Result<()> {
/// let table = Param::from_tensor("weight", Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?);
/// let rows = embedding(&table, &Tensor::new(&[1i64], &Device::Cpu)?)?;
/// assert_eq!(rows.to_vec2::<f32>()?, [[3., 4.]]);
/// # Ok(())
/// # }
/// ```
pub fn embedding(table: &Param, ids: &Tensor) -> Result<Tensor> {
    match table.blocks()? {
        Some(blocks) => Ok(blocks.embedding(ids)?.to_dtype(table.dtype())?),
        None => ops::embedding(&table.tensor()?, ids),
    }
}

/// [`linear`] with a weight in blocks.
fn multiply(x: &Tensor, blocks: &QMatMul, weight: &Param, bias: Option<&Tensor>) -> Result<Tensor> {
    let (&[ref batch @ .., inner], &[out, k]) = (x.dims(), weight.dims()) else {
        return Err(mismatch(x, weight));
    };
    if inner != k || x.dtype() != weight.dtype() {
        return Err(mismatch(x, weight));
    }
    let rows = x
        .reshape((batch.iter().product::<usize>(), k))?
        .to_dtype(DType::F32)?;
    let mut y = match rows.elem_count() {
        0 => Tensor::zeros((rows.dim(0)?, out), DType::F32, x.device())?,
        _ => blocks.forward(&rows.contiguous()?)?,
    };
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    }
    let shape = [batch, &[out]].concat();
    Ok(ops::to_dtype(&y, x.dtype())?.reshape(shape)?)
}

fn mismatch(x: &Tensor, weight: &Param) -> Error {
    Error::msg(format!(
        "linear: input {:?} {:?} and weight {:?} {:?} do not fit",
        x.dtype(),
        x.dims(),
        weight.dtype(),
        weight.dims()
    ))
}

/// [`linear`] with a weight that is already a tensor.
///
/// ```
/// # use pycandle::{Device, Tensor, dispatch::{Layout, dense}};
/// let weight = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
/// let x = Tensor::new(&[1f32, 1.], &Device::Cpu)?;
/// assert_eq!(dense(&x, &weight, None, Layout::OutIn)?.to_vec1::<f32>()?, [3., 7., 11.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn dense(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, layout: Layout) -> Result<Tensor> {
    ops::linear_with(x, weight, bias, layout)
}
