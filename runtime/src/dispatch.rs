//! The one place that decides how a [`Param`] becomes a multiplication.
//!
//! Layers hold handles and call [`linear`]; nothing else looks at how weights are stored.

use candle_core::{DType, Tensor};

use crate::{Error, Param, Result};

/// How the weight of a linear map lies in memory.
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
/// Sums run in f32 (f64 for f64) and are rounded once, after the bias, as `aten.linear` does on the
/// CPU.
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
    dense(x, &weight.tensor()?, bias.as_ref(), layout)
}

/// [`linear`] with a weight that is already a tensor.
pub fn dense(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, layout: Layout) -> Result<Tensor> {
    let (out, inner) = match (weight.dims(), layout) {
        (&[out, inner], Layout::OutIn) | (&[inner, out], Layout::InOut) => (out, inner),
        (dims, _) => {
            let text = format!("linear: the weight is {dims:?}, expected two dimensions");
            return Err(Error::msg(text));
        }
    };
    let Some((&last, rows)) = x.dims().split_last() else {
        return Err(Error::msg(
            "linear: the input is a scalar, expected […, in]",
        ));
    };
    if last != inner {
        let text = format!("linear: the input is {:?}, expected […, {inner}]", x.dims());
        return Err(Error::msg(text));
    }
    let m = rows.iter().product::<usize>();
    let mut dims = rows.to_vec();
    dims.push(out);
    if m == 0 || inner == 0 {
        return Ok(Tensor::zeros(dims, x.dtype(), x.device())?);
    }
    // One product of two matrices: Candle would run one per batch entry.
    let x = x.reshape((m, inner))?;
    let wide = x.dtype() != DType::F64;
    let w = match layout {
        Layout::OutIn => weight.t()?,
        Layout::InOut => weight.clone(),
    };
    let y = x.matmul(&w)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    let _ = wide;
    Ok(y.reshape(dims)?)
}
