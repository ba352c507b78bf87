//! The file of tensors that PyTorch computed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use pycandle_checkpoint::Dtype;

use super::origin::manifest_beside;
use super::pattern::matches;
use crate::{Error, Result, Weights};

/// The metadata value that marks the format.
const FORMAT: &str = "pycandle-goldens-1";

/// An open `<name>_trace.safetensors`: inputs, outputs and module outputs of a run in PyTorch.
///
/// ```
/// # fn main() -> pycandle::Result<()> {
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("weights.safetensors");
/// # let one = pycandle::Tensor::new(&[1f32], &pycandle::Device::Cpu)?;
/// # candle_core::safetensors::save(&[("a", one)].into(), &path)?;
/// use pycandle::{Device, parity::Goldens};
/// let err = Goldens::open(&path).unwrap_err();
/// assert!(err.to_string().contains("not a file of goldens"));
///
/// let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?
///     .with_manifest("../tests/models/mlp_manifest.json");
/// assert!(goldens.path().ends_with("mlp_trace.safetensors"));
/// assert_eq!(goldens.metadata("dtype"), Some("float32"));
/// assert!(goldens.keys().any(|key| key == "up#0.out.0"));
/// assert_eq!(goldens.inputs(&Device::Cpu)?["x"].dims(), [2, 3, 6]);
/// assert_eq!(goldens.tensor("output.output", &Device::Cpu)?.dims(), [2, 3, 5]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Goldens {
    weights: Weights,
    /// Keys of module outputs and outputs.
    keys: BTreeSet<String>,
    inputs: Vec<String>,
    /// Where the manifest is, when that was said.
    manifest: Option<PathBuf>,
}

impl Goldens {
    /// Opens the file and reads its header.
    ///
    /// Fails on everything that [`Weights::open`] refuses, on a file of another format, and on keys
    /// that no golden has.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let weights = Weights::open(path)?;
        let fail = |problems| Err(Error::file(weights.path(), problems));
        match weights.metadata("format") {
            Some(FORMAT) => {}
            Some(other) => {
                let text = format!("goldens have format `{other}`, this version reads `{FORMAT}`");
                return fail(vec![text]);
            }
            None => {
                let text = "not a file of goldens: the metadata has no `format`; \
                            record one with `python -m pycandle record`";
                return fail(vec![text.into()]);
            }
        }
        let (mut keys, mut inputs, mut problems) = (BTreeSet::new(), Vec::new(), Vec::new());
        for name in weights.names() {
            let (key, truth) = match name.strip_prefix("truth:") {
                Some(key) => (key, true),
                None => (name, false),
            };
            if truth && !weights.contains(key) {
                problems.push(format!(
                    "`{name}` is the truth of a golden that is not there"
                ));
            } else if let Some(input) = key.strip_prefix("input.") {
                if !truth {
                    inputs.push(input.to_string());
                }
            } else if key.starts_with("output.") || is_module_output(key) {
                keys.insert(key.to_string());
            } else {
                problems.push(format!(
                    "`{name}` is not a golden's key (`input.`, `output.` or `module#call.out.i`)"
                ));
            }
        }
        if !problems.is_empty() {
            return fail(problems);
        }
        Ok(Self {
            weights,
            keys,
            inputs,
            manifest: None,
        })
    }

    /// Says where the manifest is that the goldens belong to, when it does not lie beside them
    /// under the recorder's name, `<name>_manifest.json`.
    ///
    /// It is read only when a comparison failed, for the names of the weights.
    #[must_use]
    pub fn with_manifest(self, path: impl Into<PathBuf>) -> Self {
        let manifest = Some(path.into());
        Self { manifest, ..self }
    }

    pub(super) fn manifest_path(&self) -> PathBuf {
        let beside = || manifest_beside(self.path());
        self.manifest.clone().unwrap_or_else(beside)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        self.weights.path()
    }

    /// A value of the metadata: `torch`, `dtype`, `truth_dtype`, `seed`, `checkpoint`, `manifest`, ….
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.weights.metadata(key)
    }

    /// The keys of all module outputs and outputs, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> + '_ {
        self.keys.iter().map(String::as_str)
    }

    /// The inputs by manifest name, on `device`, floats in the dtype that they were recorded in.
    pub fn inputs(&self, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        let names = self.inputs.iter();
        names
            .map(|name| {
                let key = format!("input.{name}");
                Ok((name.clone(), self.tensor(&key, device)?))
            })
            .collect()
    }

    /// A recorded tensor; bool and uint8 become U8, other integers I64.
    pub fn tensor(&self, key: &str, device: &Device) -> Result<Tensor> {
        let dtype = match self.weights.file_dtype(key) {
            Some(Dtype::F64) => DType::F64,
            Some(Dtype::F16) => DType::F16,
            Some(Dtype::BF16) => DType::BF16,
            _ => DType::F32,
        };
        let shape = self.weights.shape(key).unwrap_or(&[]);
        self.weights
            .scope(dtype, device)
            .param(key, shape)?
            .tensor()
    }

    /// Refuses a golden whose inputs are not those of the model.
    pub(super) fn check_inputs(&self, expected: &[&str]) -> Result<()> {
        if expected.is_empty() {
            return Ok(());
        }
        let have: BTreeSet<&str> = self.inputs.iter().map(String::as_str).collect();
        let want: BTreeSet<&str> = expected.iter().copied().collect();
        let known = |name: &&str| want.iter().any(|pattern| matches(pattern, name));
        let given = |pattern: &&str| have.iter().any(|name| matches(pattern, name));
        if have.iter().all(known) && want.iter().all(given) {
            return Ok(());
        }
        let text = format!(
            "goldens of another model: they have the inputs {have:?}, the model takes {want:?}"
        );
        Err(Error::file(self.path(), vec![text]))
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }
}

/// `<module>#<call>.out.<i>`, the module possibly empty.
fn is_module_output(key: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    key.rsplit_once('#')
        .and_then(|(_, call)| call.split_once(".out."))
        .is_some_and(|(call, out)| number(call) && number(out))
}
