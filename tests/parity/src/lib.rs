//! Every recorded model as generated code; what the build script wrote compiles without a warning.

#![deny(warnings)]

use std::path::{Path, PathBuf};

use pycandle::{DType, Result, Tensor};

/// Whole models and small structures.
pub mod models {
    include!(concat!(env!("OUT_DIR"), "/models_modules.rs"));
}

/// One op each.
#[allow(non_snake_case)]
pub mod ops {
    include!(concat!(env!("OUT_DIR"), "/ops_modules.rs"));
}

/// A model applied to its own output again and again, as one graph of 3000 operations.
pub mod long {
    include!(concat!(env!("OUT_DIR"), "/long.rs"));
}

/// A file beside the recorded models.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .join(name)
}

/// Largest difference over the largest magnitude.
pub fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let a = a.to_dtype(DType::F64)?.flatten_all()?;
    let b = b.to_dtype(DType::F64)?.flatten_all()?;
    let difference = (&a - &b)?.abs()?.max(0)?.to_scalar::<f64>()?;
    Ok(difference / b.abs()?.max(0)?.to_scalar::<f64>()?)
}
