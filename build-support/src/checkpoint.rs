//! The checkpoint on disk, held against the manifest before anything is built.
//!
//! In: the path of a checkpoint, of which only headers are read. Out: nothing, or one error that says
//! everything that does not fit. This is the one place that knows checkpoints at build time: another
//! file format is another reader that returns [`Headers`], a rule about names or configs is another
//! kind of finding in [`validate`].

mod findings;
mod patterns;
mod safetensors;
mod similar;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::manifest::{Dtype, Manifest};
use crate::report::{At, Error, Report};

pub use findings::validate;

/// What a checkpoint holds, from its headers.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// Path for messages, as the user wrote it, with the index's name where there is one.
    pub place: String,
    /// Number of files that hold tensors.
    pub shards: usize,
    /// Every tensor.
    pub tensors: BTreeMap<String, Tensor>,
    /// Files that were read: a change in one of them calls for another look.
    pub files: Vec<PathBuf>,
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type as the file names it, as `BF16`.
    pub dtype: String,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Bytes it takes in its file.
    pub bytes: u64,
}

impl Tensor {
    /// Whether loading gives this tensor the dtype that the trace has: floating-point types become
    /// the model dtype, integers wider than a byte 64-bit integers, booleans and bytes stay bytes.
    pub fn converts_to(&self, traced: Dtype) -> bool {
        match traced {
            Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32 | Dtype::Float64 => {
                matches!(&*self.dtype, "F16" | "BF16" | "F32" | "F64" | "F8_E4M3")
            }
            Dtype::Bool | Dtype::Uint8 => matches!(&*self.dtype, "BOOL" | "U8"),
            Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => {
                matches!(&*self.dtype, "I8" | "I16" | "I32" | "I64" | "U16" | "U32")
            }
        }
    }
}

/// Reads the headers of the checkpoint at `path`: a safetensors file, a `*.safetensors.index.json`
/// or a folder with either. `shown` is the path as the user wrote it.
///
/// # Errors
/// Everything that is wrong with any of the files: missing, cut short, overlapping tensors, ….
pub fn open(path: &Path, shown: &Path) -> Result<Headers, Report> {
    safetensors::open(path, shown)
}

/// Opens the checkpoint and validates it against the manifest; returns the files that were read.
///
/// # Errors
/// Those of [`open`], or one error with all findings of [`validate`].
pub fn check(manifest: &Manifest, path: &Path, shown: &Path) -> Result<Vec<PathBuf>, Report> {
    let headers = open(path, shown)?;
    let findings = validate(manifest, &headers);
    if findings.is_empty() {
        return Ok(headers.files);
    }
    let shards = match headers.shards {
        1 => String::new(),
        n => format!("{n} shards, "),
    };
    let tensors = match headers.tensors.len() {
        1 => "1 tensor".to_owned(),
        n => format!("{n} tensors"),
    };
    let place = format!("{} ({shards}{tensors})", headers.place);
    let head = format!(
        "checkpoint does not match the model traced in `{}`",
        manifest.file
    );
    let mut lines = vec![String::new()];
    lines.extend(findings);
    Err(Error::checkpoint(At::file(place), head, lines).into())
}
