//! Functions that the standard library does not have, and pairs of numbers beyond arithmetic,
//! element by element. They are computed in double precision, of half types by way of `f32`.

use std::f64::consts::{LN_2, PI};

use candle_core::Tensor;

use super::Result;
use super::elementwise::float_only;
use super::map::{scalar_binary, scalar_map};

/// Declares public functions of one float tensor by their value on doubles.
macro_rules! on_doubles {
    ($($(#[$doc:meta])* $name:ident: $function:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            let double: fn(f64) -> f64 = $function;
            scalar_map(stringify!($name), x, |v| double(v.into()) as f32, double)
        }
    )*};
}

on_doubles! {
    /// `1 - erf x`, accurate where that is small. (`aten.erfc`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
    /// assert_eq!(ops::erfc(&x)?.to_vec1::<f32>()?, [1., 0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    erfc: candle_core::cpu::erf::erfc_f64;
    /// The number whose error function this is; NaN beyond -1 and 1. (`aten.erfinv`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 1.], &Device::Cpu)?;
    /// assert_eq!(ops::erfinv(&x)?.to_vec1::<f32>()?, [0., f32::INFINITY]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    erfinv: |x| match x.abs() {
        ..=1.0 => candle_core::cpu::erf::erf_inv(x),
        _ => f64::NAN,
    };
    /// `2^x`. (`aten.exp2`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[3f32, -1.], &Device::Cpu)?;
    /// assert_eq!(ops::exp2(&x)?.to_vec1::<f32>()?, [8., 0.5]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    exp2: f64::exp2;
    /// What is left behind the point, with the sign of `x`. (`aten.frac`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[1.5f32, -1.25], &Device::Cpu)?;
    /// assert_eq!(ops::frac(&x)?.to_vec1::<f32>()?, [0.5, -0.25]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    frac: f64::fract;
    /// The logarithm of the absolute value of the gamma function. (`aten.lgamma`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[1f32, 4.], &Device::Cpu)?;
    /// assert_eq!(ops::lgamma(&x)?.to_vec1::<f32>()?, [0., 6f32.ln()]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    lgamma: libm::lgamma;
    /// The derivative of [`lgamma`]. (`aten.digamma`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[1f64], &Device::Cpu)?;
    /// let euler = -ops::digamma(&x)?.to_vec1::<f64>()?[0];
    /// assert!((euler - 0.577_215_664_901_532_9).abs() < 1e-15);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    digamma: digamma_f64;
}

/// From here on the asymptotic series below is exact to a double.
const FAR: f64 = 10.0;

fn digamma_f64(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.0 {
        return match x == x.floor() {
            true => f64::NAN,
            false => digamma_f64(1.0 - x) - PI / (PI * x.fract()).tan(),
        };
    }
    let (mut far, mut sum) = (x, 0.0);
    while far < FAR {
        sum += 1.0 / far;
        far += 1.0;
    }
    let square = 1.0 / (far * far);
    let series = [
        1.0 / 12.0,
        -1.0 / 120.0,
        1.0 / 252.0,
        -1.0 / 240.0,
        1.0 / 132.0,
        -691.0 / 32_760.0,
        1.0 / 12.0,
    ];
    let series = series.iter().rev().fold(0.0, |sum, c| sum * square + c) * square;
    far.ln() - 0.5 / far - series - sum
}

/// Declares public functions of two float tensors by their value on doubles.
macro_rules! pairs_of_doubles {
    ($($(#[$doc:meta])* $name:ident: $function:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            float_only(stringify!($name), a)?;
            let single = |a: f32, b: f32| {
                let double: fn(f64, f64) -> f64 = $function;
                double(a.into(), b.into()) as f32
            };
            scalar_binary(stringify!($name), a, b, single, $function, |_, _| 0)
        }
    )*};
}

pairs_of_doubles! {
    /// The length of the hypotenuse over `a` and `b`. (`aten.hypot`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[3f32], &Device::Cpu)?;
    /// let b = Tensor::new(&[-4f32], &Device::Cpu)?;
    /// assert_eq!(ops::hypot(&a, &b)?.to_vec1::<f32>()?, [5.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    hypot: f64::hypot;
    /// `a` with the sign of `b`. (`aten.copysign.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[3f32], &Device::Cpu)?;
    /// let b = Tensor::new(&[-0f32], &Device::Cpu)?;
    /// assert_eq!(ops::copysign(&a, &b)?.to_vec1::<f32>()?, [-3.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    copysign: f64::copysign;
    /// `log(e^a + e^b)`, without overflow. (`aten.logaddexp`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[0f32, 900.], &Device::Cpu)?;
    /// let b = Tensor::new(&[0f32, 0.], &Device::Cpu)?;
    /// assert_eq!(ops::logaddexp(&a, &b)?.to_vec1::<f32>()?, [2f32.ln(), 900.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    logaddexp: log_add_exp;
    /// `log2(2^a + 2^b)`, without overflow. (`aten.logaddexp2`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[3f32, 900.], &Device::Cpu)?;
    /// let b = Tensor::new(&[3f32, 0.], &Device::Cpu)?;
    /// assert_eq!(ops::logaddexp2(&a, &b)?.to_vec1::<f32>()?, [4., 900.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    logaddexp2: |a, b| match a.is_infinite() && a == b {
        true => a,
        false => a.max(b) + (-(a - b).abs()).exp2().ln_1p() / LN_2,
    };
    /// `a log b`, and 0 where `a` is 0, unless `b` is NaN. (`aten.xlogy.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[0f32, 2.], &Device::Cpu)?;
    /// let b = Tensor::new(&[0f32, 1.], &Device::Cpu)?;
    /// assert_eq!(ops::xlogy(&a, &b)?.to_vec1::<f32>()?, [0., 0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    xlogy: |a, b| match a == 0.0 && !b.is_nan() {
        true => 0.0,
        false => a * b.ln(),
    };
}

pub(super) fn log_add_exp(a: f64, b: f64) -> f64 {
    match a.is_infinite() && a == b {
        true => a,
        // The difference carries a NaN, which the larger of both does not.
        false => a.max(b) + (-(a - b).abs()).exp().ln_1p(),
    }
}

/// The larger of both, or the one that is not NaN. (`aten.fmax`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, f32::NAN], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 4.], &Device::Cpu)?;
/// assert_eq!(ops::fmax(&a, &b)?.to_vec1::<f32>()?, [3., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn fmax(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    scalar_binary("fmax", a, b, f32::max, f64::max, i64::max)
}

/// The smaller of both, or the one that is not NaN. (`aten.fmin`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, f32::NAN], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 4.], &Device::Cpu)?;
/// assert_eq!(ops::fmin(&a, &b)?.to_vec1::<f32>()?, [1., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn fmin(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    scalar_binary("fmin", a, b, f32::min, f64::min, i64::min)
}
