//! Conversions between dtypes.

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};

use super::Result;
use super::map::{chunks, each};
use super::memory::{Narrow, fail, is_float, narrow, on_cpu, read, tensor, widen, written};

/// `x` in another dtype, as PyTorch converts it. (`aten._to_copy`)
///
/// Floating point to integers drops the fraction. What no integer holds becomes, as in PyTorch on
/// x86-64, `i64::MIN` (NaN, infinities, too large), of which `U8` keeps the low bits. A `bool` is
/// not a `U8`: see [`to_bool`](super::to_bool).
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::new(&[-1.5f32, 2.9], &Device::Cpu)?;
/// assert_eq!(ops::to_dtype(&x, DType::I64)?.to_vec1::<i64>()?, [-1, 2]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn to_dtype(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        match (is_float(x.dtype()), dtype) {
            (true, DType::I64) => float_to_i64(x),
            (true, DType::U8) => each::<i64, u8>(&float_to_i64(x)?, &|v| v as u8),
            (false, DType::U8) if x.dtype() == DType::I64 => each::<i64, u8>(x, &|v| v as u8),
            (true, DType::F32) if x.dtype() == DType::BF16 => widened::<bf16>(x),
            (true, DType::F32) if x.dtype() == DType::F16 => widened::<f16>(x),
            (true, DType::BF16) if x.dtype() == DType::F32 => narrowed::<bf16>(x),
            (true, DType::F16) if x.dtype() == DType::F32 => narrowed::<f16>(x),
            (true, DType::BF16) if x.dtype() == DType::F64 => {
                each::<f64, bf16>(x, &|v| bf16::nearest(v as f32))
            }
            (true, DType::F16) if x.dtype() == DType::F64 => {
                each::<f64, f16>(x, &|v| f16::nearest(v as f32))
            }
            _ => Ok(x.to_dtype(dtype)?),
        }
    })
}

fn widened<T: Narrow>(x: &Tensor) -> Result<Tensor> {
    converted(x, &|source: &[T], out: &mut [f32]| widen(source, out))
}

fn narrowed<T: Narrow>(x: &Tensor) -> Result<Tensor> {
    converted(x, &|source: &[f32], out: &mut [T]| narrow(source, out))
}

fn converted<T: WithDType, U: WithDType>(
    x: &Tensor,
    convert: &(dyn Fn(&[T], &mut [U]) + Sync),
) -> Result<Tensor> {
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            chunks(out, 8192, &|start, out: &mut [U]| {
                convert(&data[start..start + out.len()], out)
            });
        });
        tensor(out, x.dims())
    })
}

fn float_to_i64(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => each::<f32, i64>(x, &|v| truncate(v.into())),
        DType::BF16 => each::<bf16, i64>(x, &|v| truncate(v.to_f64())),
        DType::F16 => each::<f16, i64>(x, &|v| truncate(v.to_f64())),
        DType::F64 => each::<f64, i64>(x, &truncate),
        other => fail!("to_dtype: expected floating point, got {other:?}"),
    }
}

fn truncate(v: f64) -> i64 {
    // 2^63 is the first value above the range; the cast itself would saturate.
    if v.is_nan() || v >= 9_223_372_036_854_775_808.0 {
        i64::MIN
    } else {
        v as i64
    }
}
