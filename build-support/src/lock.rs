//! The lock of a checkpoint: what its headers say, in a small text beside it, so that a build that
//! does not have the weights validates as one that does.
//!
//! [`open`] is how every front end gets at a checkpoint: the files where they are, the lock where
//! they are not, and an error when both are there and do not agree. No switch chooses between them.

mod absence;
mod beside;
mod facts;
mod headers;
mod names;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pycandle_checkpoint::{Checkpoint, quoted};

use crate::report::{Error, Report};
use absence::{Absent, absent};
use facts::Facts;
use read::Lock;

/// The version of the format that is written and read.
const VERSION: u64 = 1;
/// How a lock's name ends, behind the whole name of the weights.
const ENDING: &str = ".lock.json";
/// Differences of one kind that are spelled out.
const SHOWN: usize = 12;

/// A checkpoint, from its files or from its lock; what [`open`] gives.
///
/// ```
/// fn tell(opened: &pycandle_build::lock::Opened) -> String {
///     let tensors = opened.checkpoint.len();
///     match &opened.lock {
///         Some(lock) => format!("{tensors} tensors, locked in {}", lock.display()),
///         None => format!("{tensors} tensors"),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Opened {
    /// What it holds; without files when only the lock is there.
    pub checkpoint: Checkpoint,
    /// Files that were read: a change in one of them calls for another look.
    pub read: Vec<PathBuf>,
    /// The lock, when there is one.
    pub lock: Option<PathBuf>,
    /// The hashes of headers that it has.
    headers: BTreeMap<String, String>,
}

/// Where the lock of a checkpoint is: beside the file, the index or the folder, under its whole name
/// with `.lock.json` behind it. `None` of a path that ends in no name.
///
/// ```
/// use std::path::Path;
/// let lock = pycandle_build::lock::path_of(Path::new("weights/model.safetensors"));
/// assert_eq!(lock.as_deref(), Some(Path::new("weights/model.safetensors.lock.json")));
/// ```
pub fn path_of(weights: &Path) -> Option<PathBuf> {
    let mut name = weights.file_name()?.to_owned();
    name.push(ENDING);
    Some(weights.with_file_name(name))
}

/// The weights that a lock is of; `None` when the path is not that of a lock.
///
/// ```
/// use std::path::Path;
/// use pycandle_build::lock::weights_of;
/// let lock = Path::new("weights/model.safetensors.lock.json");
/// assert_eq!(weights_of(lock).as_deref(), Some(Path::new("weights/model.safetensors")));
/// assert_eq!(weights_of(Path::new("Cargo.lock")), None);
/// ```
pub fn weights_of(lock: &Path) -> Option<PathBuf> {
    let name = lock.file_name()?.to_str()?.strip_suffix(ENDING)?;
    (!name.is_empty()).then(|| lock.with_file_name(name))
}

/// Ascending numbers as the names in a lock have them: `7`, `{0..31}`, `{3..47..4}`, `{0,2,5..9}`.
///
/// ```
/// assert_eq!(pycandle_build::lock::numbers(&[0, 2, 5, 6, 7]), "{0,2,5..7}");
/// ```
pub fn numbers(ascending: &[u32]) -> String {
    let mut text = String::new();
    names::write_set(&mut text, ascending);
    text
}

/// Opens the checkpoint at `weights`, which errors call `shown`; where its files are absent, what
/// its lock says of them, if a config and an index that are there say the same.
///
/// # Errors
/// No weights and no lock; everything that is wrong with either; a lock that does not describe the
/// weights beside it, or the config and the index that are there without them.
///
/// ```
/// use std::path::Path;
/// let weights = Path::new("../tests/models/mlp.safetensors");
/// let opened = pycandle_build::lock::open(weights, Path::new("mlp.safetensors"))?;
/// assert_eq!((opened.checkpoint.len(), opened.lock), (4, None));
/// # Ok::<(), pycandle_build::Report>(())
/// ```
pub fn open(weights: &Path, shown: &Path) -> Result<Opened, Report> {
    let place = Place::of(weights, shown);
    let lock = match &place.lock {
        Some((path, shown)) if path.exists() => Some(place.read(path, shown)?),
        _ => None,
    };
    match (absent(weights), lock) {
        (None, None) => Ok(place.opened(place.files()?, None, Vec::new())),
        (None, Some(lock)) => {
            let checkpoint = place.files()?;
            let lines = differences(&lock, &checkpoint)?;
            place.agree(lines, "")?;
            Ok(place.opened(checkpoint, Some(lock.facts), Vec::new()))
        }
        (Some(absent), Some(lock)) => {
            let beside = beside::beside(&lock, weights, shown).map_err(unreadable)?;
            let mut differences = beside.differences;
            let first = match absent {
                Absent::Nothing => ", where the weights are",
                Absent::Pointers(sizes) => {
                    differences.extend(sizes_differ(&lock, &sizes));
                    ", once `git lfs pull` has fetched it"
                }
            };
            place.agree(differences, first)?;
            Ok(place.opened(lock.checkpoint, Some(lock.facts), beside.read))
        }
        (Some(absent), None) => Err(place.nothing(&absent).into()),
    }
}

/// Holds the bytes of the headers against the hashes in the lock, of weights that [`open`] took for
/// those that it describes. Builds do not ask: tensors that lie in another order are as good. It is
/// another file all the same, with other values perhaps.
///
/// # Errors
/// Files that cannot be read, and those whose headers have other bytes.
///
/// ```
/// use std::path::Path;
/// let weights = Path::new("../tests/models/mlp.safetensors");
/// let opened = pycandle_build::lock::open(weights, Path::new("mlp.safetensors"))?;
/// pycandle_build::lock::check_headers(&opened)?; // there is no lock to differ from
/// # Ok::<(), pycandle_build::Report>(())
/// ```
pub fn check_headers(opened: &Opened) -> Result<(), Report> {
    let Opened {
        checkpoint, lock, ..
    } = opened;
    if lock.is_none() || checkpoint.is_snapshot() {
        return Ok(());
    }
    let on_disk = headers::hashes(checkpoint).map_err(unreadable)?;
    let mut lines = Vec::new();
    facts::each(&opened.headers, &on_disk, |name, _, _| {
        lines.push(format!(
            "file {name}: its header is not the one that was locked, though it says the same of \
             every tensor: they lie in another order, or it has other metadata"
        ));
    });
    Place::of(checkpoint.path(), checkpoint.shown()).agree(lines, "")
}

/// The text of a checkpoint's lock; the same checkpoint gives the same bytes.
///
/// # Errors
/// Weights that are absent, and everything that is wrong with them or with `config.json`.
///
/// ```
/// use std::path::Path;
/// let weights = Path::new("../tests/models/mlp.safetensors");
/// let text = pycandle_build::lock::text(weights, Path::new("mlp.safetensors"))?;
/// assert!(text.contains("up.weight"));
/// # Ok::<(), pycandle_build::Report>(())
/// ```
pub fn text(weights: &Path, shown: &Path) -> Result<String, Report> {
    let place = Place::of(weights, shown);
    if let Some(absent) = absent(weights) {
        return Err(place.no_weights(&absent, "").into());
    }
    let checkpoint = place.files()?;
    let mut facts = Facts::of(&checkpoint).map_err(unreadable)?;
    facts.headers = headers::hashes(&checkpoint).map_err(unreadable)?;
    Ok(write::text(&facts, &checkpoint))
}

/// A checkpoint's paths, as they are and for messages.
struct Place<'a> {
    weights: &'a Path,
    shown: &'a Path,
    lock: Option<(PathBuf, PathBuf)>,
}

impl<'a> Place<'a> {
    fn of(weights: &'a Path, shown: &'a Path) -> Self {
        // `weights/.` and `weights/..` have a name only once they are resolved.
        let name = |path: &Path| path_of(path);
        let lock = name(weights).map(|path| (path.clone(), name(shown).unwrap_or(path)));
        Self {
            weights,
            shown,
            lock,
        }
    }

    fn files(&self) -> Result<Checkpoint, Report> {
        Checkpoint::open_shown(self.weights, self.shown).map_err(unreadable)
    }

    fn opened(
        &self,
        checkpoint: Checkpoint,
        locked: Option<Facts>,
        beside: Vec<PathBuf>,
    ) -> Opened {
        let lock = self
            .lock
            .as_ref()
            .filter(|_| locked.is_some())
            .map(|(path, _)| path.clone());
        let (config, _) = checkpoint.config_path();
        let config = Some(config).filter(|config| !checkpoint.is_snapshot() && config.exists());
        let files = checkpoint.files().map(Path::to_path_buf).chain(config);
        let files = files.filter(|_| !checkpoint.is_snapshot()).chain(beside);
        let mut read: Vec<_> = lock.iter().cloned().chain(files).collect();
        read.dedup();
        Opened {
            checkpoint,
            read,
            lock,
            headers: locked.unwrap_or_default().headers,
        }
    }

    fn read(&self, path: &Path, shown: &Path) -> Result<Lock, Report> {
        read::read(path, shown).map_err(|problems| {
            let mut lines = shortened(problems);
            lines.push(format!(
                "write it again where the weights are: {}",
                self.command()
            ));
            let shown = slashed(shown);
            let head = format!("`{shown}` is not a lock that can be used");
            lines_error(head, lines).into()
        })
    }

    /// An error with these differences, if there are any; `first` is what writing a lock takes.
    fn agree(&self, differences: Vec<String>, first: &str) -> Result<(), Report> {
        if differences.is_empty() {
            return Ok(());
        }
        let shown = self
            .lock
            .as_ref()
            .map(|(_, shown)| slashed(shown))
            .unwrap_or_default();
        let head = format!(
            "`{shown}` does not describe the checkpoint `{}`",
            slashed(self.shown)
        );
        let mut lines = vec![String::new()];
        lines.extend(shortened(differences));
        lines.push(String::new());
        lines.push(format!(
            "if the checkpoint is the right one, lock it again{first}: {}",
            self.command()
        ));
        lines.push("if the lock is, put back the checkpoint that it describes".into());
        Err(lines_error(head, lines).into())
    }

    fn nothing(&self, absent: &Absent) -> Error {
        let lock = match &self.lock {
            Some((_, shown)) => format!(", and no lock `{}`", slashed(shown)),
            None => String::new(),
        };
        self.no_weights(absent, &lock)
    }

    fn no_weights(&self, absent: &Absent, lock: &str) -> Error {
        let shown = slashed(self.shown);
        let mut lines = Vec::new();
        let head = match absent {
            Absent::Nothing if self.weights.exists() => {
                // Opening says what is there instead, and what mends it.
                let why = Checkpoint::open_shown(self.weights, self.shown).err();
                let problems = why.iter().flat_map(pycandle_checkpoint::Error::files);
                let problems = problems.flat_map(|(_, problems)| problems).cloned();
                lines.extend(shortened(problems.collect()));
                format!("no weights in `{shown}`{lock}")
            }
            Absent::Nothing => format!("no checkpoint at `{shown}`{lock}"),
            Absent::Pointers(_) => {
                lines.push("fetch the weights: git lfs pull".to_owned());
                format!("`{shown}` is what Git LFS keeps in place of the weights{lock}")
            }
        };
        if !lock.is_empty() {
            lines.push(format!(
                "to build without the weights, commit a lock; where they are, run: {}",
                self.command()
            ));
        }
        lines_error(head, lines)
    }

    fn command(&self) -> String {
        format!("cargo pycandle lock --weights {}", quoted(self.shown))
    }
}

/// In what the checkpoint differs from the lock; empty when the lock describes it.
fn differences(lock: &Lock, checkpoint: &Checkpoint) -> Result<Vec<String>, Report> {
    let facts = Facts::of(checkpoint).map_err(unreadable)?;
    let mut lines = lock.facts.differences(&facts);
    let said =
        |tensor: pycandle_checkpoint::Tensor| format!("{} {:?}", tensor.dtype(), tensor.shape());
    let mut differ = Vec::new();
    for tensor in lock.checkpoint.iter() {
        let on_disk = checkpoint.get(tensor.name());
        if on_disk.map(|other| (other.dtype(), other.shape()))
            != Some((tensor.dtype(), tensor.shape()))
        {
            let on_disk = on_disk.map_or("absent".to_owned(), said);
            differ.push((
                tensor.name(),
                format!("{} in the lock, {on_disk} on disk", said(tensor)),
            ));
        }
    }
    for tensor in checkpoint.iter() {
        if lock.checkpoint.get(tensor.name()).is_none() {
            differ.push((
                tensor.name(),
                format!("absent in the lock, {} on disk", said(tensor)),
            ));
        }
    }
    let tensors = names::patterns(differ.iter().map(|(name, said)| (*name, said)));
    lines.extend(
        tensors
            .into_iter()
            .map(|(name, said)| format!("{name}: {said}")),
    );
    Ok(lines)
}

/// What Git LFS says of files that it has not fetched, against the lock.
fn sizes_differ(lock: &Lock, sizes: &[(String, u64)]) -> Vec<String> {
    let differs = |(name, bytes): &(String, u64)| {
        let locked = lock.facts.files.get(name).map(|file| file.bytes);
        let locked_shown = locked.map_or("absent".to_owned(), |bytes| format!("{bytes} bytes"));
        (locked != Some(*bytes))
            .then(|| format!("file {name}: {locked_shown} in the lock, {bytes} bytes in Git LFS"))
    };
    sizes.iter().filter_map(differs).collect()
}

fn lines_error(head: String, lines: Vec<String>) -> Error {
    let text = std::iter::once(head).chain(lines);
    Error::weights(text.collect::<Vec<_>>().join("\n"))
}

fn unreadable(error: pycandle_checkpoint::Error) -> Report {
    Error::weights(format!("cannot use the checkpoint: {error}")).into()
}

/// Paths in messages use `/` on every system.
pub(crate) fn slashed(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}

/// The first of many lines, and how many more there are.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    let rest = lines.len().saturating_sub(SHOWN);
    if rest > 1 {
        lines.truncate(SHOWN);
        lines.push(format!("and {rest} more"));
    }
    lines
}
