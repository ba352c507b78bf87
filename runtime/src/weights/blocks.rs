//! GGUF's block types as Candle runs them.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Shape};
use pycandle_checkpoint::Dtype as FileDtype;

use crate::Result;

/// The block types that Candle multiplies by. It has Q8_1 and Q8_K for activations alone.
const RUNNABLE: &[(FileDtype, GgmlDType)] = &[
    (FileDtype::Q4_0, GgmlDType::Q4_0),
    (FileDtype::Q4_1, GgmlDType::Q4_1),
    (FileDtype::Q5_0, GgmlDType::Q5_0),
    (FileDtype::Q5_1, GgmlDType::Q5_1),
    (FileDtype::Q8_0, GgmlDType::Q8_0),
    (FileDtype::Q2_K, GgmlDType::Q2K),
    (FileDtype::Q3_K, GgmlDType::Q3K),
    (FileDtype::Q4_K, GgmlDType::Q4K),
    (FileDtype::Q5_K, GgmlDType::Q5K),
    (FileDtype::Q6_K, GgmlDType::Q6K),
];

/// Candle's name of a file's block type.
pub(super) fn of(dtype: FileDtype) -> Option<GgmlDType> {
    let mut all = RUNNABLE.iter();
    all.find(|(file, _)| *file == dtype)
        .map(|&(_, candle)| candle)
}

/// A tensor of the file's blocks, copied once.
pub(super) fn tensor(
    bytes: &[u8],
    dtype: GgmlDType,
    shape: &Shape,
    device: &Device,
) -> Result<QTensor> {
    // Candle's blocks begin with 16-bit numbers, and a file may be aligned to single bytes.
    const ALIGNMENT: usize = 8;
    let mut room = Vec::new();
    let bytes = if bytes.as_ptr().align_offset(ALIGNMENT) == 0 {
        bytes
    } else {
        room.resize(bytes.len() + ALIGNMENT, 0);
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let place = &mut room[start..start + bytes.len()];
        place.copy_from_slice(bytes);
        place
    };
    let storage = QStorage::from_data(Cow::Borrowed(bytes), device, dtype)?;
    Ok(QTensor::new(storage, shape.clone())?)
}
