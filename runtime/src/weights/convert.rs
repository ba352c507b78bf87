//! Bytes of a file to the storage of a tensor, in one pass.

use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor, op::BackpropOp};
use half::{bf16, f16, vec::HalfBitsVecExt};
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
trait Float: Copy {
    /// What a vector of it is made as: a type whose zeros cost nothing, as the system gives them.
    type Bits: Copy + Default + Send + Sync;
    fn of_f64(value: f64) -> Self::Bits;
    fn of_f32(value: f32) -> Self::Bits;
    fn of_f16(value: f16) -> Self::Bits;
    fn of_bf16(value: bf16) -> Self::Bits;
    fn vec(bits: Vec<Self::Bits>) -> Vec<Self>;
}

macro_rules! float {
    ($type:ty, $bits:ty, $vec:expr, |$v:ident| $f64:expr, $f32:expr, $f16:expr, $bf16:expr) => {
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
            fn vec(bits: Vec<$bits>) -> Vec<Self> {
                $vec(bits)
            }
        }
    };
}

float!(f64, f64, |v| v, |v| v, v.into(), v.into(), v.into());
float!(f32, f32, |v| v, |v| v as f32, v, v.into(), v.into());
// PyTorch goes from f64 to the half types by way of f32, rounding twice.
float!(
    f16,
    u16,
    HalfBitsVecExt::reinterpret_into,
    |v| f16::from_f32(v as f32).to_bits(),
    f16::from_f32(v).to_bits(),
    v.to_bits(),
    f16::from_f32(v.to_f32()).to_bits()
);
float!(
    bf16,
    u16,
    HalfBitsVecExt::reinterpret_into,
    |v| bf16::from_f32(v as f32).to_bits(),
    bf16::from_f32(v).to_bits(),
    bf16::from_f32(v.to_f32()).to_bits(),
    v.to_bits()
);

fn floats<T: Float>(bytes: &[u8], from: Dtype) -> Option<Vec<T>> {
    Some(T::vec(match from {
        Dtype::F64 => map(bytes, |b| T::of_f64(f64::from_le_bytes(b))),
        Dtype::F32 => map(bytes, |b| T::of_f32(f32::from_le_bytes(b))),
        Dtype::F16 => map(bytes, |b| T::of_f16(f16::from_le_bytes(b))),
        Dtype::BF16 => map(bytes, |b| T::of_bf16(bf16::from_le_bytes(b))),
        Dtype::F8_E4M3 => map(bytes, |[b]: [u8; 1]| T::of_f32(f8_e4m3(b))),
        _ => return None,
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], from: Dtype, to: DType, expected: &[f64]) {
        let shape = Shape::from(expected.len());
        let storage = convert(bytes, from, to).expect("a supported pair");
        let values = tensor(storage, &shape).expect("a tensor");
        assert_eq!(values.dtype(), to);
        let values = values.to_dtype(DType::F64).expect("a cast");
        assert_eq!(
            values.to_vec1::<f64>().expect("a vector"),
            expected,
            "{from:?} as {to:?}"
        );
    }

    #[test]
    fn floats_become_the_model_dtype() {
        let halves = [0x00, 0x3c, 0x00, 0xc0]; // f16 1, -2
        let brains = [0x80, 0x3f, 0x00, 0xc0]; // bf16 1, -2
        for to in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            check(&halves, Dtype::F16, to, &[1., -2.]);
            check(&brains, Dtype::BF16, to, &[1., -2.]);
            check(
                &[1f32.to_le_bytes(), 2.5f32.to_le_bytes()].concat(),
                Dtype::F32,
                to,
                &[1., 2.5],
            );
            check(&(-4f64).to_le_bytes(), Dtype::F64, to, &[-4.]);
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // 1 + 2^-8 lies between the bf16 neighbours 1 and 1 + 2^-7, 1 + 3·2^-8 between 1 + 2^-7
        // and 1 + 2^-6.
        let ties = [
            (1f32 + 2f32.powi(-8)).to_le_bytes(),
            (1f32 + 3. * 2f32.powi(-8)).to_le_bytes(),
        ];
        check(
            &ties.concat(),
            Dtype::F32,
            DType::BF16,
            &[1., 1. + 2f64.powi(-6)],
        );
    }

    #[test]
    fn integers_are_widened_and_bools_are_0_or_1() {
        check(&[0, 2, 1], Dtype::BOOL, DType::U8, &[0., 1., 1.]);
        check(&[7, 255], Dtype::U8, DType::U8, &[7., 255.]);
        check(&[0xff], Dtype::I8, DType::I64, &[-1.]);
        check(&[0xfe, 0xff], Dtype::I16, DType::I64, &[-2.]);
        check(&[0xff; 4], Dtype::U32, DType::I64, &[4294967295.]);
        check(&(-3i32).to_le_bytes(), Dtype::I32, DType::I64, &[-3.]);
        assert_eq!(target(Dtype::U64, DType::F32), None);
        assert_eq!(target(Dtype::F32, DType::I64), None);
    }

    /// Values of `torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)`.
    #[test]
    fn eight_bit_floats_are_pytorchs() {
        let bytes = [0x00, 0x01, 0x07, 0x08, 0x38, 0x3c, 0x7e, 0xfe, 0x80];
        let expected = [
            0.,
            0.001953125,
            0.013671875,
            0.015625,
            1.,
            1.5,
            448.,
            -448.,
            0.,
        ];
        check(&bytes, Dtype::F8_E4M3, DType::F32, &expected);
        assert!(f8_e4m3(0x7f).is_nan() && f8_e4m3(0xff).is_nan());
    }
}
