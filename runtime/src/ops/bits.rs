//! The bits of integers. Narrow signed integers are held as `I64` with their sign, so that these
//! functions mean the same for them; what a shift moves past their width is cut off afterwards.

use candle_core::{DType, Tensor};

use super::Result;
use super::map::{expanded, int_map, same_dtype, zip};
use super::memory::{fail, on_cpu};

macro_rules! bitwise {
    ($($(#[$doc:meta])* $name:ident: |$a:ident, $b:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_dtype(stringify!($name), a, b)?;
            on_cpu(&[a, b], |inputs| {
                let [x, y] = expanded(stringify!($name), inputs[0], inputs[1])?;
                match x.dtype() {
                    DType::I64 => zip::<i64, i64>(&x, &y, &|$a, $b| $value),
                    DType::U8 => zip::<u8, u8>(&x, &y, &|$a, $b| $value),
                    other => fail!("{}: expected integers, got {other:?}", stringify!($name)),
                }
            })
        }
    )*};
}

bitwise! {
    /// Bits in both. (`aten.bitwise_and.Tensor` on integers)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[6i64], &Device::Cpu)?;
    /// let b = Tensor::new(&[3i64], &Device::Cpu)?;
    /// assert_eq!(ops::int_and(&a, &b)?.to_vec1::<i64>()?, [2]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    int_and: |a, b| a & b;
    /// Bits in either. (`aten.bitwise_or.Tensor` on integers)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[6i64], &Device::Cpu)?;
    /// let b = Tensor::new(&[3i64], &Device::Cpu)?;
    /// assert_eq!(ops::int_or(&a, &b)?.to_vec1::<i64>()?, [7]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    int_or: |a, b| a | b;
    /// Bits in exactly one. (`aten.bitwise_xor.Tensor` on integers)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[6i64], &Device::Cpu)?;
    /// let b = Tensor::new(&[3i64], &Device::Cpu)?;
    /// assert_eq!(ops::int_xor(&a, &b)?.to_vec1::<i64>()?, [5]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    int_xor: |a, b| a ^ b;
    /// Bits moved to the left by as many places as the second operand says; by all of them, or by
    /// fewer than none, nothing is left. (`aten.bitwise_left_shift` on integers)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[3i64, -3, 3], &Device::Cpu)?;
    /// let b = Tensor::new(&[1i64, 2, 64], &Device::Cpu)?;
    /// assert_eq!(ops::shift_left(&a, &b)?.to_vec1::<i64>()?, [6, -12, 0]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    shift_left: |a, b| a.checked_shl(places(b as i128)).unwrap_or(0);
}

/// Bits moved to the right by as many places as the second operand says, the sign kept; by all
/// of them, or by fewer than none, only the sign is left. (`aten.bitwise_right_shift` on
/// integers)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[6i64, -6, -6], &Device::Cpu)?;
/// let b = Tensor::new(&[1i64, 2, 64], &Device::Cpu)?;
/// assert_eq!(ops::shift_right(&a, &b)?.to_vec1::<i64>()?, [3, -2, -1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn shift_right(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_dtype("shift_right", a, b)?;
    on_cpu(&[a, b], |inputs| {
        let [a, b] = expanded("shift_right", inputs[0], inputs[1])?;
        match a.dtype() {
            DType::I64 => zip::<i64, i64>(&a, &b, &|a, b| a >> places(b.into()).min(63)),
            DType::U8 => {
                zip::<u8, u8>(&a, &b, &|a, b| a.checked_shr(places(b.into())).unwrap_or(0))
            }
            other => fail!("shift_right: expected integers, got {other:?}"),
        }
    })
}

/// A number of places, or more than there are.
fn places(n: i128) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// All bits flipped. (`aten.bitwise_not` on integers)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0i64, 5], &Device::Cpu)?;
/// assert_eq!(ops::int_not(&x)?.to_vec1::<i64>()?, [-1, -6]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn int_not(x: &Tensor) -> Result<Tensor> {
    int_map("int_not", x, |v| !v)
}
