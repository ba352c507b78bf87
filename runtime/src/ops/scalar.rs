//! Arithmetic of a tensor and a number. Numbers are not rounded to the half types.

use candle_core::Tensor;

use super::Result;
use super::elementwise::{
    floor_divide, floor_quotient_int, fmod, int_pow, remainder, remainder_int,
};
use super::functions::{reciprocal, rsqrt, sqrt};
use super::isa::Isa;
use super::map::{Map1, int_map, scalar_map, unary};
use super::memory::{fail, is_float};

/// Declares `Map1` types that carry a scalar.
macro_rules! with_scalar {
    ($($map:ident: |$x:ident, $s:ident| $value:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $map(f64);
        impl Map1 for $map {
            #[inline(always)]
            fn f32<S: Isa>(self, $x: f32) -> f32 { let $s = self.0 as f32; $value }
            fn f64(self, $x: f64) -> f64 { let $s = self.0; $value }
        }
    )*};
}

with_scalar! {
    AddScalar: |x, s| x + s;
    RsubScalar: |x, s| s - x;
    MulScalar: |x, s| x * s;
    DivScalar: |x, s| x / s;
    RdivScalar: |x, s| s / x;
}

/// `x + s` for floating point; the scalar is not rounded to a half type. (`aten.add.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::add_scalar(&x, 0.5)?.to_vec1::<f32>()?, [1.5, 2.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn add_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    unary("add_scalar", x, AddScalar(s))
}

/// `x - s` for floating point. (`aten.sub.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::sub_scalar(&x, 0.5)?.to_vec1::<f32>()?, [0.5, 1.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sub_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    unary("sub_scalar", x, AddScalar(-s))
}

/// `s - x` for floating point. (`aten.rsub.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::rsub_scalar(&x, 5.0)?.to_vec1::<f32>()?, [4., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rsub_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    unary("rsub_scalar", x, RsubScalar(s))
}

/// `x * s` for floating point. (`aten.mul.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::mul_scalar(&x, 0.5)?.to_vec1::<f32>()?, [0.5, 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn mul_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    unary("mul_scalar", x, MulScalar(s))
}

/// `x / s` for floating point. (`aten.div.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::div_scalar(&x, 4.0)?.to_vec1::<f32>()?, [0.25, 0.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn div_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    unary("div_scalar", x, DivScalar(s))
}

/// `s / x` for floating point. (`aten.reciprocal` times `s`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::rdiv_scalar(&x, 4.0)?.to_vec1::<f32>()?, [4., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rdiv_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    unary("rdiv_scalar", x, RdivScalar(s))
}

/// Integers as a type of `bits` bits holds them, wrapped around: narrow integers are kept as `I64`.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[200i64, -1], &Device::Cpu)?;
/// assert_eq!(ops::wrap_int(&x, 8)?.to_vec1::<i64>()?, [-56, -1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn wrap_int(x: &Tensor, bits: u32) -> Result<Tensor> {
    let unused = 64 - bits.clamp(1, 64);
    int_map("wrap_int", x, |v| (v << unused) >> unused)
}

/// `x + s` for integers, wrapping. (`aten.add.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1i64, 2], &Device::Cpu)?;
/// assert_eq!(ops::add_scalar_int(&x, 5)?.to_vec1::<i64>()?, [6, 7]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn add_scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
    int_map("add_scalar_int", x, |v| v.wrapping_add(s))
}

/// `x - s` for integers, wrapping. (`aten.sub.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1i64, 2], &Device::Cpu)?;
/// assert_eq!(ops::sub_scalar_int(&x, 5)?.to_vec1::<i64>()?, [-4, -3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sub_scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
    int_map("sub_scalar_int", x, |v| v.wrapping_sub(s))
}

/// `s - x` for integers, wrapping. (`aten.rsub.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1i64, 2], &Device::Cpu)?;
/// assert_eq!(ops::rsub_scalar_int(&x, 5)?.to_vec1::<i64>()?, [4, 3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rsub_scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
    int_map("rsub_scalar_int", x, |v| s.wrapping_sub(v))
}

/// `x * s` for integers, wrapping. (`aten.mul.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1i64, 2], &Device::Cpu)?;
/// assert_eq!(ops::mul_scalar_int(&x, 5)?.to_vec1::<i64>()?, [5, 10]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn mul_scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
    int_map("mul_scalar_int", x, |v| v.wrapping_mul(s))
}

/// `x / s` rounded down, for floating point. (`aten.floor_divide` by a number)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[7f32, -7.], &Device::Cpu)?;
/// assert_eq!(ops::floor_divide_scalar(&x, 2.0)?.to_vec1::<f32>()?, [3., -4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn floor_divide_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    let s = Tensor::new(s, x.device())?.to_dtype(x.dtype())?;
    floor_divide(x, &s)
}

/// `x / s` rounded down, for integers; `s` = 0 is an error. (`aten.floor_divide` by a number)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[7i64, -7], &Device::Cpu)?;
/// assert_eq!(ops::floor_divide_scalar_int(&x, 2)?.to_vec1::<i64>()?, [3, -4]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn floor_divide_scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
    if s == 0 {
        fail!("floor_divide: integer division by zero");
    }
    int_map("floor_divide", x, |v| floor_quotient_int(v, s))
}

/// The remainder of `x / s` with the sign of `s`, for floating point. (`aten.remainder.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[7f32, -7.], &Device::Cpu)?;
/// assert_eq!(ops::remainder_scalar(&x, 2.0)?.to_vec1::<f32>()?, [1., 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn remainder_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    let s = Tensor::new(s, x.device())?.to_dtype(x.dtype())?;
    remainder(x, &s)
}

/// The remainder of `x / s` with the sign of `s`, for integers. (`aten.remainder.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[7i64, -7], &Device::Cpu)?;
/// assert_eq!(ops::remainder_scalar_int(&x, 2)?.to_vec1::<i64>()?, [1, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn remainder_scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
    if s == 0 {
        fail!("remainder: integer division by zero");
    }
    int_map("remainder", x, |v| remainder_int(v, s))
}

/// The remainder of `x / s` with the sign of `x`, for floating point. (`aten.fmod.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[7f32, -7.], &Device::Cpu)?;
/// assert_eq!(ops::fmod_scalar(&x, 2.0)?.to_vec1::<f32>()?, [1., -1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn fmod_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    let s = Tensor::new(s, x.device())?.to_dtype(x.dtype())?;
    fmod(x, &s)
}

/// `x` to the power `s`. Squares, cubes, roots and their inverses are exact products and roots, as
/// in PyTorch; integers need a whole power of at least 0. (`aten.pow.Tensor_Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[4f32, 9.], &Device::Cpu)?;
/// assert_eq!(ops::pow_scalar(&x, 0.5)?.to_vec1::<f32>()?, [2., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pow_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    if !is_float(x.dtype()) {
        if s.fract() != 0.0 || !(0.0..9e15).contains(&s) {
            fail!("pow: integers cannot be raised to the power {s}");
        }
        return int_map("pow", x, |v| int_pow(v, s as i64));
    }
    if s == 0.0 {
        unary("pow", x, Constant(1.0))
    } else if s == 0.5 {
        sqrt(x)
    } else if s == 1.0 {
        Ok(x.clone())
    } else if s == 2.0 {
        unary("pow", x, Product::Square)
    } else if s == 3.0 {
        unary("pow", x, Product::Cube)
    } else if s == -0.5 {
        rsqrt(x)
    } else if s == -1.0 {
        reciprocal(x)
    } else if s == -2.0 {
        unary("pow", x, Product::InverseSquare)
    } else {
        scalar_map("pow", x, |x| x.powf(s as f32), |x| x.powf(s))
    }
}

/// The number `s` to the power `x`, for floating point. (`aten.pow.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::rpow_scalar(&x, 3.0)?.to_vec1::<f32>()?, [3., 9.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rpow_scalar(x: &Tensor, s: f64) -> Result<Tensor> {
    scalar_map("rpow_scalar", x, |x| (s as f32).powf(x), |x| s.powf(x))
}

#[derive(Clone, Copy)]
struct Constant(f64);
impl Map1 for Constant {
    #[inline(always)]
    fn f32<S: Isa>(self, _: f32) -> f32 {
        self.0 as f32
    }
    fn f64(self, _: f64) -> f64 {
        self.0
    }
}

/// `x * x`. (`aten.square`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, -4.], &Device::Cpu)?;
/// assert_eq!(ops::square(&x)?.to_vec1::<f32>()?, [9., 16.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn square(x: &Tensor) -> Result<Tensor> {
    pow_scalar(x, 2.0)
}

/// The whole powers that PyTorch computes as products.
#[derive(Clone, Copy)]
enum Product {
    Square,
    Cube,
    InverseSquare,
}

impl Map1 for Product {
    #[inline(always)]
    fn f32<S: Isa>(self, x: f32) -> f32 {
        match self {
            Self::Square => x * x,
            Self::Cube => x * x * x,
            Self::InverseSquare => 1.0 / (x * x),
        }
    }
    fn f64(self, x: f64) -> f64 {
        match self {
            Self::Square => x * x,
            Self::Cube => x * x * x,
            Self::InverseSquare => 1.0 / (x * x),
        }
    }
}
