//! Bytes of a file to the storage of a tensor, in one pass.

use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor, op::BackpropOp};
use half::{bf16, f16, vec::HalfBitsVecExt};
use pycandle_checkpoint::Dtype;
use pycandle_checkpoint::convert::{Sink, floats};
use rayon::prelude::*;

use super::blocks;

/// Elements that one task converts; small enough to share, large enough to be worth a task.
const CHUNK: usize = 1 << 16;

/// The dtype that a tensor gets in a model of dtype `model`; `None` when it cannot be loaded.
///
/// Floats become the model's dtype, bool and uint8 U8, other integers I64.
pub(super) fn target(file: Dtype, model: DType) -> Option<DType> {
    match file {
        _ if blocks::of(file).is_some() => target(Dtype::F32, model),
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 => {
            matches!(model, DType::F64 | DType::F32 | DType::F16 | DType::BF16).then_some(model)
        }
        Dtype::Bool | Dtype::U8 => Some(DType::U8),
        Dtype::I8 | Dtype::I16 | Dtype::U16 | Dtype::I32 | Dtype::U32 | Dtype::I64 => {
            Some(DType::I64)
        }
        _ => None,
    }
}

/// Converts a tensor's bytes; `None` for a pair that [`target`] does not give.
pub(super) fn convert(bytes: &[u8], from: Dtype, to: DType) -> Option<CpuStorage> {
    Some(match to {
        DType::F64 => CpuStorage::F64(floats::<f64, _>(bytes, from, Parallel)?),
        DType::F32 => CpuStorage::F32(floats::<f32, _>(bytes, from, Parallel)?),
        DType::F16 => CpuStorage::F16(floats::<f16, _>(bytes, from, Parallel)?.reinterpret_into()),
        DType::BF16 => {
            CpuStorage::BF16(floats::<bf16, _>(bytes, from, Parallel)?.reinterpret_into())
        }
        DType::U8 if from == Dtype::Bool => {
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

/// Converts N-byte elements.
fn map<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T + Sync) -> Vec<T>
where
    T: Copy + Send + Sync + Default,
{
    Parallel.fill(bytes.as_chunks().0, convert)
}

/// A vector that is filled in parallel, so that the page faults of source and target are shared.
struct Parallel;

impl<T: Copy + Send + Sync + Default> Sink<T> for Parallel {
    type Out = Vec<T>;

    fn fill<const N: usize>(
        self,
        elements: &[[u8; N]],
        convert: impl Fn([u8; N]) -> T + Sync,
    ) -> Vec<T> {
        // Zeros cost nothing, as the system gives them.
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
        check(&[0, 2, 1], Dtype::Bool, DType::U8, &[0., 1., 1.]);
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
        let nan = convert(&[0x7f, 0xff], Dtype::F8_E4M3, DType::F32);
        let Some(CpuStorage::F32(nan)) = nan else {
            panic!("not converted")
        };
        assert!(nan.iter().all(|value| value.is_nan()));
    }
}
