//! The checkpoint on disk, held against the manifest before anything is built.
//!
//! In: the path of a checkpoint, of which only headers are read. Out: the files to watch, or one
//! error that says everything that does not fit. What fits is decided in `pycandle-checkpoint`, which
//! the runtime asks as well; here is only what a manifest has to say of it.

use std::path::{Path, PathBuf};

use pycandle_checkpoint::{Checkpoint, Expected, Need, validate};

use crate::manifest::{Dtype, Manifest};
use crate::report::{Error, Report};

/// What is known of a checkpoint that fits.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Files that were read: a change in one of them calls for another look.
    pub files: Vec<PathBuf>,
    /// What is no mistake, but good to know.
    pub notes: Vec<String>,
}

/// Opens the checkpoint at `path` and validates it against the manifest; messages call it `shown`.
///
/// # Errors
/// Everything that is wrong with any of its files, or one error with everything that does not fit.
pub fn check(manifest: &Manifest, path: &Path, shown: &Path) -> Result<Checked, Report> {
    if !path.exists() {
        let text = format!("no checkpoint at `{}`", shown.display());
        return Err(Error::weights(text).into());
    }
    let checkpoint = Checkpoint::open_shown(path, shown)
        .map_err(|error| Error::weights(format!("cannot use the checkpoint: {error}")))?;
    let config = manifest.config.as_ref().map(ToString::to_string);
    let expected = Expected {
        trace: &manifest.file,
        needs: &needs(manifest),
        config: config.as_deref(),
        ..Expected::DEFAULT
    };
    let validated = validate(&expected, &checkpoint).map_err(Error::mismatch)?;
    Ok(Checked {
        files: checkpoint.files().map(Path::to_path_buf).collect(),
        notes: validated.notes,
    })
}

/// What the traced model needs of a checkpoint.
pub fn needs(manifest: &Manifest) -> Vec<Need<'_>> {
    let params = manifest.params.iter().map(|param| Need {
        name: (&*param.name).into(),
        shape: (&*param.shape).into(),
        dtype: dtype(param.dtype),
        tied_to: param.tied_to.map(|first| first.0),
    });
    params.collect()
}

fn dtype(dtype: Dtype) -> pycandle_checkpoint::Dtype {
    use pycandle_checkpoint::Dtype as File;
    match dtype {
        Dtype::Bool => File::Bool,
        Dtype::Uint8 => File::U8,
        Dtype::Int8 => File::I8,
        Dtype::Int16 => File::I16,
        Dtype::Int32 => File::I32,
        Dtype::Int64 => File::I64,
        Dtype::Float16 => File::F16,
        Dtype::Bfloat16 => File::BF16,
        Dtype::Float32 => File::F32,
        Dtype::Float64 => File::F64,
    }
}
