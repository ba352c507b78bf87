//! Elements of constants, checked against their dtype.

use super::json;
use crate::manifest::{Data, Dtype, Scalar};

/// The data of a constant of `count` elements.
pub(super) fn data(data: &json::Data<'_>, dtype: Dtype, count: usize) -> Result<Data, String> {
    Ok(match data {
        json::Data::Full(value) => Data::Full(scalar(*value, dtype)?),
        json::Data::Arange { start, step } => {
            let (start, step) = (scalar(*start, dtype)?, scalar(*step, dtype)?);
            if let (Scalar::Int(start), Scalar::Int(step)) = (start, step) {
                let steps = i128::try_from(count.saturating_sub(1)).unwrap_or(i128::MAX);
                let last = i128::from(step)
                    .checked_mul(steps)
                    .and_then(|n| n.checked_add(start.into()));
                let last = last
                    .and_then(|n| i64::try_from(n).ok())
                    .ok_or("the last element overflows")?;
                scalar(json::Scalar::Int(last), dtype)?;
            }
            if dtype == Dtype::Bool {
                return Err("booleans have no range".to_owned());
            }
            Data::Arange { start, step }
        }
        json::Data::List(json::ShortList(list)) => {
            if list.len() != count {
                return Err(format!("{} elements, the shape has {count}", list.len()));
            }
            Data::List(
                list.iter()
                    .map(|value| scalar(*value, dtype))
                    .collect::<Result<_, _>>()?,
            )
        }
        json::Data::File(name) => {
            if !is_file_name(name) {
                return Err(format!(
                    "`{}` is not the bare name of a file beside the manifest",
                    &**name
                ));
            }
            Data::File((**name).to_owned())
        }
    })
}

/// An element of this dtype; an integer stands for a float of the same value.
fn scalar(value: json::Scalar, dtype: Dtype) -> Result<Scalar, String> {
    let range = match dtype {
        Dtype::Uint8 => 0..=255,
        Dtype::Int8 => i64::from(i8::MIN)..=i64::from(i8::MAX),
        Dtype::Int16 => i64::from(i16::MIN)..=i64::from(i16::MAX),
        Dtype::Int32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        Dtype::Int64 => i64::MIN..=i64::MAX,
        Dtype::Bool => {
            return match value {
                json::Scalar::Bool(value) => Ok(Scalar::Bool(value)),
                _ => Err("a bool constant holds `true` and `false`".to_owned()),
            };
        }
        Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32 | Dtype::Float64 => {
            return match value {
                json::Scalar::Float(value) => Ok(Scalar::Float(value)),
                json::Scalar::Int(value) => Ok(Scalar::Float(value as f64)),
                json::Scalar::Bool(_) => Err("a float constant holds numbers".to_owned()),
            };
        }
    };
    match value {
        json::Scalar::Int(value) if range.contains(&value) => Ok(Scalar::Int(value)),
        json::Scalar::Int(value) => Err(format!("{value} is outside the dtype's range")),
        _ => Err("an integer constant holds integers".to_owned()),
    }
}

/// Whether the text names a file in the folder it is looked up in, on any system.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'))
}
