//! Normalisations, one pass over each row, computed in `f32` (`f64` for `F64`).

use candle_core::{DType, Tensor};

use super::Result;
use super::cast::to_dtype;
use super::elementwise::{add, mul, sub};
use super::functions::rsqrt;
use super::isa::{Isa, Kernel, dispatch};
use super::map::chunks;
use super::memory::{Narrow, fail, on_cpu, read, tensor, to_f32, with_narrow, written};
use super::reduce::{mean, var};
use super::scalar::add_scalar;
use super::vmath;

/// What happens to a row: how it is centred, scaled and rounded.
struct Plan {
    len: usize,
    eps: f32,
    centre: bool,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    /// Round to the dtype between normalising and scaling.
    round_first: bool,
    /// The parameters repeat per row within this many rows (for groups of channels), each value
    /// covering `spread` elements.
    spread: Option<Spread>,
}

/// Per-channel parameters of rows that hold several channels each.
#[derive(Clone, Copy)]
struct Spread {
    channels_per_row: usize,
    rows: usize,
}

struct Rows<'a, T> {
    data: &'a [T],
    out: &'a mut [T],
    first: usize,
    plan: &'a Plan,
}

impl<T: Narrow> Kernel for Rows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let plan = self.plan;
        let mut wide = vec![0.0f32; plan.len];
        let mut buffer = vec![0.0f32; plan.len];
        let rows = self.data.chunks_exact(plan.len);
        for (i, (row, out)) in rows.zip(self.out.chunks_exact_mut(plan.len)).enumerate() {
            let row = T::load(row, &mut wide);
            normalise::<S>(row, &mut buffer, plan);
            if plan.round_first {
                for v in buffer.iter_mut() {
                    *v = T::nearest(*v).wide();
                }
            }
            scale::<S>(&mut buffer, plan, self.first + i);
            T::store(&buffer, out);
        }
    }
}

#[inline(always)]
fn normalise<S: Isa>(row: &[f32], out: &mut [f32], plan: &Plan) {
    let count = plan.len as f32;
    if plan.centre {
        let mean = vmath::sum(row) / count;
        for (to, &v) in out.iter_mut().zip(row) {
            *to = v - mean;
        }
        let scale = 1.0 / (vmath::dot::<S>(out, out) / count + plan.eps).sqrt();
        for v in out.iter_mut() {
            *v *= scale;
        }
    } else {
        let scale = 1.0 / (vmath::dot::<S>(row, row) / count + plan.eps).sqrt();
        for (to, &v) in out.iter_mut().zip(row) {
            *to = v * scale;
        }
    }
}

#[inline(always)]
fn scale<S: Isa>(row: &mut [f32], plan: &Plan, index: usize) {
    if let Some(Spread {
        channels_per_row,
        rows,
    }) = plan.spread
    {
        let first = index % rows * channels_per_row;
        let width = row.len() / channels_per_row;
        for (c, row) in row.chunks_exact_mut(width.max(1)).enumerate() {
            let weight = plan.weight.as_ref().map_or(1.0, |w| w[first + c]);
            let bias = plan.bias.as_ref().map_or(0.0, |b| b[first + c]);
            for v in row {
                *v = S::fma(*v, weight, bias);
            }
        }
        return;
    }
    match (&plan.weight, &plan.bias) {
        (Some(weight), Some(bias)) => {
            for ((v, &w), &b) in row.iter_mut().zip(weight).zip(bias) {
                *v = S::fma(*v, w, b);
            }
        }
        (Some(weight), None) => {
            for (v, &w) in row.iter_mut().zip(weight) {
                *v *= w;
            }
        }
        (None, Some(bias)) => {
            for (v, &b) in row.iter_mut().zip(bias) {
                *v += b;
            }
        }
        (None, None) => {}
    }
}

fn run<T: Narrow>(x: &Tensor, plan: &Plan) -> Result<Tensor> {
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            let rows = (8 * 1024 / plan.len.max(1)).max(1);
            chunks(out, (rows * plan.len).max(1), &|start, out: &mut [T]| {
                dispatch(Rows {
                    data: &data[start..start + out.len()],
                    out,
                    first: start / plan.len.max(1),
                    plan,
                });
            });
        });
        tensor(out, x.dims())
    })
}

/// A parameter as `f32`, after checking its number of elements.
fn parameter(op: &str, name: &str, x: Option<&Tensor>, len: usize) -> Result<Option<Vec<f32>>> {
    let Some(x) = x else {
        return Ok(None);
    };
    if x.elem_count() != len {
        fail!("{op}: {name} of shape {:?} for {len} elements", x.dims());
    }
    Ok(Some(to_f32(&x.to_dtype(narrow_dtype(x.dtype()))?)?))
}

fn narrow_dtype(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) {
        dtype
    } else {
        DType::F32
    }
}

/// The product of the last `count` dimensions.
fn tail(op: &str, x: &Tensor, count: usize) -> Result<usize> {
    match x.rank().checked_sub(count) {
        Some(first) if count > 0 => Ok(x.dims()[first..].iter().product()),
        _ => fail!("{op}: the last {count} dimensions of shape {:?}", x.dims()),
    }
}

/// Centres and scales the last `normalized_ndim` dimensions to mean 0 and variance 1, then applies
/// the optional weight and bias of their shape. (`aten.native_layer_norm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 3.], [-5., 5.]], &Device::Cpu)?;
/// let y = ops::layer_norm(&x, 1, None, None, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1., 1.], [-1., 1.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn layer_norm(
    x: &Tensor,
    normalized_ndim: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let len = tail("layer_norm", x, normalized_ndim)?;
    if x.dtype() == DType::F64 {
        let dims: Vec<usize> = (x.rank() - normalized_ndim..x.rank()).collect();
        let scale = rsqrt(&add_scalar(&var(x, &dims, 0.0, true)?, eps)?)?;
        let mut y = mul(&sub(x, &mean(x, &dims, true)?)?, &scale)?;
        if let Some(weight) = weight {
            y = mul(&y, weight)?;
        }
        return match bias {
            Some(bias) => add(&y, bias),
            None => Ok(y),
        };
    }
    on_devices("layer_norm", x, weight, bias, |x, weight, bias| {
        let plan = Plan {
            len,
            eps: eps as f32,
            centre: true,
            weight: parameter("layer_norm", "weight", weight, len)?,
            bias: parameter("layer_norm", "bias", bias, len)?,
            round_first: false,
            spread: None,
        };
        with_narrow!(x.dtype(), "layer_norm", T => run::<T>(x, &plan))
    })
}

fn on_devices(
    op: &str,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    f: impl FnOnce(&Tensor, Option<&Tensor>, Option<&Tensor>) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut inputs = vec![x];
    inputs.extend(weight);
    inputs.extend(bias);
    on_cpu(&inputs, |inputs| match (inputs, weight, bias) {
        ([x], ..) => f(x, None, None),
        ([x, w], Some(_), _) => f(x, Some(w), None),
        ([x, b], None, _) => f(x, None, Some(b)),
        ([x, w, b], ..) => f(x, Some(w), Some(b)),
        _ => fail!("{op}: no input"),
    })
}

/// Scales the last dimension to a mean square of 1 and multiplies by the optional weight, all in
/// `f32`, rounded once. (`torch.nn.RMSNorm`, `aten.rms_norm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[3f32, -3.]], &Device::Cpu)?;
/// assert_eq!(ops::rms_norm(&x, None, 0.0)?.to_vec2::<f32>()?, [[1., -1.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rms_norm(x: &Tensor, weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    rms("rms_norm", x, weight, eps, Rounding::Once, 0.0)
}

/// Scales the last dimension to a mean square of 1 in `f32`, rounds to the dtype of `x`, then
/// multiplies by the weight: as the modelling code of Llama and its relatives does.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[3f32, -3.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[1f32, 5.], &Device::Cpu)?;
/// assert_eq!(ops::rms_norm_rounded(&x, &weight, 0.0)?.to_vec2::<f32>()?, [[1., -5.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rms_norm_rounded(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    rms(
        "rms_norm_rounded",
        x,
        Some(weight),
        eps,
        Rounding::BeforeWeight,
        0.0,
    )
}

/// [`rms_norm`] by a weight that is stored less 1: as the modelling code of Gemma does.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[3f32, -3.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[0f32, 4.], &Device::Cpu)?;
/// let y = ops::rms_norm_unit_offset(&x, &weight, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1., -5.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rms_norm_unit_offset(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    rms(
        "rms_norm_unit_offset",
        x,
        Some(weight),
        eps,
        Rounding::Once,
        1.0,
    )
}

#[derive(PartialEq)]
enum Rounding {
    Once,
    BeforeWeight,
}

fn rms(
    op: &str,
    x: &Tensor,
    weight: Option<&Tensor>,
    eps: f64,
    rounding: Rounding,
    offset: f64,
) -> Result<Tensor> {
    let len = tail(op, x, 1)?;
    if x.dtype() == DType::F64 {
        let last = x.rank() - 1;
        let scale = rsqrt(&add_scalar(&mean(&mul(x, x)?, &[last], true)?, eps)?)?;
        let y = mul(x, &scale)?;
        return match weight {
            Some(weight) => mul(&y, &add_scalar(weight, offset)?),
            None => Ok(y),
        };
    }
    on_devices(op, x, weight, None, |x, weight, _| {
        let mut weight = parameter(op, "weight", weight, len)?;
        if offset != 0.0 {
            weight
                .iter_mut()
                .flatten()
                .for_each(|w| *w += offset as f32);
        }
        let plan = Plan {
            len,
            eps: eps as f32,
            centre: false,
            weight,
            bias: None,
            round_first: rounding == Rounding::BeforeWeight && x.dtype() != DType::F32,
            spread: None,
        };
        with_narrow!(x.dtype(), op, T => run::<T>(x, &plan))
    })
}

/// Normalises each of `groups` groups of the channels (dimension 1) to mean 0 and variance 1, then
/// applies the per-channel weight and bias. (`aten.native_group_norm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 3.], [-5., 5.]]], &Device::Cpu)?;
/// let y = ops::group_norm(&x, 2, None, None, 0.0)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[-1., 1.], [-1., 1.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let channels = match x.dims() {
        [_, channels, ..] if groups > 0 && channels % groups == 0 => *channels,
        other => fail!("group_norm: {groups} groups of channels of shape {other:?}"),
    };
    if x.dtype() == DType::F64 {
        return group_norm_f64(x, groups, weight, bias, eps);
    }
    let len = x.dims()[1..].iter().product::<usize>() / groups;
    on_devices("group_norm", x, weight, bias, |x, weight, bias| {
        let plan = Plan {
            len,
            eps: eps as f32,
            centre: true,
            weight: parameter("group_norm", "weight", weight, channels)?,
            bias: parameter("group_norm", "bias", bias, channels)?,
            round_first: false,
            spread: Some(Spread {
                channels_per_row: channels / groups,
                rows: groups,
            }),
        };
        with_narrow!(x.dtype(), "group_norm", T => run::<T>(x, &plan))
    })
}

fn group_norm_f64(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let rows = x.reshape((x.dims()[0], groups, ()))?;
    let mut y = layer_norm(&rows, 1, None, None, eps)?.reshape(x.shape())?;
    if let Some(weight) = weight {
        y = mul(&y, &per_channel(weight, x.rank())?)?;
    }
    match bias {
        Some(bias) => add(&y, &per_channel(bias, x.rank())?),
        None => Ok(y),
    }
}

/// `[channels]` as `[channels, 1, ..]`, to broadcast against `[batch, channels, ..]`.
fn per_channel(x: &Tensor, rank: usize) -> Result<Tensor> {
    let mut shape = vec![1; rank.saturating_sub(1).max(1)];
    shape[0] = x.elem_count();
    Ok(x.reshape(shape)?)
}

/// Normalises the channels (dimension 1) by recorded statistics, each `[channels]`, then applies
/// the weight and bias. (`aten._native_batch_norm_legit_no_training`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 3.], [-5., 5.]]], &Device::Cpu)?;
/// let mean = Tensor::new(&[1f32, 0.], &Device::Cpu)?;
/// let var = Tensor::new(&[4f32, 25.], &Device::Cpu)?;
/// let y = ops::batch_norm(&x, &mean, &var, None, None, 0.0)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[0., 1.], [-1., 1.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn batch_norm(
    x: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    if x.rank() < 2 {
        fail!(
            "batch_norm: expected [batch, channels, ..], got {:?}",
            x.dims()
        );
    }
    // Folded into one multiplication and addition per element, in at least single precision.
    let dtype = x.dtype();
    let wide = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let widen = |t: &Tensor| to_dtype(t, wide);
    let mut scale = rsqrt(&add_scalar(&widen(running_var)?, eps)?)?;
    if let Some(weight) = weight {
        scale = mul(&scale, &widen(weight)?)?;
    }
    let mut shift = super::functions::neg(&mul(&widen(running_mean)?, &scale)?)?;
    if let Some(bias) = bias {
        shift = add(&shift, &widen(bias)?)?;
    }
    let scaled = mul(&widen(x)?, &per_channel(&scale, x.rank())?)?;
    to_dtype(&add(&scaled, &per_channel(&shift, x.rank())?)?, dtype)
}

/// Divides by the norm along a dimension, which is at least `eps`. (`torch.nn.functional.normalize`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, 4.], &Device::Cpu)?;
/// assert_eq!(ops::normalize(&x, 2.0, 0, 1e-12)?.to_vec1::<f32>()?, [0.6, 0.8]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn normalize(x: &Tensor, ord: f64, dim: usize, eps: f64) -> Result<Tensor> {
    let norm = super::reduce::vector_norm(x, ord, &[dim], true)?;
    super::elementwise::div(x, &super::functions::clamp(&norm, Some(eps), None)?)
}
