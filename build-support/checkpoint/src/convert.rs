//! Elements as files store them to elements of another type, one value at a time.
//!
//! The runtime converts while it loads and [`extract`](crate::extract) while it writes, both through
//! [`floats`], so an extracted weight is bit for bit the one that would have been loaded.

use half::{bf16, f16};

use crate::dtype::Dtype;

/// A floating-point element that stored ones convert to, rounding to nearest even.
///
/// ```
/// use half::bf16;
/// use pycandle_checkpoint::convert::Float;
/// assert_eq!(f32::of_bf16(bf16::from_f32(0.5)), 0.5);
/// assert_eq!(bf16::of_f32(0.5), bf16::from_f32(0.5).to_bits());
/// ```
pub trait Float: Copy {
    /// What holds its bits: a type whose zeros cost nothing, as the system gives them.
    type Bits: Copy + Default + Send + Sync;
    /// From f64. PyTorch goes to the half types by way of f32, rounding twice.
    fn of_f64(value: f64) -> Self::Bits;
    /// From f32.
    fn of_f32(value: f32) -> Self::Bits;
    /// From f16.
    fn of_f16(value: f16) -> Self::Bits;
    /// From bf16.
    fn of_bf16(value: bf16) -> Self::Bits;
}

macro_rules! float {
    ($type:ty, $bits:ty, |$v:ident| $f64:expr, $f32:expr, $f16:expr, $bf16:expr) => {
        impl Float for $type {
            type Bits = $bits;
            #[inline(always)]
            fn of_f64($v: f64) -> $bits {
                $f64
            }
            #[inline(always)]
            fn of_f32($v: f32) -> $bits {
                $f32
            }
            #[inline(always)]
            fn of_f16($v: f16) -> $bits {
                $f16
            }
            #[inline(always)]
            fn of_bf16($v: bf16) -> $bits {
                $bf16
            }
        }
    };
}

float!(f64, f64, |v| v, v.into(), v.into(), v.into());
float!(f32, f32, |v| v as f32, v, v.into(), v.into());
float!(
    f16,
    u16,
    |v| f16::from_f32(v as f32).to_bits(),
    f16::from_f32(v).to_bits(),
    v.to_bits(),
    f16::from_f32(v.to_f32()).to_bits()
);
float!(
    bf16,
    u16,
    |v| bf16::from_f32(v as f32).to_bits(),
    bf16::from_f32(v).to_bits(),
    bf16::from_f32(v.to_f32()).to_bits(),
    v.to_bits()
);

/// Where converted elements go.
///
/// ```
/// use pycandle_checkpoint::{Dtype, convert::{Sink, floats}};
/// struct Collected;
/// impl<T> Sink<T> for Collected {
///     type Out = Vec<T>;
///     fn fill<const N: usize>(
///         self,
///         elements: &[[u8; N]],
///         convert: impl Fn([u8; N]) -> T + Sync,
///     ) -> Vec<T> {
///         elements.iter().map(|element| convert(*element)).collect()
///     }
/// }
/// let stored = [0.5f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
/// let doubles = floats::<f64, _>(&stored, Dtype::F32, Collected);
/// assert_eq!(doubles, Some(vec![0.5, 2.0]));
/// ```
pub trait Sink<T> {
    /// What is left when all elements were converted.
    type Out;
    /// Converts elements of N bytes each.
    fn fill<const N: usize>(
        self,
        elements: &[[u8; N]],
        convert: impl Fn([u8; N]) -> T + Sync,
    ) -> Self::Out;
}

/// Converts stored floating-point elements to `T`; `None` when `from` is no such type.
///
/// Bytes after the last whole element are left out.
///
/// ```
/// # use pycandle_checkpoint::{Dtype, convert::{Sink, floats}};
/// # struct Sum;
/// # impl Sink<f32> for Sum {
/// #     type Out = f32;
/// #     fn fill<const N: usize>(self, all: &[[u8; N]], f: impl Fn([u8; N]) -> f32 + Sync) -> f32 {
/// #         all.iter().map(|element| f(*element)).sum()
/// #     }
/// # }
/// let stored = [0x38, 0x40]; // 1 and 2 in E4M3
/// assert_eq!(floats::<f32, _>(&stored, Dtype::F8_E4M3, Sum), Some(3.0));
/// assert_eq!(floats::<f32, _>(&stored, Dtype::I8, Sum), None);
/// ```
pub fn floats<T: Float, S: Sink<T::Bits>>(bytes: &[u8], from: Dtype, to: S) -> Option<S::Out> {
    Some(match from {
        Dtype::F64 => to.fill(bytes.as_chunks().0, |b| T::of_f64(f64::from_le_bytes(b))),
        Dtype::F32 => to.fill(bytes.as_chunks().0, |b| T::of_f32(f32::from_le_bytes(b))),
        Dtype::F16 => to.fill(bytes.as_chunks().0, |b| T::of_f16(f16::from_le_bytes(b))),
        Dtype::BF16 => to.fill(bytes.as_chunks().0, |b| T::of_bf16(bf16::from_le_bytes(b))),
        Dtype::F8_E4M3 => to.fill(bytes.as_chunks().0, |[b]| T::of_f32(f8_e4m3(b))),
        _ => return None,
    })
}

/// The value of an E4M3 byte (OCP 8-bit floating point: bias 7, no infinity, NaN at 0x7f).
///
/// ```
/// use pycandle_checkpoint::convert::f8_e4m3;
/// assert_eq!((f8_e4m3(0x38), f8_e4m3(0xfe)), (1.0, -448.0));
/// assert!(f8_e4m3(0x7f).is_nan());
/// ```
pub fn f8_e4m3(byte: u8) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => sign * mantissa / 8.0 * 2f32.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    }
}
