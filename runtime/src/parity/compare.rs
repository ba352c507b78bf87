//! One tensor against its golden and, where there is one, the truth.

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use pycandle_checkpoint::Dtype;

use super::Goldens;
use super::Verdict;
use super::report::Row;
use crate::{Error, Result};

/// Our distance may be this many times PyTorch's own.
const FACTOR: f64 = 2.0;
/// Relative distance that always passes: a few roundings of f32.
const FLOOR: f64 = 1e-6;
/// The worst element may be this many times as far off as PyTorch's worst one.
const ELEMENT_FACTOR: f64 = 8.0;
/// Relative distances that pass where no truth was recorded.
const NO_TRUTH_F32: f64 = 1e-4;
const NO_TRUTH_HALF: f64 = 2e-2;
/// A mask's fill is at least this, and this many times the usual magnitude.
const FILL: f64 = 1e3;
/// Where PyTorch's own relative distance is more, twice it says nothing: a tensor of zeros is at 1.
const CEILING: f64 = 0.25;
/// Relative distance that a fill may be off by, outside the half types.
const FILL_LIMIT: f64 = 1e-6;

/// Compares `ours` with the golden `key`; `Err` only when a tensor cannot be read.
///
/// `strict`: floats must have the golden's dtype.
pub(super) fn compare(goldens: &Goldens, key: &str, ours: &Tensor, strict: bool) -> Result<Row> {
    let weights = goldens.weights();
    let row = |verdict| Row::new(key, verdict);
    let (Some(shape), Some(dtype), Some(golden)) = (
        weights.shape(key),
        weights.file_dtype(key),
        weights.bytes(key),
    ) else {
        return Ok(row(Verdict::Unexpected));
    };
    if ours.dims() != shape {
        return Ok(row(Verdict::Shape {
            ours: ours.dims().to_vec(),
            golden: shape.to_vec(),
        }));
    }
    let ours = ours.to_device(&Device::Cpu)?.flatten_all()?;
    if !is_float(dtype) {
        return integers(key, dtype, golden, &ours);
    }
    if !ours.dtype().is_float() || (strict && Some(ours.dtype()) != same_in_candle(dtype)) {
        return Ok(row(Verdict::DType {
            ours: format!("{:?}", ours.dtype()),
            golden: format!("{dtype:?}"),
        }));
    }
    let ours = ours.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let golden = floats(golden, dtype)?;
    let truth_key = format!("truth:{key}");
    let truth = match (weights.bytes(&truth_key), weights.file_dtype(&truth_key)) {
        (Some(bytes), Some(dtype)) if weights.shape(&truth_key) == Some(shape) => {
            Some(floats(bytes, dtype)?)
        }
        _ => None,
    };
    Ok(judge(key, dtype, &ours, &golden, truth.as_deref()))
}

/// The rule of the module documentation.
fn judge(key: &str, dtype: Dtype, ours: &[f64], golden: &[f64], truth: Option<&[f64]>) -> Row {
    let fills = fills(golden, dtype);
    let fill_limit = match dtype {
        Dtype::F16 => f16::EPSILON.to_f64(),
        Dtype::BF16 => bf16::EPSILON.to_f64(),
        _ => FILL_LIMIT,
    };
    let filled = |i: usize| fills.contains(&golden[i].to_bits());
    let special = |i: usize| is_special(golden[i], dtype) || filled(i);
    let differ = |&i: &usize| {
        let same = ours[i] == golden[i] || (ours[i].is_nan() && golden[i].is_nan());
        let near = (ours[i] - golden[i]).abs() <= fill_limit * golden[i].abs();
        !same && (is_special(golden[i], dtype) || is_special(ours[i], dtype) || filled(i) && !near)
    };
    if let Some(at) = (0..ours.len()).find(differ) {
        return Row::new(
            key,
            Verdict::Special {
                at,
                ours: ours[at],
                golden: golden[at],
            },
        );
    }
    let limit = match dtype {
        Dtype::F16 | Dtype::BF16 => NO_TRUTH_HALF,
        _ => NO_TRUTH_F32,
    };
    let by_golden = |torch: Option<&Distance>| {
        let error = Distance::between(ours, golden, special);
        let passed = error.norm <= limit * error.scale
            && error.worst <= ELEMENT_FACTOR * limit * error.largest;
        error.row(key, torch, passed, limit)
    };
    let Some(truth) = truth else {
        return by_golden(None);
    };
    // A truth that overflowed, or that masks with another dtype's largest number, says nothing
    // about an element: PyTorch's own value stands in.
    let truth: Vec<f64> = truth
        .iter()
        .zip(golden)
        .map(|(&t, &g)| if t.is_finite() { t } else { g })
        .collect();
    let error = Distance::between(ours, &truth, special);
    let torch = Distance::between(golden, &truth, special);
    if torch.norm > CEILING * torch.scale {
        return by_golden(Some(&torch));
    }
    let limit = (FACTOR * torch.norm).max(FLOOR * error.scale);
    let element = (ELEMENT_FACTOR * torch.worst).max(ELEMENT_FACTOR * FLOOR * error.largest);
    let passed = error.norm <= limit && error.worst <= element;
    let limit = limit / error.scale;
    error.row(key, Some(&torch), passed, limit)
}

/// The values, as bits, with which an additive mask filled parts of a tensor: far larger than what
/// is usual among the rest, and repeated exactly.
fn fills(golden: &[f64], dtype: Dtype) -> HashSet<u64> {
    let ordinary = || {
        golden
            .iter()
            .filter(|&&v| v != 0.0 && !is_special(v, dtype))
    };
    let mut rest: Vec<f64> = ordinary().map(|v| v.abs()).filter(|&v| v < FILL).collect();
    let middle = rest.len() / 2;
    let usual = match rest.is_empty() {
        // A mask itself: zeros and fills.
        true => 1.0,
        false => *rest.select_nth_unstable_by(middle, f64::total_cmp).1,
    };
    let zeros = golden.iter().filter(|&&v| v == 0.0).count();
    if rest.is_empty() && zeros == 0 {
        return HashSet::new();
    }
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for v in ordinary().filter(|v| v.abs() >= FILL * usual.max(1.0)) {
        *counts.entry(v.to_bits()).or_default() += 1;
    }
    // A few equal outliers, as some models have at their first token, are no fill.
    let least = (golden.len() / 1000).max(2);
    counts.retain(|_, count| *count >= least);
    counts.into_keys().collect()
}

/// Errors of one tensor, sums over elements that are ordinary numbers.
struct Distance {
    norm: f64,
    worst: f64,
    scale: f64,
    largest: f64,
}

impl Distance {
    fn between(a: &[f64], truth: &[f64], special: impl Fn(usize) -> bool) -> Self {
        let (mut error, mut scale) = (0f64, 0f64);
        let (mut worst, mut largest) = (0f64, 0f64);
        for (i, (&a, &t)) in a.iter().zip(truth).enumerate() {
            if special(i) {
                continue;
            }
            let diff = (a - t).abs();
            error += diff * diff;
            scale += t * t;
            worst = worst.max(diff);
            largest = largest.max(t.abs());
        }
        Self {
            norm: error.sqrt(),
            worst,
            scale: scale.sqrt(),
            largest,
        }
    }

    fn relative(&self) -> f64 {
        match self.norm {
            0.0 => 0.0,
            norm => norm / self.scale,
        }
    }

    fn row(&self, key: &str, torch: Option<&Self>, passed: bool, limit: f64) -> Row {
        Row {
            rel: Some(self.relative()),
            abs: Some(self.worst),
            torch: torch.map(Self::relative),
            limit: Some(limit),
            ..Row::new(
                key,
                match passed {
                    true => Verdict::Pass,
                    false => Verdict::Differs,
                },
            )
        }
    }
}

fn integers(key: &str, dtype: Dtype, golden: &[u8], ours: &Tensor) -> Result<Row> {
    if ours.dtype().is_float() {
        let (ours, golden) = (format!("{:?}", ours.dtype()), format!("{dtype:?}"));
        return Ok(Row::new(key, Verdict::DType { ours, golden }));
    }
    let ours = ours.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let golden = widen(golden, dtype)?;
    let differ = ours.iter().zip(&golden).filter(|(a, b)| a != b).count();
    Ok(Row::new(
        key,
        match differ {
            0 => Verdict::Pass,
            differ => Verdict::Unequal {
                differ,
                of: golden.len(),
            },
        },
    ))
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Candle's name of a floating-point dtype.
fn same_in_candle(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// NaN, an infinity, or the largest finite number of the dtype with either sign.
fn is_special(value: f64, dtype: Dtype) -> bool {
    let max = match dtype {
        Dtype::F64 => f64::MAX,
        Dtype::F16 => f64::from(f16::MAX),
        Dtype::BF16 => f64::from(bf16::MAX),
        _ => f64::from(f32::MAX),
    };
    value.is_nan() || value.abs() >= max
}

fn floats(bytes: &[u8], dtype: Dtype) -> Result<Vec<f64>> {
    Ok(match dtype {
        Dtype::F64 => decode(bytes, f64::from_le_bytes),
        Dtype::F32 => decode(bytes, |b| f32::from_le_bytes(b).into()),
        Dtype::F16 => decode(bytes, |b| f16::from_le_bytes(b).into()),
        Dtype::BF16 => decode(bytes, |b| bf16::from_le_bytes(b).into()),
        other => {
            return Err(Error::msg(format!(
                "goldens of dtype {other:?} are not read"
            )));
        }
    })
}

fn widen(bytes: &[u8], dtype: Dtype) -> Result<Vec<i64>> {
    Ok(match dtype {
        Dtype::Bool | Dtype::U8 => decode(bytes, |[b]: [u8; 1]| b.into()),
        Dtype::I8 => decode(bytes, |[b]: [u8; 1]| i64::from(b as i8)),
        Dtype::I16 => decode(bytes, |b| i16::from_le_bytes(b).into()),
        Dtype::I32 => decode(bytes, |b| i32::from_le_bytes(b).into()),
        Dtype::I64 => decode(bytes, i64::from_le_bytes),
        other => {
            return Err(Error::msg(format!(
                "goldens of dtype {other:?} are not read"
            )));
        }
    })
}

fn decode<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
}
