//! Arithmetic and elementary functions, element by element.

use candle_core::Tensor;

use super::Result;
use super::composed::widened;
use super::isa::Isa;
use super::map::{Map1, Map2, binary, int_map, scalar_binary, scalar_map, unary};
use super::memory::{fail, is_float, to_i64};
use super::vmath;

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
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Add)
}

/// `a - b`. Integers wrap. (`aten.sub.Tensor`)
pub fn sub(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Sub)
}

/// `a * b`. Integers wrap. (`aten.mul.Tensor`)
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Mul)
}

/// `a / b`, true division: integer tensors are an error, to be cast first. (`aten.div.Tensor`)
pub fn div(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    float_only("div", a)?;
    binary(a, b, Div)
}

/// `a / b` rounded down; an integer division by zero is an error. (`aten.floor_divide`)
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
pub fn trunc_divide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor("trunc_divide", b)?;
    if is_float(a.dtype()) {
        return widened([a, b], |[a, b]| trunc(&binary(a, b, Div)?));
    }
    binary(a, b, Div)
}

/// The remainder with the sign of `b`; integers by zero are an error. (`aten.remainder.Tensor`)
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
pub fn fmod(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor("fmod", b)?;
    scalar_binary("fmod", a, b, |a, b| a % b, |a, b| a % b, i64::wrapping_rem)
}

/// `a` to the power `b`; integers wrap, and negative powers of them are 0 except for a base of 1 or
/// -1. (`aten.pow.Tensor_Tensor`)
pub fn pow(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    scalar_binary("pow", a, b, f32::powf, f64::powf, int_pow)
}

/// The angle of the point (`b`, `a`), in radians. (`aten.atan2`)
pub fn atan2(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    float_only("atan2", a)?;
    scalar_binary("atan2", a, b, f32::atan2, f64::atan2, |_, _| 0)
}

/// The larger of both; NaN where either is. (`aten.maximum`)
pub fn maximum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(a, b, Maximum)
}

/// The smaller of both; NaN where either is. (`aten.minimum`)
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

fn float_only(name: &str, x: &Tensor) -> Result<()> {
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
pub fn neg(x: &Tensor) -> Result<Tensor> {
    if is_float(x.dtype()) {
        unary("neg", x, Neg)
    } else {
        int_map("neg", x, i64::wrapping_neg)
    }
}

/// `|x|`, for floating point and integers. (`aten.abs`)
pub fn abs(x: &Tensor) -> Result<Tensor> {
    if is_float(x.dtype()) {
        unary("abs", x, Abs)
    } else {
        int_map("abs", x, i64::wrapping_abs)
    }
}

/// -1, 0 or 1; 0 for NaN, as PyTorch has it. (`aten.sign`)
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
pub fn exp(x: &Tensor) -> Result<Tensor> {
    unary("exp", x, Exp)
}

/// `tanh x`. (`aten.tanh`)
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    unary("tanh", x, Tanh)
}

/// The error function. (`aten.erf`)
pub fn erf(x: &Tensor) -> Result<Tensor> {
    unary("erf", x, Erf)
}

/// The square root; NaN below zero. (`aten.sqrt`)
pub fn sqrt(x: &Tensor) -> Result<Tensor> {
    unary("sqrt", x, Sqrt)
}

/// `1 / sqrt x`. (`aten.rsqrt`)
pub fn rsqrt(x: &Tensor) -> Result<Tensor> {
    unary("rsqrt", x, Rsqrt)
}

/// `1 / x`. (`aten.reciprocal`)
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
    expm1: exp_m1;
    /// The natural logarithm. (`aten.log`)
    log: ln;
    /// `log(1 + x)`, accurate near zero. (`aten.log1p`)
    log1p: ln_1p;
    /// The logarithm to base 2. (`aten.log2`)
    log2: log2;
    /// The logarithm to base 10. (`aten.log10`)
    log10: log10;
    /// The sine of an angle in radians. (`aten.sin`)
    sin: sin;
    /// The cosine of an angle in radians. (`aten.cos`)
    cos: cos;
    /// The tangent of an angle in radians. (`aten.tan`)
    tan: tan;
    /// The hyperbolic sine. (`aten.sinh`)
    sinh: sinh;
    /// The hyperbolic cosine. (`aten.cosh`)
    cosh: cosh;
    /// The angle, in radians, with this sine. (`aten.asin`)
    asin: asin;
    /// The angle, in radians, with this cosine. (`aten.acos`)
    acos: acos;
    /// The angle, in radians, with this tangent. (`aten.atan`)
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
    floor: floor;
    /// The nearest integer above. (`aten.ceil`)
    ceil: ceil;
    /// The nearest integer, halves to the even one. (`aten.round`)
    round: round_ties_even;
    /// The integer part. (`aten.trunc`)
    trunc: trunc;
}

/// The larger of `x` and a number, the smaller of it and another; NaN stays NaN, and the upper
/// bound wins. Integers take whole bounds. (`aten.clamp`)
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
