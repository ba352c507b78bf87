//! Arithmetic of two tensors, element by element.

use candle_core::Tensor;

use super::Result;
use super::composed::widened;
use super::functions::trunc;
use super::isa::Isa;
use super::map::{Map2, binary, scalar_binary};
use super::memory::{fail, is_float, to_i64};

/// Declares `Map2` types: their value on `f32`, `f64` and integers.
macro_rules! map2 {
    ($($map:ident $name:literal: |$a:ident, $b:ident| $float:expr, $int:expr;)*) => {$(
        #[derive(Clone, Copy)]
        pub(super) struct $map;
        impl Map2 for $map {
            const NAME: &'static str = $name;
            #[inline(always)]
            fn f32<S: Isa>(self, $a: f32, $b: f32) -> f32 { $float }
            fn f64(self, $a: f64, $b: f64) -> f64 { $float }
            #[allow(unused_variables)]
            fn int(self, $a: i64, $b: i64) -> i64 { $int }
        }
    )*};
}

map2! {
    Add "add": |a, b| a + b, a.wrapping_add(b);
    Sub "sub": |a, b| a - b, a.wrapping_sub(b);
    Mul "mul": |a, b| a * b, a.wrapping_mul(b);
    Div "div": |a, b| a / b, a.checked_div(b).unwrap_or(0);
    Maximum "maximum": |a, b| if a.is_nan() || a > b { a } else { b }, a.max(b);
    Minimum "minimum": |a, b| if a.is_nan() || a < b { a } else { b }, a.min(b);
}

/// `a + b`. Integers wrap. (`aten.add.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 4.], &Device::Cpu)?;
/// assert_eq!(ops::add(&a, &b)?.to_vec1::<f32>()?, [4., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Add)
}

/// `a - b`. Integers wrap. (`aten.sub.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 5.], &Device::Cpu)?;
/// assert_eq!(ops::sub(&a, &b)?.to_vec1::<f32>()?, [-2., -3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sub(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Sub)
}

/// `a * b`. Integers wrap. (`aten.mul.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[2f32, 3.], &Device::Cpu)?;
/// let b = Tensor::new(&[4f32, 5.], &Device::Cpu)?;
/// assert_eq!(ops::mul(&a, &b)?.to_vec1::<f32>()?, [8., 15.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Mul)
}

/// `a / b`, true division: integer tensors are an error, to be cast first. (`aten.div.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, 0.], &Device::Cpu)?;
/// let b = Tensor::new(&[4f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::div(&a, &b)?.to_vec1::<f32>()?, [0.25, 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn div(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    float_only("div", a)?;
    binary(a, b, Div)
}

/// `a / b` rounded down; an integer division by zero is an error. (`aten.floor_divide`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[7i64, -7], &Device::Cpu)?;
/// let b = Tensor::new(&[2i64, 2], &Device::Cpu)?;
/// assert_eq!(ops::floor_divide(&a, &b)?.to_vec1::<i64>()?, [3, -4]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn floor_divide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor("floor_divide", b)?;
    scalar_binary(
        "floor_divide",
        a,
        b,
        floor_quotient_f32,
        floor_quotient_f64,
        floor_quotient_int,
    )
}

/// `a / b` rounded towards zero; an integer division by zero is an error.
/// (`aten.div.Tensor_mode` with `trunc`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[7i64, -7], &Device::Cpu)?;
/// let b = Tensor::new(&[2i64, 2], &Device::Cpu)?;
/// assert_eq!(ops::trunc_divide(&a, &b)?.to_vec1::<i64>()?, [3, -3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn trunc_divide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor("trunc_divide", b)?;
    if is_float(a.dtype()) {
        return widened([a, b], |[a, b]| trunc(&binary(a, b, Div)?));
    }
    binary(a, b, Div)
}

/// The remainder with the sign of `b`; integers by zero are an error. (`aten.remainder.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[7i64, -7], &Device::Cpu)?;
/// let b = Tensor::new(&[3i64, 3], &Device::Cpu)?;
/// assert_eq!(ops::remainder(&a, &b)?.to_vec1::<i64>()?, [1, 2]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn remainder(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor("remainder", b)?;
    scalar_binary(
        "remainder",
        a,
        b,
        remainder_f32,
        remainder_f64,
        remainder_int,
    )
}

/// The remainder with the sign of `a`; integers by zero are an error. (`aten.fmod.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[7i64, -7], &Device::Cpu)?;
/// let b = Tensor::new(&[3i64, 3], &Device::Cpu)?;
/// assert_eq!(ops::fmod(&a, &b)?.to_vec1::<i64>()?, [1, -1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn fmod(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor("fmod", b)?;
    scalar_binary("fmod", a, b, |a, b| a % b, |a, b| a % b, i64::wrapping_rem)
}

/// `a` to the power `b`; integers wrap, and negative powers of them are 0 except for a base of 1 or
/// -1. (`aten.pow.Tensor_Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[2f32, 9.], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 0.5], &Device::Cpu)?;
/// assert_eq!(ops::pow(&a, &b)?.to_vec1::<f32>()?, [8., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pow(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    scalar_binary("pow", a, b, f32::powf, f64::powf, int_pow)
}

/// The angle of the point (`b`, `a`), in radians. (`aten.atan2`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[0f32, 0.], &Device::Cpu)?;
/// let b = Tensor::new(&[1f32, -1.], &Device::Cpu)?;
/// assert_eq!(ops::atan2(&a, &b)?.to_vec1::<f32>()?, [0., std::f32::consts::PI]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn atan2(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    float_only("atan2", a)?;
    scalar_binary("atan2", a, b, f32::atan2, f64::atan2, |_, _| 0)
}

/// The larger of both; NaN where either is. (`aten.maximum`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, 5.], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 4.], &Device::Cpu)?;
/// assert_eq!(ops::maximum(&a, &b)?.to_vec1::<f32>()?, [3., 5.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn maximum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Maximum)
}

/// The smaller of both; NaN where either is. (`aten.minimum`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, 5.], &Device::Cpu)?;
/// let b = Tensor::new(&[3f32, 4.], &Device::Cpu)?;
/// assert_eq!(ops::minimum(&a, &b)?.to_vec1::<f32>()?, [1., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn minimum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Minimum)
}

/// The quotient of what `fmod` leaves, one lower when the signs differ: PyTorch's steps.
macro_rules! floor_quotient {
    ($a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        if b == 0.0 {
            return a / b;
        }
        let left = a % b;
        let mut quotient = (a - left) / b;
        if left != 0.0 && (b < 0.0) != (left < 0.0) {
            quotient -= 1.0;
        }
        if quotient == 0.0 {
            return (a / b).signum() * 0.0;
        }
        let floor = quotient.floor();
        if quotient - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        }
    }};
}

fn floor_quotient_f32(a: f32, b: f32) -> f32 {
    floor_quotient!(a, b)
}

fn floor_quotient_f64(a: f64, b: f64) -> f64 {
    floor_quotient!(a, b)
}

/// Integer division rounded down, by other than zero.
pub(super) fn floor_quotient_int(a: i64, b: i64) -> i64 {
    let quotient = a.wrapping_div(b);
    let inexact = a.wrapping_rem(b) != 0;
    if inexact && (a < 0) != (b < 0) {
        quotient - 1
    } else {
        quotient
    }
}

/// The integer remainder with the sign of `b`, which is not zero.
pub(super) fn remainder_int(a: i64, b: i64) -> i64 {
    let left = a.wrapping_rem(b);
    if left != 0 && (left < 0) != (b < 0) {
        left + b
    } else {
        left
    }
}

fn remainder_f32(a: f32, b: f32) -> f32 {
    let left = a % b;
    if left != 0.0 && (b < 0.0) != (left < 0.0) {
        left + b
    } else {
        left
    }
}

fn remainder_f64(a: f64, b: f64) -> f64 {
    let left = a % b;
    if left != 0.0 && (b < 0.0) != (left < 0.0) {
        left + b
    } else {
        left
    }
}

pub(super) fn float_only(name: &str, x: &Tensor) -> Result<()> {
    if !is_float(x.dtype()) {
        fail!("{name}: expected floating point, got {:?}", x.dtype());
    }
    Ok(())
}

fn no_zero_divisor(name: &str, b: &Tensor) -> Result<()> {
    if !is_float(b.dtype()) && to_i64(b)?.contains(&0) {
        fail!("{name}: integer division by zero");
    }
    Ok(())
}

pub(super) fn int_pow(base: i64, exponent: i64) -> i64 {
    match (u32::try_from(exponent), base) {
        (Ok(exponent), _) => base.wrapping_pow(exponent),
        (Err(_), 1) => 1,
        (Err(_), -1) => {
            if exponent % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (Err(_), 0) => 0,
        // A power past u32::MAX of an even number has wrapped to zero; of an odd one, square.
        (Err(_), _) if exponent < 0 => 0,
        (Err(_), _) => {
            let (mut result, mut square, mut left) = (1i64, base, exponent);
            while left > 0 {
                if left & 1 == 1 {
                    result = result.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                left >>= 1;
            }
            result
        }
    }
}
