//! Whether goldens were recorded with the manifest and the weights that they are compared on.
//!
//! The manifest's hash is a constant of generated code. That of the weights costs reading them all
//! (about a second per GB), so it is asked for only after a comparison failed. It goes over the
//! manifest's parameters, whose names stand in the manifest alone: the file that lies beside the
//! goldens, when it is the one that they name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use pycandle_checkpoint::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Goldens;
use crate::{Result, Weights};

/// Whether goldens say that they were recorded with what they are compared on.
///
/// ```
/// # use pycandle::{Device, Weights, parity::{self, Goldens, Origin}};
/// # #[pycandle::pycandle_model(manifest = "../tests/models/mlp_manifest.json")]
/// # pub struct Mlp;
/// # fn main() -> pycandle::Result<()> {
/// # let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// # let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?;
/// # let report = parity::run::<Mlp>(&weights, &goldens, &Device::Cpu)?;
/// assert_eq!(report.manifest, Origin::Same);
/// assert_eq!(report.weights, Origin::Unchecked); // all of it passed
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// They were recorded with this.
    Same,
    /// They were recorded with another.
    Other,
    /// It cannot be told, for this reason.
    Unknown(String),
    /// Nobody asked: weights are looked at only when a comparison failed.
    Unchecked,
}

/// Holds the goldens against the hash of the model's manifest.
pub(super) fn manifest(goldens: &Goldens, model: &str) -> Origin {
    match goldens.metadata("manifest") {
        _ if model.is_empty() => Origin::Unknown(
            "the model does not say which manifest it was generated from".to_owned(),
        ),
        None => unsaid("manifest"),
        Some(recorded) if recorded == model => Origin::Same,
        Some(_) => Origin::Other,
    }
}

/// Holds the goldens against the weights; reads all of them.
pub(super) fn weights(goldens: &Goldens, weights: &Weights) -> Origin {
    let Some(recorded) = goldens.metadata("checkpoint") else {
        return unsaid("weights");
    };
    let hash = parameters(goldens).and_then(|parameters| hash(weights, &parameters));
    match hash {
        Ok(hash) if hash == recorded => Origin::Same,
        Ok(_) => Origin::Other,
        Err(why) => Origin::Unknown(why),
    }
}

fn unsaid(what: &str) -> Origin {
    Origin::Unknown(format!(
        "the goldens do not say with which {what} they were recorded"
    ))
}

/// SHA-256 in hexadecimal.
fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// What of a manifest the weights' hash is made of.
#[derive(Deserialize)]
struct Manifest {
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    tied_to: Option<String>,
}

impl Parameter {
    /// The first of the names that it is tied to.
    fn first(&self) -> &str {
        self.tied_to.as_deref().unwrap_or(&self.name)
    }
}

/// The parameters of the manifest that the goldens were recorded with.
fn parameters(goldens: &Goldens) -> Result<Vec<Parameter>, String> {
    let place = goldens.manifest_path();
    let shown = place.display();
    let unreadable = |why: &dyn std::fmt::Display| {
        format!(
            "the weights' names are in the goldens' manifest, and `{shown}` cannot be read: {why}"
        )
    };
    let bytes = std::fs::read(&place).map_err(|err| unreadable(&err))?;
    if goldens.metadata("manifest") != Some(&hex(Sha256::digest(&bytes))) {
        return Err(format!(
            "`{shown}` is not the manifest that the goldens were recorded with"
        ));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|err| unreadable(&err))?;
    Ok(manifest.parameters)
}

/// The manifest that goldens of this path belong to, by the recorder's names.
pub(super) fn manifest_beside(goldens: &Path) -> PathBuf {
    let name = goldens.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.rsplit_once("_trace.").map_or(&*name, |(stem, _)| stem);
    goldens.with_file_name(format!("{stem}_manifest.json"))
}

/// The recorder's hash over the weights, sorted by name, in the manifest's dtypes.
fn hash(weights: &Weights, parameters: &[Parameter]) -> Result<String, String> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for parameter in parameters {
        groups
            .entry(parameter.first())
            .or_default()
            .push(&parameter.name);
    }
    let mut sorted: Vec<&Parameter> = parameters.iter().collect();
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut digest = Sha256::new();
    for parameter in sorted {
        let Parameter {
            name, dtype, shape, ..
        } = parameter;
        let twins = groups.get(parameter.first()).into_iter().flatten().copied();
        let mut names = std::iter::once(&**name).chain(twins);
        let key = names.find(|key| weights.contains(key));
        let key = key.ok_or_else(|| format!("the weights lack `{name}`"))?;
        digest.update(format!("{name}\0{dtype}\0{shape:?}\0"));
        add(&mut digest, weights, key, dtype).ok_or_else(|| {
            format!("`{key}` cannot be read as {dtype}, in which the goldens' weights were")
        })?;
    }
    Ok(hex(digest.finalize()))
}

/// Adds a tensor's bytes in the dtype that the manifest names.
fn add(digest: &mut Sha256, weights: &Weights, key: &str, dtype: &str) -> Option<()> {
    let (stored, wanted) = (weights.file_dtype(key)?, file_dtype(dtype)?);
    if stored == wanted {
        digest.update(weights.bytes(key)?);
        return Some(());
    }
    let dtype = match (stored, wanted) {
        // PyTorch goes from float64 to half precision by float32, and rounds twice.
        (Dtype::F32 | Dtype::BF16 | Dtype::F16, Dtype::F64) => DType::F64,
        (Dtype::F64 | Dtype::BF16 | Dtype::F16, Dtype::F32) => DType::F32,
        (Dtype::F32 | Dtype::BF16, Dtype::F16) => DType::F16,
        (Dtype::F32 | Dtype::F16, Dtype::BF16) => DType::BF16,
        _ => return None,
    };
    let scope = weights.scope(dtype, &Device::Cpu);
    let tensor = scope.param(key, weights.shape(key)?).ok()?.tensor().ok()?;
    update(digest, &tensor).ok()
}

fn update(digest: &mut Sha256, tensor: &Tensor) -> Result<()> {
    let flat = tensor.flatten_all()?;
    match tensor.dtype() {
        DType::F64 => each(digest, flat.to_vec1()?, f64::to_le_bytes),
        DType::F32 => each(digest, flat.to_vec1()?, f32::to_le_bytes),
        DType::F16 => each(digest, flat.to_vec1()?, half::f16::to_le_bytes),
        _ => each(digest, flat.to_vec1()?, half::bf16::to_le_bytes),
    }
    Ok(())
}

fn each<T, const N: usize>(digest: &mut Sha256, values: Vec<T>, bytes: impl Fn(T) -> [u8; N]) {
    for value in values {
        digest.update(bytes(value));
    }
}

/// The file's name of a manifest's dtype.
fn file_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}
