//! Normalisations: layer, RMS, batch and group.

use candle_core::{Shape, Tensor};

use super::{finish, tensor_of};
use crate::{Error, Param, Path, Probe, Result, Scope, ops};

/// Normalises the last dimensions to mean 0 and variance 1, then scales and shifts
/// (`aten.layer_norm`).
///
/// ```
/// use pycandle::{Device, LayerNorm, NoProbe, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let norm = LayerNorm::new(None, None, 2, 0.0);
/// let y = norm.forward(&Tensor::new(&[[1f32, 3.]], &Device::Cpu)?, &mut NoProbe)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1., 1.]]);
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, LayerNorm};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("norm.weight", zeros(&[2])?), ("norm.bias", zeros(&[2])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let norm = LayerNorm::load(&scope.pp("norm"), 2, 1e-5)?;
/// let without_bias = LayerNorm::no_bias(&scope.pp("norm"), 2, 1e-5)?;
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    dims: Shape,
    eps: f64,
    path: Option<Path>,
}

impl LayerNorm {
    /// `weight` and `bias` of shape `dims`.
    pub fn load(scope: &Scope, dims: impl Into<Shape>, eps: f64) -> Result<Self> {
        let mut norm = Self::no_bias(scope, dims, eps)?;
        norm.bias = Some(scope.param("bias", norm.dims.clone())?);
        Ok(norm)
    }

    /// `weight` of shape `dims`.
    pub fn no_bias(scope: &Scope, dims: impl Into<Shape>, eps: f64) -> Result<Self> {
        let dims = dims.into();
        let weight = scope.param("weight", dims.clone())?;
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new(Some(weight), None, dims, eps)
        })
    }

    /// Over handles of shape `dims`, both of which may be absent.
    pub fn new(
        weight: Option<Param>,
        bias: Option<Param>,
        dims: impl Into<Shape>,
        eps: f64,
    ) -> Self {
        Self {
            weight,
            bias,
            dims: dims.into(),
            eps,
            path: None,
        }
    }

    /// `[…, dims]` to the same shape.
    ///
    /// Statistics, scale and shift run in f32 (f64 for f64) and are rounded once.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        finish(self.path.as_ref(), self.normalise(x), p)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        let dims = self.dims.dims();
        if !x.dims().ends_with(dims) {
            let text = format!(
                "layer_norm: the input is {:?}, expected […, {dims:?}]",
                x.dims()
            );
            return Err(Error::msg(text));
        }
        let (weight, bias) = (tensor_of(&self.weight)?, tensor_of(&self.bias)?);
        ops::layer_norm(x, dims.len(), weight.as_ref(), bias.as_ref(), self.eps)
    }
}

/// Divides by the root of the mean square over the last dimension, then scales.
///
/// PyTorch models differ in where half-precision values are rounded; see the constructors.
///
/// ```
/// use pycandle::{Device, NoProbe, Param, RmsNorm, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let weight = Param::from_tensor("weight", Tensor::new(&[1f32, 2.], &Device::Cpu)?);
/// let norm = RmsNorm::new(weight, 0.0);
/// let y = norm.forward(&Tensor::new(&[[2f32, 2.]], &Device::Cpu)?, &mut NoProbe)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1., 2.]]);
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, RmsNorm};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("norm.weight", zeros(&[2])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let of_llama = RmsNorm::load(&scope.pp("norm"), 2, 1e-5)?;
/// let of_gemma = RmsNorm::unit_offset(&scope.pp("norm"), 2, 1e-5)?;
/// let of_torch = RmsNorm::f32_scale(&scope.pp("norm"), 2, 1e-5)?;
/// // Over a handle:
/// let weight = scope.param("norm.weight", 2)?;
/// let of_gemma = RmsNorm::new_unit_offset(weight.clone(), 1e-5);
/// let of_torch = RmsNorm::new_f32_scale(weight, 1e-5);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Param,
    eps: f64,
    scale: Scale,
    path: Option<Path>,
}

/// Where an RMS normalisation scales and rounds.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// Rounds to the model dtype, then multiplies by the weight in it.
    Rounded,
    /// Multiplies by the weight in f32, then rounds.
    Wide,
    /// Multiplies by 1 + weight in f32, then rounds.
    UnitOffset,
}

impl RmsNorm {
    /// `weight` `[dim]`; normalised in f32, rounded to the model dtype, then scaled in it (Llama).
    pub fn load(scope: &Scope, dim: usize, eps: f64) -> Result<Self> {
        Self::load_as(scope, dim, eps, Scale::Rounded)
    }

    /// `weight` `[dim]`; normalised and scaled by `1 + weight` in f32, then rounded (Gemma).
    pub fn unit_offset(scope: &Scope, dim: usize, eps: f64) -> Result<Self> {
        Self::load_as(scope, dim, eps, Scale::UnitOffset)
    }

    /// `weight` `[dim]`; normalised and scaled in f32, then rounded (`aten.rms_norm`).
    pub fn f32_scale(scope: &Scope, dim: usize, eps: f64) -> Result<Self> {
        Self::load_as(scope, dim, eps, Scale::Wide)
    }

    /// Over a handle, scaling as [`RmsNorm::load`] does.
    pub fn new(weight: Param, eps: f64) -> Self {
        Self::new_as(weight, eps, Scale::Rounded)
    }

    /// Over a handle, scaling as [`RmsNorm::unit_offset`] does.
    pub fn new_unit_offset(weight: Param, eps: f64) -> Self {
        Self::new_as(weight, eps, Scale::UnitOffset)
    }

    /// Over a handle, scaling as [`RmsNorm::f32_scale`] does.
    pub fn new_f32_scale(weight: Param, eps: f64) -> Self {
        Self::new_as(weight, eps, Scale::Wide)
    }

    fn load_as(scope: &Scope, dim: usize, eps: f64, scale: Scale) -> Result<Self> {
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new_as(scope.param("weight", dim)?, eps, scale)
        })
    }

    fn new_as(weight: Param, eps: f64, scale: Scale) -> Self {
        Self {
            weight,
            eps,
            scale,
            path: None,
        }
    }

    /// `[…, dim]` to the same shape.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        finish(self.path.as_ref(), self.normalise(x), p)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.tensor()?;
        match self.scale {
            Scale::Rounded => ops::rms_norm_rounded(x, &weight, self.eps),
            Scale::Wide => ops::rms_norm(x, Some(&weight), self.eps),
            Scale::UnitOffset => ops::rms_norm_unit_offset(x, &weight, self.eps),
        }
    }
}

/// Normalises every channel by stored statistics (`aten.batch_norm` in inference).
///
/// ```
/// # use pycandle::{BatchNorm, DType, Device, NoProbe, Tensor, Weights};
/// # fn main() -> pycandle::Result<()> {
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
/// # let names = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
/// # candle_core::safetensors::save(&names.map(|name| (name, one.clone())).into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let norm = BatchNorm::load(&scope.pp("bn"), 1, 0.0)?; // here mean, variance, scale, shift are 1
/// let x = Tensor::new(&[[[3f32, 4.]]], &Device::Cpu)?;
/// let y = norm.forward(&x, &mut NoProbe)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3., 4.]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    mean: Param,
    var: Param,
    eps: f64,
    path: Option<Path>,
}

impl BatchNorm {
    /// `weight`, `bias`, `running_mean` and `running_var`, all `[channels]`.
    pub fn load(scope: &Scope, channels: usize, eps: f64) -> Result<Self> {
        let param = |name| scope.param(name, channels);
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new(
                Some(param("weight")?),
                Some(param("bias")?),
                param("running_mean")?,
                param("running_var")?,
                eps,
            )
        })
    }

    /// Over handles, all `[channels]`; scale and shift may be absent.
    pub fn new(
        weight: Option<Param>,
        bias: Option<Param>,
        mean: Param,
        var: Param,
        eps: f64,
    ) -> Self {
        Self {
            weight,
            bias,
            mean,
            var,
            eps,
            path: None,
        }
    }

    /// `[batch, channels, …]` to the same shape, computed in f32 (f64 for f64) and rounded once.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        finish(self.path.as_ref(), self.normalise(x), p)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        let (mean, var) = (self.mean.tensor()?, self.var.tensor()?);
        let (weight, bias) = (tensor_of(&self.weight)?, tensor_of(&self.bias)?);
        ops::batch_norm(x, &mean, &var, weight.as_ref(), bias.as_ref(), self.eps)
    }
}

/// Normalises groups of channels of each sample (`aten.group_norm`).
///
/// ```
/// # use pycandle::{GroupNorm, Device, NoProbe, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let norm = GroupNorm::new(None, None, 2, 2, 0.0);
/// let x = Tensor::new(&[[[1f32, 3.], [10., 30.]]], &Device::Cpu)?;
/// let y = norm.forward(&x, &mut NoProbe)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[-1., 1.], [-1., 1.]]]);
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, GroupNorm};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("norm.weight", zeros(&[4])?), ("norm.bias", zeros(&[4])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let norm = GroupNorm::load(&scope.pp("norm"), 2, 4, 1e-5)?;
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    groups: usize,
    channels: usize,
    eps: f64,
    path: Option<Path>,
}

impl GroupNorm {
    /// `weight` and `bias` `[channels]`.
    pub fn load(scope: &Scope, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        let weight = Some(scope.param("weight", channels)?);
        let bias = Some(scope.param("bias", channels)?);
        Ok(Self {
            path: Some(scope.path()),
            ..Self::new(weight, bias, groups, channels, eps)
        })
    }

    /// Over handles `[channels]`, both of which may be absent.
    pub fn new(
        weight: Option<Param>,
        bias: Option<Param>,
        groups: usize,
        channels: usize,
        eps: f64,
    ) -> Self {
        Self {
            weight,
            bias,
            groups,
            channels,
            eps,
            path: None,
        }
    }

    /// `[batch, channels, …]` to the same shape, computed in f32 (f64 for f64) and rounded once.
    pub fn forward(&self, x: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        finish(self.path.as_ref(), self.normalise(x), p)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        let (channels, groups) = (self.channels, self.groups);
        if x.rank() < 2 || x.dims()[1] != channels {
            let text = format!(
                "group_norm: the input is {:?}, expected [batch, {channels}, …]",
                x.dims()
            );
            return Err(Error::msg(text));
        }
        let (weight, bias) = (tensor_of(&self.weight)?, tensor_of(&self.bias)?);
        ops::group_norm(x, groups, weight.as_ref(), bias.as_ref(), self.eps)
    }
}
