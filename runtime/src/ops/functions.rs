//! Elementary functions of one tensor, element by element.

use candle_core::Tensor;

use super::Result;
use super::isa::Isa;
use super::map::{Map1, int_map, scalar_map, unary};
use super::memory::is_float;
use super::vmath;

/// Declares `Map1` types: one expression for both widths, or `f32 => …, f64 => …`.
macro_rules! map1 {
    ($($map:ident: |$x:ident| $value:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $map;
        impl Map1 for $map {
            #[inline(always)]
            fn f32<S: Isa>(self, $x: f32) -> f32 { $value }
            fn f64(self, $x: f64) -> f64 { $value }
        }
    )*};
}

map1! {
    Neg: |x| -x;
    Abs: |x| x.abs();
    Sqrt: |x| x.sqrt();
    Rsqrt: |x| 1.0 / x.sqrt();
    Reciprocal: |x| 1.0 / x;
}

#[derive(Clone, Copy)]
struct Exp;
impl Map1 for Exp {
    #[inline(always)]
    fn f32<S: Isa>(self, x: f32) -> f32 {
        vmath::exp::<S>(x)
    }
    fn f64(self, x: f64) -> f64 {
        x.exp()
    }
}

#[derive(Clone, Copy)]
struct Tanh;
impl Map1 for Tanh {
    #[inline(always)]
    fn f32<S: Isa>(self, x: f32) -> f32 {
        vmath::tanh::<S>(x)
    }
    fn f64(self, x: f64) -> f64 {
        x.tanh()
    }
}

#[derive(Clone, Copy)]
struct Erf;
impl Map1 for Erf {
    #[inline(always)]
    fn f32<S: Isa>(self, x: f32) -> f32 {
        vmath::erf::<S>(x)
    }
    fn f64(self, x: f64) -> f64 {
        super::activation::erf_f64(x)
    }
}

/// `-x`, for floating point and integers. (`aten.neg`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, -2.], &Device::Cpu)?;
/// assert_eq!(ops::neg(&x)?.to_vec1::<f32>()?, [-1., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn neg(x: &Tensor) -> Result<Tensor> {
    if is_float(x.dtype()) {
        unary("neg", x, Neg)
    } else {
        int_map("neg", x, i64::wrapping_neg)
    }
}

/// `|x|`, for floating point and integers. (`aten.abs`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, -2.], &Device::Cpu)?;
/// assert_eq!(ops::abs(&x)?.to_vec1::<f32>()?, [1., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn abs(x: &Tensor) -> Result<Tensor> {
    if is_float(x.dtype()) {
        unary("abs", x, Abs)
    } else {
        int_map("abs", x, i64::wrapping_abs)
    }
}

/// -1, 0 or 1; 0 for NaN, as PyTorch has it. (`aten.sign`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, -2., 0.], &Device::Cpu)?;
/// assert_eq!(ops::sign(&x)?.to_vec1::<f32>()?, [1., -1., 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sign(x: &Tensor) -> Result<Tensor> {
    if !is_float(x.dtype()) {
        return int_map("sign", x, i64::signum);
    }
    let sign32 = |v: f32| f32::from(v > 0.0) - f32::from(v < 0.0);
    scalar_map("sign", x, sign32, |v| {
        f64::from(v > 0.0) - f64::from(v < 0.0)
    })
}

/// `e^x`. (`aten.exp`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, f32::NEG_INFINITY], &Device::Cpu)?;
/// assert_eq!(ops::exp(&x)?.to_vec1::<f32>()?, [1., 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn exp(x: &Tensor) -> Result<Tensor> {
    unary("exp", x, Exp)
}

/// `tanh x`. (`aten.tanh`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
/// assert_eq!(ops::tanh(&x)?.to_vec1::<f32>()?, [0., 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    unary("tanh", x, Tanh)
}

/// The error function. (`aten.erf`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
/// assert_eq!(ops::erf(&x)?.to_vec1::<f32>()?, [0., 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn erf(x: &Tensor) -> Result<Tensor> {
    unary("erf", x, Erf)
}

/// The square root; NaN below zero. (`aten.sqrt`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[4f32, 9.], &Device::Cpu)?;
/// assert_eq!(ops::sqrt(&x)?.to_vec1::<f32>()?, [2., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sqrt(x: &Tensor) -> Result<Tensor> {
    unary("sqrt", x, Sqrt)
}

/// `1 / sqrt x`. (`aten.rsqrt`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[4f32, 0.25], &Device::Cpu)?;
/// assert_eq!(ops::rsqrt(&x)?.to_vec1::<f32>()?, [0.5, 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rsqrt(x: &Tensor) -> Result<Tensor> {
    unary("rsqrt", x, Rsqrt)
}

/// `1 / x`. (`aten.reciprocal`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[4f32, 0.5], &Device::Cpu)?;
/// assert_eq!(ops::reciprocal(&x)?.to_vec1::<f32>()?, [0.25, 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn reciprocal(x: &Tensor) -> Result<Tensor> {
    unary("reciprocal", x, Reciprocal)
}

/// Declares public functions of the standard library's scalar functions.
macro_rules! scalar_functions {
    ($($(#[$doc:meta])* $name:ident: $function:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            scalar_map(stringify!($name), x, f32::$function, f64::$function)
        }
    )*};
}

scalar_functions! {
    /// `e^x - 1`, accurate near zero. (`aten.expm1`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::expm1(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    expm1: exp_m1;
    /// The natural logarithm. (`aten.log`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[1f32], &Device::Cpu)?;
    /// assert_eq!(ops::log(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    log: ln;
    /// `log(1 + x)`, accurate near zero. (`aten.log1p`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::log1p(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    log1p: ln_1p;
    /// The logarithm to base 2. (`aten.log2`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[8f32], &Device::Cpu)?;
    /// assert_eq!(ops::log2(&x)?.to_vec1::<f32>()?, [3.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    log2: log2;
    /// The logarithm to base 10. (`aten.log10`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[100f32], &Device::Cpu)?;
    /// assert_eq!(ops::log10(&x)?.to_vec1::<f32>()?, [2.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    log10: log10;
    /// The sine of an angle in radians. (`aten.sin`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::sin(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    sin: sin;
    /// The cosine of an angle in radians. (`aten.cos`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::cos(&x)?.to_vec1::<f32>()?, [1.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    cos: cos;
    /// The tangent of an angle in radians. (`aten.tan`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::tan(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    tan: tan;
    /// The hyperbolic sine. (`aten.sinh`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::sinh(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    sinh: sinh;
    /// The hyperbolic cosine. (`aten.cosh`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::cosh(&x)?.to_vec1::<f32>()?, [1.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    cosh: cosh;
    /// The angle, in radians, with this sine. (`aten.asin`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::asin(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    asin: asin;
    /// The number with this hyperbolic cosine. (`aten.acosh`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[1f32], &Device::Cpu)?;
    /// assert_eq!(ops::acosh(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    acosh: acosh;
    /// The number with this hyperbolic sine. (`aten.asinh`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::asinh(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    asinh: asinh;
    /// The number with this hyperbolic tangent. (`aten.atanh`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::atanh(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    atanh: atanh;
    /// The angle, in radians, with this cosine. (`aten.acos`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[1f32], &Device::Cpu)?;
    /// assert_eq!(ops::acos(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    acos: acos;
    /// The angle, in radians, with this tangent. (`aten.atan`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32], &Device::Cpu)?;
    /// assert_eq!(ops::atan(&x)?.to_vec1::<f32>()?, [0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    atan: atan;
}

/// Declares roundings, which leave integers as they are.
macro_rules! roundings {
    ($($(#[$doc:meta])* $name:ident: $function:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            if !is_float(x.dtype()) {
                return Ok(x.clone());
            }
            scalar_map(stringify!($name), x, f32::$function, f64::$function)
        }
    )*};
}

roundings! {
    /// The nearest integer below. (`aten.floor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[-1.5f32, 0.5, 2.5], &Device::Cpu)?;
    /// assert_eq!(ops::floor(&x)?.to_vec1::<f32>()?, [-2., 0., 2.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    floor: floor;
    /// The nearest integer above. (`aten.ceil`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[-1.5f32, 0.5, 2.5], &Device::Cpu)?;
    /// assert_eq!(ops::ceil(&x)?.to_vec1::<f32>()?, [-1., 1., 3.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    ceil: ceil;
    /// The nearest integer, halves to the even one. (`aten.round`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[-1.5f32, 0.5, 2.5], &Device::Cpu)?;
    /// assert_eq!(ops::round(&x)?.to_vec1::<f32>()?, [-2., 0., 2.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    round: round_ties_even;
    /// The integer part. (`aten.trunc`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[-1.5f32, 0.5, 2.5], &Device::Cpu)?;
    /// assert_eq!(ops::trunc(&x)?.to_vec1::<f32>()?, [-1., 0., 2.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    trunc: trunc;
}

/// The larger of `x` and a number, the smaller of it and another; NaN stays NaN, and the upper
/// bound wins. Integers take whole bounds. (`aten.clamp`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-3f32, 0.5, 3.], &Device::Cpu)?;
/// assert_eq!(ops::clamp(&x, Some(-1.0), None)?.to_vec1::<f32>()?, [-1., 0.5, 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn clamp(x: &Tensor, min: Option<f64>, max: Option<f64>) -> Result<Tensor> {
    if is_float(x.dtype()) {
        let low = min.unwrap_or(f64::NEG_INFINITY);
        let high = max.unwrap_or(f64::INFINITY);
        return unary("clamp", x, Clamp(low, high));
    }
    let low = min.map_or(i64::MIN, |v| v.ceil() as i64);
    let high = max.map_or(i64::MAX, |v| v.floor() as i64);
    int_map("clamp", x, |v| v.max(low).min(high))
}

/// `clamp` by two numbers. (`aten.hardtanh`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-3f32, 0.5, 3.], &Device::Cpu)?;
/// assert_eq!(ops::hardtanh(&x, -1.0, 1.0)?.to_vec1::<f32>()?, [-1., 0.5, 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn hardtanh(x: &Tensor, min: f64, max: f64) -> Result<Tensor> {
    clamp(x, Some(min), Some(max))
}

#[derive(Clone, Copy)]
struct Clamp(f64, f64);
impl Map1 for Clamp {
    #[inline(always)]
    fn f32<S: Isa>(self, x: f32) -> f32 {
        let (low, high) = (self.0 as f32, self.1 as f32);
        let x = if x < low { low } else { x };
        if x > high { high } else { x }
    }
    fn f64(self, x: f64) -> f64 {
        let x = if x < self.0 { self.0 } else { x };
        if x > self.1 { self.1 } else { x }
    }
}
