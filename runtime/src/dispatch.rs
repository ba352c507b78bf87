//! The one place that decides how a [`Param`] becomes a multiplication.
//!
//! Layers hold handles and call [`linear`]; nothing else looks at how weights are stored.
//! Today every parameter is a dense tensor; borrowed and quantized ones become further arms here.

use candle_core::Tensor;

use crate::{Param, Result, ops};

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
    ops::linear_with(x, weight, bias, layout)
}
