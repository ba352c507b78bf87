//! The checkpoint on disk, held against the manifest before anything is built.
//!
//! In: the path of a checkpoint, of which only headers are read, or its lock where the files are
//! absent. Out: the files to watch, or one error that says everything that does not fit. What fits
//! is decided in `pycandle-checkpoint`, which the runtime asks as well; here is only what a manifest
//! has to say of it.

mod rename;

use std::path::PathBuf;

use pycandle_checkpoint::{
    Checkpoint, Expected, Located, Mismatch, Need, Validated, config_facts, locate, validate,
};

use crate::config::Config;
use crate::lock;
use crate::manifest::{Dtype, Manifest};
use crate::report::{Error, Report};

pub use rename::RenameRule;

/// What is known of a checkpoint that fits.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Files that were read: a change in one of them calls for another look.
    pub files: Vec<PathBuf>,
    /// Need → key where they differ, as [`Expected::renames`] says.
    pub renames: Vec<(String, String)>,
    /// What is no mistake, but good to know.
    pub notes: Vec<String>,
    /// What is probably a mistake, though everything fits.
    pub warnings: Vec<String>,
}

/// A checkpoint that fits, open.
#[derive(Debug)]
pub struct Opened<'m> {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What the traced model needs of it.
    pub needs: Vec<Need<'m>>,
    /// Where each of the needs is.
    pub validated: Validated,
    /// What [`check`] says of it.
    pub checked: Checked,
}

/// A checkpoint beside a model, whether or not it fits.
#[derive(Debug)]
pub struct Beside<'m> {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its lock, when there is one.
    pub lock: Option<PathBuf>,
    /// What the traced model needs of it.
    pub needs: Vec<Need<'m>>,
    /// Where each of the needs is, or everything that does not fit.
    pub validated: Result<Validated, Mismatch>,
    /// What [`check`] says of it; of one that does not fit, warnings about the renames.
    pub checked: Checked,
    trace: &'m str,
}

impl Beside<'_> {
    /// What the checkpoint has of what the model needs, whether or not it fits.
    pub fn locate(&self) -> Located<'_> {
        let renames = pairs(&self.checked.renames);
        let expected = Expected {
            trace: self.trace,
            needs: &self.needs,
            renames: &renames,
            ..Expected::DEFAULT
        };
        locate(&expected, &self.checkpoint)
    }
}

/// [`open`], without what is open; nothing is known where `config` names no checkpoint.
///
/// # Errors
/// Those of [`open`].
pub fn check(manifest: &Manifest, config: &Config) -> Result<Checked, Report> {
    Ok(open(manifest, config)?.map_or_else(Checked::default, |opened| opened.checked))
}

/// Opens the checkpoint of `config`, if it names one, and validates it against the manifest. Where
/// its files are absent, what its lock says of them is validated.
///
/// # Errors
/// Everything that is wrong with any of its files, a lock that does not describe them, names that two
/// keys become, or one error with everything that does not fit.
pub fn open<'m>(manifest: &'m Manifest, config: &Config) -> Result<Option<Opened<'m>>, Report> {
    let Some(beside) = hold(manifest, config)? else {
        return Ok(None);
    };
    let warnings = beside.checked.warnings.clone();
    let validated = beside.validated.map_err(|mismatch| {
        let mut report = Report::from(Error::mismatch(mismatch, config.syntax));
        report.warn(warnings);
        report
    })?;
    Ok(Some(Opened {
        checkpoint: beside.checkpoint,
        needs: beside.needs,
        validated,
        checked: beside.checked,
    }))
}

/// [`open`] for those who want to see a checkpoint that does not fit.
///
/// # Errors
/// Those of [`open`], but that the checkpoint does not fit.
pub fn hold<'m>(manifest: &'m Manifest, config: &Config) -> Result<Option<Beside<'m>>, Report> {
    let Some((path, shown)) = config.weights_path() else {
        return Ok(None);
    };
    let lock::Opened {
        checkpoint,
        read,
        lock,
    } = lock::open(&path, shown)?;
    let needs = needs(manifest);
    let resolved = rename::resolve(&config.renames, &needs, &checkpoint, config.syntax)
        .map_err(|lines| Error::renames(lines.join("\n")))?;
    let facts = facts(manifest);
    let expected = Expected {
        trace: &manifest.file,
        needs: &needs,
        renames: &pairs(&resolved.renames),
        config: facts.as_deref(),
        strict: config.strict,
    };
    let validated = validate(&expected, &checkpoint);
    let mut warnings = resolved.warnings;
    let mut notes = Vec::new();
    if let Ok(validated) = &validated {
        warnings.extend_from_slice(&validated.warnings);
        notes.extend_from_slice(&validated.notes);
    }
    let checked = Checked {
        files: read,
        renames: resolved.renames,
        notes,
        warnings,
    };
    Ok(Some(Beside {
        checkpoint,
        lock,
        needs,
        validated,
        checked,
        trace: &manifest.file,
    }))
}

fn pairs(renames: &[(String, String)]) -> Vec<(&str, &str)> {
    let renames = renames.iter();
    renames.map(|(need, key)| (&**need, &**key)).collect()
}

/// The facts of the trace's config that a checkpoint's config is held against, as JSON on one line.
pub fn facts(manifest: &Manifest) -> Option<String> {
    config_facts(&manifest.config.as_ref()?.to_string())
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

/// The type of a file that holds a tensor of this dtype as it is.
pub(crate) fn dtype(dtype: Dtype) -> pycandle_checkpoint::Dtype {
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
