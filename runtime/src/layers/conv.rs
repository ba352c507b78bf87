//! `torch.nn.Conv1d` and `torch.nn.Conv2d`.

use candle_core::Tensor;

use super::{finish, tensor_of};
use crate::{Param, Path, Probe, Result, Scope, ops};

/// Arguments of a 1-d convolution other than its weights, in elements.
///
/// ```
/// let same = pycandle::Conv1dConfig { padding: 1, ..Default::default() };
/// assert_eq!((same.stride, same.dilation, same.groups), (1, 1, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1dConfig {
    /// Step of the kernel.
    pub stride: usize,
    /// Zeros added at both ends.
    pub padding: usize,
    /// Distance between kernel elements.
    pub dilation: usize,
    /// Groups that input and output channels are split into.
    pub groups: usize,
}

impl Default for Conv1dConfig {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }
}

/// Arguments of a 2-d convolution other than its weights, in elements, `[height, width]`.
///
/// ```
/// let patches = pycandle::Conv2dConfig { stride: [16, 16], ..Default::default() };
/// assert_eq!(patches.padding, [0, 0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step of the kernel.
    pub stride: [usize; 2],
    /// Zeros added at both ends.
    pub padding: [usize; 2],
    /// Distance between kernel elements.
    pub dilation: [usize; 2],
    /// Groups that input and output channels are split into.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// 1-d convolution (`aten.conv1d`).
///
/// ```
/// use pycandle::{Conv1d, Conv1dConfig, Device, NoProbe, Param, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let weight = Tensor::new(&[[[1f32, 1.]]], &Device::Cpu)?;
/// let conv = Conv1d::new(Param::from_tensor("weight", weight), None, Conv1dConfig::default());
/// let y = conv.forward(&Tensor::new(&[[[1f32, 2., 3.]]], &Device::Cpu)?, &mut NoProbe)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[3., 5.]]]);
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, Conv1d, Conv1dConfig};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("conv.weight", zeros(&[4, 2, 3])?), ("conv.bias", zeros(&[4])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let config = Conv1dConfig::default();
/// let with_bias = Conv1d::load(&scope.pp("conv"), [4, 2, 3], config)?;
/// let without = Conv1d::no_bias(&scope.pp("conv"), [4, 2, 3], config)?;
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv1d {
    weight: Param,
    bias: Option<Param>,
    config: Conv1dConfig,
    path: Option<Path>,
}

impl Conv1d {
    /// `weight` `shape` = `[out, in / groups, kernel]` and `bias` `[out]`.
    pub fn load(scope: &Scope, shape: [usize; 3], config: Conv1dConfig) -> Result<Self> {
        let mut conv = Self::no_bias(scope, shape, config)?;
        conv.bias = Some(scope.param("bias", shape[0])?);
        Ok(conv)
    }

    /// `weight` `shape` = `[out, in / groups, kernel]`.
    pub fn no_bias(scope: &Scope, shape: [usize; 3], config: Conv1dConfig) -> Result<Self> {
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new(scope.param("weight", &shape)?, None, config)
        })
    }

    /// Over handles: `weight` `[out, in / groups, kernel]`, `bias` `[out]`.
    pub fn new(weight: Param, bias: Option<Param>, config: Conv1dConfig) -> Self {
        Self {
            weight,
            bias,
            config,
            path: None,
        }
    }

    /// `[batch, in, length]` to `[batch, out, length']`.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        finish(self.path.as_ref(), self.convolve(x), p)
    }

    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let bias = tensor_of(&self.bias)?;
        let Conv1dConfig {
            stride,
            padding,
            dilation,
            groups,
        } = self.config;
        let weight = self.weight.tensor()?;
        ops::conv1d(x, &weight, bias.as_ref(), stride, padding, dilation, groups)
    }
}

/// 2-d convolution (`aten.conv2d`).
///
/// ```
/// use pycandle::{Conv2d, Conv2dConfig, Device, NoProbe, Param, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let weight = Tensor::new(&[[[[2f32]]]], &Device::Cpu)?;
/// let conv = Conv2d::new(Param::from_tensor("weight", weight), None, Conv2dConfig::default());
/// let y = conv.forward(&Tensor::new(&[[[[1f32, 2.]]]], &Device::Cpu)?, &mut NoProbe)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 4.]);
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, Conv2d, Conv2dConfig};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("conv.weight", zeros(&[4, 2, 3, 3])?), ("conv.bias", zeros(&[4])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let config = Conv2dConfig::default();
/// let with_bias = Conv2d::load(&scope.pp("conv"), [4, 2, 3, 3], config)?;
/// let without = Conv2d::no_bias(&scope.pp("conv"), [4, 2, 3, 3], config)?;
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Param,
    bias: Option<Param>,
    config: Conv2dConfig,
    path: Option<Path>,
}

impl Conv2d {
    /// `weight` `shape` = `[out, in / groups, height, width]` and `bias` `[out]`.
    pub fn load(scope: &Scope, shape: [usize; 4], config: Conv2dConfig) -> Result<Self> {
        let mut conv = Self::no_bias(scope, shape, config)?;
        conv.bias = Some(scope.param("bias", shape[0])?);
        Ok(conv)
    }

    /// `weight` `shape` = `[out, in / groups, height, width]`.
    pub fn no_bias(scope: &Scope, shape: [usize; 4], config: Conv2dConfig) -> Result<Self> {
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new(scope.param("weight", &shape)?, None, config)
        })
    }

    /// Over handles: `weight` `[out, in / groups, height, width]`, `bias` `[out]`.
    pub fn new(weight: Param, bias: Option<Param>, config: Conv2dConfig) -> Self {
        Self {
            weight,
            bias,
            config,
            path: None,
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        finish(self.path.as_ref(), self.convolve(x), p)
    }

    fn convolve(&self, x: &Tensor) -> Result<Tensor> {
        let bias = tensor_of(&self.bias)?;
        let pair = |[height, width]: [usize; 2]| (height, width);
        ops::conv2d(
            x,
            &self.weight.tensor()?,
            bias.as_ref(),
            pair(self.config.stride),
            pair(self.config.padding),
            pair(self.config.dilation),
            self.config.groups,
        )
    }
}
