//! Functions composed of others, rounded once in half types.

use candle_core::{DType, Tensor};

use super::Result;
use super::cast::to_dtype;
use super::compare::{lt_scalar, where_};
use super::elementwise::{add, div, mul, sub};
use super::functions::{abs, round};
use super::map::scalar_map;
use super::memory::{is_half, on_cpu};
use super::scalar::{div_scalar, mul_scalar, rsub_scalar};

/// `start + weight * (end - start)`, element by element; half types in `f32`, rounded once.
/// (`aten.lerp.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[0f32, 4.], &Device::Cpu)?;
/// let b = Tensor::new(&[8f32, 8.], &Device::Cpu)?;
/// assert_eq!(ops::lerp(&a, &b, 0.25)?.to_vec1::<f32>()?, [2., 5.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn lerp(start: &Tensor, end: &Tensor, weight: f64) -> Result<Tensor> {
    widened([start, end], |[start, end]| {
        let span = sub(end, start)?;
        if weight.abs() < 0.5 {
            add(start, &mul_scalar(&span, weight)?)
        } else {
            sub(end, &mul_scalar(&span, 1.0 - weight)?)
        }
    })
}

/// [`lerp`] with a weight of its own for each element. (`aten.lerp.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[0f32, 4.], &Device::Cpu)?;
/// let b = Tensor::new(&[8f32, 8.], &Device::Cpu)?;
/// let weight = Tensor::new(&[0.25f32, 0.5], &Device::Cpu)?;
/// assert_eq!(ops::lerp_tensor(&a, &b, &weight)?.to_vec1::<f32>()?, [2., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn lerp_tensor(start: &Tensor, end: &Tensor, weight: &Tensor) -> Result<Tensor> {
    widened([start, end, weight], |[start, end, weight]| {
        let span = sub(end, start)?;
        let near = add(start, &mul(&span, weight)?)?;
        let far = sub(end, &mul(&span, &rsub_scalar(weight, 1.0)?)?)?;
        where_(&lt_scalar(&abs(weight)?, 0.5)?, &near, &far)
    })
}

/// The nearest number with so many decimals, halves to the even one; before the point where they
/// are negative. Half types in `f32`, rounded once. (`aten.round.decimals`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1.26f32, 27.5], &Device::Cpu)?;
/// assert_eq!(ops::round_decimals(&x, 1)?.to_vec1::<f32>()?, [1.3, 27.5]);
/// assert_eq!(ops::round_decimals(&x, -1)?.to_vec1::<f32>()?, [0., 30.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn round_decimals(x: &Tensor, decimals: i32) -> Result<Tensor> {
    let scale = 10f64.powi(decimals.saturating_abs());
    widened([x], |[x]| match decimals {
        0.. => div_scalar(&round(&mul_scalar(x, scale)?)?, scale),
        _ => mul_scalar(&round(&div_scalar(x, scale)?)?, scale),
    })
}

/// A composition on half types computed in `f32`, so that it is rounded once.
pub(super) fn widened<const N: usize>(
    x: [&Tensor; N],
    f: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> Result<Tensor> {
    let dtype = x[0].dtype();
    if !is_half(dtype) || x.iter().any(|x| x.dtype() != dtype) {
        return f(x);
    }
    let wide = x.iter().map(|x| to_dtype(x, DType::F32));
    let wide = wide.collect::<Result<Vec<_>>>()?;
    to_dtype(&f(std::array::from_fn(|i| &wide[i]))?, dtype)
}

/// `input + value * a * b`; half types in `f32`, rounded once. (`aten.addcmul`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 1.], &Device::Cpu)?;
/// let a = Tensor::new(&[2f32, 3.], &Device::Cpu)?;
/// assert_eq!(ops::addcmul(&x, &a, &a, 0.5)?.to_vec1::<f32>()?, [3., 5.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn addcmul(input: &Tensor, a: &Tensor, b: &Tensor, value: f64) -> Result<Tensor> {
    widened([input, a, b], |[input, a, b]| {
        add(input, &mul(&mul_scalar(a, value)?, b)?)
    })
}

/// `input + value * a / b`; half types in `f32`, rounded once. (`aten.addcdiv`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 1.], &Device::Cpu)?;
/// let a = Tensor::new(&[6f32, 3.], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::addcdiv(&x, &a, &b, 0.5)?.to_vec1::<f32>()?, [2., 1.75]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn addcdiv(input: &Tensor, a: &Tensor, b: &Tensor, value: f64) -> Result<Tensor> {
    widened([input, a, b], |[input, a, b]| {
        add(input, &div(&mul_scalar(a, value)?, b)?)
    })
}

/// Replaces NaN and the infinities by numbers; an infinity for which none is given by the largest
/// (smallest) number of the dtype. (`aten.nan_to_num`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[f32::NAN, f32::INFINITY, 1.], &Device::Cpu)?;
/// assert_eq!(ops::nan_to_num(&x, 0.0, Some(9.0), None)?.to_vec1::<f32>()?, [0., 9., 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn nan_to_num(x: &Tensor, nan: f64, up: Option<f64>, down: Option<f64>) -> Result<Tensor> {
    let largest = match x.dtype() {
        DType::F64 => f64::MAX,
        DType::F32 => f64::from(f32::MAX),
        DType::BF16 => half::bf16::MAX.to_f64(),
        DType::F16 => half::f16::MAX.to_f64(),
        _ => return Ok(x.clone()),
    };
    let (up, down) = (up.unwrap_or(largest), down.unwrap_or(-largest));
    let pick = move |v: f64| match v {
        v if v.is_nan() => nan,
        f64::INFINITY => up,
        f64::NEG_INFINITY => down,
        v => v,
    };
    on_cpu(&[x], |inputs| {
        if inputs[0].dtype() == DType::F64 {
            return scalar_map("nan_to_num", inputs[0], |v| v, pick);
        }
        scalar_map("nan_to_num", inputs[0], |v| pick(f64::from(v)) as f32, pick)
    })
}
