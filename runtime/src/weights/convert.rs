//! Bytes of a file to the storage of a tensor, in one pass.

use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor, op::BackpropOp};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Elements that one task converts; small enough to share, large enough to be worth a task.
const CHUNK: usize = 1 << 16;

/// The dtype that a tensor gets in a model of dtype `model`; `None` when it cannot be loaded.
///
/// Floats become the model's dtype, bool and uint8 U8, other integers I64.
pub(super) fn target(file: Dtype, model: DType) -> Option<DType> {
    match file {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 => {
            matches!(model, DType::F64 | DType::F32 | DType::F16 | DType::BF16).then_some(model)
        }
        Dtype::BOOL | Dtype::U8 => Some(DType::U8),
        Dtype::I8 | Dtype::I16 | Dtype::U16 | Dtype::I32 | Dtype::U32 | Dtype::I64 => {
            Some(DType::I64)
        }
        _ => None,
    }
}

/// Converts a tensor's bytes; `None` for a pair that [`target`] does not give.
pub(super) fn convert(bytes: &[u8], from: Dtype, to: DType) -> Option<CpuStorage> {
    Some(match to {
        DType::F64 => CpuStorage::F64(floats(bytes, from)?),
        DType::F32 => CpuStorage::F32(floats(bytes, from)?),
        DType::F16 => CpuStorage::F16(floats(bytes, from)?),
        DType::BF16 => CpuStorage::BF16(floats(bytes, from)?),
        DType::U8 if from == Dtype::BOOL => {
            CpuStorage::U8(map(bytes, |[b]: [u8; 1]| u8::from(b != 0)))
        }
        DType::U8 if from == Dtype::U8 => CpuStorage::U8(map(bytes, |[b]: [u8; 1]| b)),
        DType::I64 => CpuStorage::I64(integers(bytes, from)?),
        _ => return None,
    })
}

/// A CPU tensor over the converted elements.
pub(super) fn tensor(storage: CpuStorage, shape: &Shape) -> Result<Tensor, candle_core::Error> {
    let device = Device::Cpu;
    let dims = shape.clone();
    match storage {
        CpuStorage::F64(values) => Tensor::from_vec(values, dims, &device),
        CpuStorage::F32(values) => Tensor::from_vec(values, dims, &device),
        CpuStorage::F16(values) => Tensor::from_vec(values, dims, &device),
        CpuStorage::BF16(values) => Tensor::from_vec(values, dims, &device),
        CpuStorage::U8(values) => Tensor::from_vec(values, dims, &device),
        CpuStorage::I64(values) => Tensor::from_vec(values, dims, &device),
        other => Ok(Tensor::from_storage(
            Storage::Cpu(other),
            dims,
            BackpropOp::none(),
            false,
        )),
    }
}

/// A floating-point element that the file formats convert to, rounding to nearest even once.
trait Float: Copy + Send + Sync + Default {
    fn of_f64(value: f64) -> Self;
    fn of_f32(value: f32) -> Self;
    fn of_f16(value: f16) -> Self;
    fn of_bf16(value: bf16) -> Self;
}

macro_rules! float {
    ($type:ty, $v:ident, $f64:expr, $f32:expr, $f16:expr, $bf16:expr) => {
        impl Float for $type {
            #[inline(always)]
            fn of_f64($v: f64) -> Self {
                $f64
            }
            #[inline(always)]
            fn of_f32($v: f32) -> Self {
                $f32
            }
            #[inline(always)]
            fn of_f16($v: f16) -> Self {
                $f16
            }
            #[inline(always)]
            fn of_bf16($v: bf16) -> Self {
                $bf16
            }
        }
    };
}

float!(f64, v, v, v.into(), v.into(), v.into());
float!(f32, v, v as f32, v, v.to_f32(), v.to_f32());
// PyTorch goes from f64 to the half types by way of f32, rounding twice.
float!(
    f16,
    v,
    f16::from_f32(v as f32),
    f16::from_f32(v),
    v,
    f16::from_f32(v.to_f32())
);
float!(
    bf16,
    v,
    bf16::from_f32(v as f32),
    bf16::from_f32(v),
    bf16::from_f32(v.to_f32()),
    v
);

fn floats<T: Float>(bytes: &[u8], from: Dtype) -> Option<Vec<T>> {
    Some(match from {
        Dtype::F64 => map(bytes, |b| T::of_f64(f64::from_le_bytes(b))),
        Dtype::F32 => map(bytes, |b| T::of_f32(f32::from_le_bytes(b))),
        Dtype::F16 => map(bytes, |b| T::of_f16(f16::from_le_bytes(b))),
        Dtype::BF16 => map(bytes, |b| T::of_bf16(bf16::from_le_bytes(b))),
        Dtype::F8_E4M3 => map(bytes, |[b]: [u8; 1]| T::of_f32(f8_e4m3(b))),
        _ => return None,
    })
}

fn integers(bytes: &[u8], from: Dtype) -> Option<Vec<i64>> {
    Some(match from {
        Dtype::I8 => map(bytes, |[b]: [u8; 1]| i64::from(b as i8)),
        Dtype::I16 => map(bytes, |b| i16::from_le_bytes(b).into()),
        Dtype::U16 => map(bytes, |b| u16::from_le_bytes(b).into()),
        Dtype::I32 => map(bytes, |b| i32::from_le_bytes(b).into()),
        Dtype::U32 => map(bytes, |b| u32::from_le_bytes(b).into()),
        Dtype::I64 => map(bytes, i64::from_le_bytes),
        _ => return None,
    })
}

/// The value of an E4M3 byte (OCP 8-bit floating point: bias 7, no infinity, NaN at 0x7f).
fn f8_e4m3(byte: u8) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => sign * mantissa / 8.0 * 2f32.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    }
}

/// Converts N-byte elements in parallel, so that the page faults of source and target are shared.
fn map<const N: usize, T, F>(bytes: &[u8], convert: F) -> Vec<T>
where
    T: Copy + Send + Sync + Default,
    F: Fn([u8; N]) -> T + Sync,
{
    let (elements, _) = bytes.as_chunks::<N>();
    let mut values = vec![T::default(); elements.len()];
    values
        .par_chunks_mut(CHUNK)
        .zip(elements.par_chunks(CHUNK))
        .for_each(|(to, from)| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = convert(*from);
            }
        });
    values
}
