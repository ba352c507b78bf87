//! The checkpoint on disk, held against the manifest before anything is built.
//!
//! In: the path of a checkpoint, of which only headers are read, or its lock where the files are
//! absent. Out: the files to watch, or one error that says everything that does not fit. What fits
//! is decided in `pycandle-checkpoint`, which the runtime asks as well; here is only what a manifest
//! has to say of it.

mod rename;

use std::path::{Path, PathBuf};

use pycandle_checkpoint::{
    Checkpoint, Expected, Located, Mismatch, Need, Needs, Validated, config_facts, locate, validate,
};

use crate::config::Config;
use crate::lock;
use crate::manifest::{Dtype, Manifest};
use crate::raw;
use crate::report::{Error, Report};

use rename::InOrder;

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

/// What a manifest says that a checkpoint is held against.
#[derive(Debug)]
pub struct Trace<'m> {
    /// The manifest's file name.
    pub file: String,
    /// The facts of its config, as JSON on one line.
    pub facts: Option<String>,
    /// What the traced model needs of a checkpoint.
    pub needs: Box<dyn Needs + 'm>,
}

impl<'m> Trace<'m> {
    /// That of a manifest that has been read.
    pub fn of(manifest: &'m Manifest) -> Self {
        Self {
            file: manifest.file.clone(),
            facts: facts(manifest),
            needs: Box::new(manifest),
        }
    }

    /// That of the manifest at `path`, of which nothing else is kept: where `checkpoint` has a tensor
    /// of the name and shape, not even these.
    ///
    /// # Errors
    /// Those of [`raw::read`], as far as they are about the parameters or end the JSON.
    pub fn read(path: &Path, checkpoint: &'m Checkpoint) -> Result<Self, Report> {
        if let Some(trace) = raw::parameters(path, checkpoint) {
            return Ok(trace);
        }
        let manifest = raw::read(path)?;
        Ok(Self {
            file: manifest.file.clone(),
            facts: facts(&manifest),
            needs: Box::new(manifest),
        })
    }
}

/// A checkpoint beside a model, whether or not it fits.
#[derive(Debug)]
pub struct Beside<'m> {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its lock, when there is one.
    pub lock: Option<PathBuf>,
    /// What the traced model needs of it.
    pub needs: Box<dyn Needs + 'm>,
    /// Where each of the needs is, or everything that does not fit.
    pub validated: Result<Validated, Mismatch>,
    /// What [`fit`] says of it; of one that does not fit, warnings about the renames.
    pub checked: Checked,
    trace: &'m str,
    rules: Vec<RenameRule>,
}

impl Beside<'_> {
    /// What the checkpoint has of what the model needs, whether or not it fits.
    pub fn locate(&self) -> Located<'_> {
        let renames = pairs(&self.checked.renames);
        let rules = InOrder(&self.rules);
        let expected = Expected {
            trace: self.trace,
            needs: &*self.needs,
            renames: &renames,
            rules: Some(&rules),
            ..Expected::DEFAULT
        };
        locate(&expected, &self.checkpoint)
    }
}

/// [`fit`] for the checkpoint of `config`; nothing is known where it names none.
///
/// # Errors
/// Those of [`files`] and of [`fit`].
pub fn check(manifest: &Manifest, config: &Config) -> Result<Checked, Report> {
    match files(config)? {
        Some(opened) => Ok(fit(&Trace::of(manifest), &opened, config)?.1),
        None => Ok(Checked::default()),
    }
}

/// Opens the checkpoint of `config`, if it names one; where its files are absent, what its lock says
/// of them.
///
/// # Errors
/// Everything that is wrong with any of its files, and a lock that does not describe them.
pub fn files(config: &Config) -> Result<Option<lock::Opened>, Report> {
    let path = config.weights_path();
    path.map(|(path, shown)| lock::open(&path, shown))
        .transpose()
}

/// Where everything is that a trace needs, in a checkpoint that fits, and what is said of it.
///
/// # Errors
/// Names that two keys become, or one error with everything that does not fit.
pub fn fit(
    trace: &Trace<'_>,
    opened: &lock::Opened,
    config: &Config,
) -> Result<(Validated, Checked), Report> {
    let (validated, checked) = judge(trace, opened, config)?;
    match validated {
        Ok(validated) => Ok((validated, checked)),
        Err(mismatch) => {
            let mut report = Report::from(Error::mismatch(mismatch, config.syntax));
            report.warn(checked.warnings);
            Err(report)
        }
    }
}

/// [`files`] and [`fit`] for those who want to see a checkpoint that does not fit.
///
/// # Errors
/// Those of the two, but that the checkpoint does not fit.
pub fn hold<'m>(manifest: &'m Manifest, config: &Config) -> Result<Option<Beside<'m>>, Report> {
    let Some(opened) = files(config)? else {
        return Ok(None);
    };
    let trace = Trace::of(manifest);
    let (validated, checked) = judge(&trace, &opened, config)?;
    Ok(Some(Beside {
        checkpoint: opened.checkpoint,
        lock: opened.lock,
        needs: trace.needs,
        validated,
        checked,
        trace: &manifest.file,
        rules: config.renames.clone(),
    }))
}

type Judged = (Result<Validated, Mismatch>, Checked);

fn judge(trace: &Trace<'_>, opened: &lock::Opened, config: &Config) -> Result<Judged, Report> {
    let lock::Opened {
        checkpoint, read, ..
    } = opened;
    let needs = &*trace.needs;
    let resolved = rename::resolve(&config.renames, needs, checkpoint, config.syntax)
        .map_err(|lines| Error::renames(lines.join("\n")))?;
    let rules = InOrder(&config.renames);
    let expected = Expected {
        trace: &trace.file,
        needs,
        renames: &pairs(&resolved.renames),
        rules: Some(&rules),
        config: trace.facts.as_deref(),
        strict: config.strict,
    };
    let validated = validate(&expected, checkpoint);
    let fits = validated.as_ref().ok().map(|fits| (fits, checkpoint));
    let mut warnings = rename::idle(&config.renames, &resolved.matched, fits, config.syntax);
    let mut notes = Vec::new();
    if let Ok(validated) = &validated {
        warnings.extend_from_slice(&validated.warnings);
        notes.extend_from_slice(&validated.notes);
    }
    let checked = Checked {
        files: read.clone(),
        renames: resolved.renames,
        notes,
        warnings,
    };
    Ok((validated, checked))
}

fn pairs(renames: &[(String, String)]) -> Vec<(&str, &str)> {
    let renames = renames.iter();
    renames.map(|(need, key)| (&**need, &**key)).collect()
}

/// The facts of the trace's config that a checkpoint's config is held against, as JSON on one line.
pub fn facts(manifest: &Manifest) -> Option<String> {
    config_facts(&manifest.config.as_ref()?.to_string())
}

/// What the traced model needs of a checkpoint: its parameters.
impl Needs for Manifest {
    fn len(&self) -> usize {
        self.params.len()
    }

    fn get(&self, number: usize) -> Need<'_> {
        let param = &self.params[number];
        Need {
            name: param.name.as_str().into(),
            shape: &param.shape,
            dtype: dtype(param.dtype),
            tied_to: param.tied_to.map(|first| first.0),
        }
    }
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
