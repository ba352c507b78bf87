//! `torch.nn.Linear`, and GPT-2's transposed twin of it.

use candle_core::Tensor;

use super::finish;
use crate::dispatch::{self, Layout};
use crate::{Param, Path, Probe, Result, Scope};

/// `x · Wᵀ + b` over the last dimension (`aten.linear`).
///
/// ```
/// use pycandle::{Device, Linear, NoProbe, Param, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let weight = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let bias = Tensor::new(&[10f32, 20.], &Device::Cpu)?;
/// let linear = Linear::new(
///     Param::from_tensor("weight", weight),
///     Some(Param::from_tensor("bias", bias)),
/// );
/// let y = linear.forward(&Tensor::new(&[1f32, 1.], &Device::Cpu)?, &mut NoProbe)?;
/// assert_eq!(y.to_vec1::<f32>()?, [13., 27.]);
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, Linear, Param};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("fc.weight", zeros(&[3, 2])?), ("fc.bias", zeros(&[3])?), ("c.weight", zeros(&[2, 3])?), ("c.bias", zeros(&[3])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let with_bias = Linear::load(&scope.pp("fc"), 2, 3)?;
/// let without = Linear::no_bias(&scope.pp("fc"), 2, 3)?;
/// let of_gpt2 = Linear::transposed(&scope.pp("c"), 2, 3)?;
/// let weight = scope.param("c.weight", (2, 3))?;
/// let same_weight = Linear::new_transposed(weight, None);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
    layout: Layout,
    path: Option<Path>,
}

impl Linear {
    /// `weight` `[out, in]` and `bias` `[out]`.
    pub fn load(scope: &Scope, inputs: usize, outputs: usize) -> Result<Self> {
        let mut linear = Self::no_bias(scope, inputs, outputs)?;
        linear.bias = Some(scope.param("bias", outputs)?);
        Ok(linear)
    }

    /// `weight` `[out, in]`.
    pub fn no_bias(scope: &Scope, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new(scope.param("weight", (outputs, inputs))?, None)
        })
    }

    /// `weight` `[in, out]` and `bias` `[out]`, as in GPT-2's `Conv1D`.
    pub fn transposed(scope: &Scope, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.param("weight", (inputs, outputs))?;
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new_transposed(weight, Some(scope.param("bias", outputs)?))
        })
    }

    /// Over handles: `weight` `[out, in]`, `bias` `[out]`.
    pub fn new(weight: Param, bias: Option<Param>) -> Self {
        Self {
            weight,
            bias,
            layout: Layout::OutIn,
            path: None,
        }
    }

    /// Over handles: `weight` `[in, out]`, `bias` `[out]`.
    pub fn new_transposed(weight: Param, bias: Option<Param>) -> Self {
        Self {
            layout: Layout::InOut,
            ..Self::new(weight, bias)
        }
    }

    /// The handle of the weight.
    pub fn weight(&self) -> &Param {
        &self.weight
    }

    /// The handle of the bias.
    pub fn bias(&self) -> Option<&Param> {
        self.bias.as_ref()
    }

    /// `[…, in]` to `[…, out]`; fails on another last dimension or dtype.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        let out = dispatch::linear(x, &self.weight, self.bias.as_ref(), self.layout);
        finish(self.path.as_ref(), out, p)
    }
}
