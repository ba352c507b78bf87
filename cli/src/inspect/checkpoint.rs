//! A checkpoint beside the model that it is for, or alone: what is shown of it.

pub mod html;
pub mod json;
pub mod text;
mod tree;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

use pycandle_build::checkpoint::Beside;
use pycandle_build::lock;
use pycandle_checkpoint::{Checkpoint, Dtype, Mismatch, Tensor};

/// What a tensor is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// There is no model to say.
    Stored,
    /// The model needs it, or it is a part of a weight that it needs.
    Needed,
    /// Nothing needs it.
    Unneeded,
    /// The model needs it, and the checkpoint has a twin in its place.
    Tied,
    /// The model needs it, and it is not there.
    Missing,
}

impl Status {
    const ALL: [Self; 5] = [
        Self::Stored,
        Self::Needed,
        Self::Unneeded,
        Self::Tied,
        Self::Missing,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Needed => "needed",
            Self::Unneeded => "unneeded",
            Self::Tied => "tied",
            Self::Missing => "missing",
        }
    }
}

/// A tensor that the checkpoint has, or that the model needs and it does not have.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// The name that the model has for it; the key where nothing needs it.
    pub name: Cow<'a, str>,
    /// Its key in the checkpoint, where that is another; of a tied tensor, that of its twin.
    pub key: Option<&'a str>,
    pub status: Status,
    pub dtype: Dtype,
    pub shape: Cow<'a, [usize]>,
    /// Bytes in the checkpoint; none of what is not there by itself.
    pub bytes: u64,
    /// Its file, and the bytes of that file; a lock knows neither.
    pub place: Option<(usize, Range<u64>)>,
}

/// A file of the checkpoint.
#[derive(Debug, Clone)]
pub struct File {
    pub name: String,
    /// Its size; not known of a lock's.
    pub bytes: Option<u64>,
    pub tensors: u64,
    pub tensor_bytes: u64,
}

/// Numbers of tensors, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub tensors: u64,
    pub bytes: u64,
}

/// Everything that is shown of a checkpoint.
pub struct View<'a> {
    /// Where it is.
    pub place: String,
    /// Its lock, when there is one.
    pub lock: Option<String>,
    /// Whether only the lock is there.
    pub from_lock: bool,
    /// Whether a model says what is needed.
    pub has_model: bool,
    pub files: Vec<File>,
    /// What the model needs in its order, then what nothing needs by name.
    pub entries: Vec<Entry<'a>>,
    /// What does not fit.
    pub mismatch: Option<&'a Mismatch>,
}

impl<'a> View<'a> {
    /// A checkpoint alone.
    pub fn alone(opened: &'a lock::Opened) -> Self {
        let mut view = Self::empty(&opened.checkpoint, opened.lock.as_deref());
        let mut tensors: Vec<_> = opened.checkpoint.iter().collect();
        tensors.sort_by_cached_key(|tensor| natural(tensor.name()));
        let stored = tensors.into_iter();
        view.entries = stored
            .map(|tensor| view.entry(tensor, Status::Stored))
            .collect();
        view
    }

    /// A checkpoint and the model that it is for.
    pub fn beside(beside: &'a Beside<'_>) -> Self {
        let checkpoint = &beside.checkpoint;
        let mut view = Self::empty(checkpoint, beside.lock.as_deref());
        view.has_model = true;
        view.mismatch = beside.validated.as_ref().err();
        let located = beside.locate();
        let (mut entries, mut used) = (Vec::new(), HashSet::new());
        for (need, found) in beside.needs.iter().zip(&located.needs) {
            let absent = Entry {
                name: need.name.clone(),
                key: None,
                status: Status::Missing,
                dtype: need.dtype,
                shape: need.shape.into(),
                bytes: 0,
                place: None,
            };
            let Some(found) = found else {
                entries.push(absent);
                continue;
            };
            let tensor = found.tensor;
            let key = Some(tensor.name()).filter(|&key| key != need.name);
            entries.push(match found.tied || !used.insert(tensor.name()) {
                true => Entry {
                    key: Some(tensor.name()),
                    status: Status::Tied,
                    ..absent
                },
                false => Entry {
                    name: need.name,
                    key,
                    ..view.entry(tensor, Status::Needed)
                },
            });
        }
        let unneeded: HashSet<&str> = located.unneeded.iter().copied().collect();
        let mut rest: Vec<_> = checkpoint
            .iter()
            .filter(|tensor| !used.contains(tensor.name()))
            .collect();
        rest.sort_by_cached_key(|tensor| natural(tensor.name()));
        entries.extend(rest.into_iter().map(|tensor| {
            let status = match unneeded.contains(tensor.name()) {
                true => Status::Unneeded,
                false => Status::Needed,
            };
            view.entry(tensor, status)
        }));
        view.entries = entries;
        view
    }

    fn empty(checkpoint: &Checkpoint, lock: Option<&Path>) -> Self {
        let shards = checkpoint.shards().iter();
        let mut files: Vec<File> = shards
            .map(|shard| File {
                name: name_in(shard.path(), checkpoint.folder()),
                bytes: shard
                    .file()
                    .and_then(|file| Some(file.metadata().ok()?.len())),
                tensors: 0,
                tensor_bytes: 0,
            })
            .collect();
        for tensor in checkpoint.iter() {
            let file = &mut files[tensor.shard()];
            file.tensors += 1;
            file.tensor_bytes += tensor.bytes();
        }
        Self {
            place: slashed(checkpoint.shown()),
            lock: lock.map(slashed),
            from_lock: checkpoint.is_snapshot(),
            has_model: false,
            files,
            entries: Vec::new(),
            mismatch: None,
        }
    }

    fn entry<'t>(&self, tensor: Tensor<'t>, status: Status) -> Entry<'t> {
        Entry {
            name: tensor.name().into(),
            key: None,
            status,
            dtype: tensor.dtype(),
            shape: tensor.shape().into(),
            bytes: tensor.bytes(),
            place: (!self.from_lock).then(|| (tensor.shard(), tensor.range())),
        }
    }

    /// The sum over all tensors of this status.
    pub fn sum(&self, status: Status) -> Sum {
        let entries = self.entries.iter().filter(|entry| entry.status == status);
        entries.fold(Sum::default(), |sum, entry| sum.add(1, entry.bytes))
    }

    /// The sum over all tensors that are there.
    pub fn total(&self) -> Sum {
        let files = self.files.iter();
        files.fold(Sum::default(), |sum, file| {
            sum.add(file.tensors, file.tensor_bytes)
        })
    }

    /// Sums by dtype and block format, largest first.
    pub fn formats(&self) -> Vec<(Dtype, Sum)> {
        let mut formats: BTreeMap<Dtype, Sum> = BTreeMap::new();
        let stored = |entry: &&Entry| !matches!(entry.status, Status::Missing | Status::Tied);
        for entry in self.entries.iter().filter(stored) {
            let sum = formats.entry(entry.dtype).or_default();
            *sum = sum.add(1, entry.bytes);
        }
        let mut formats: Vec<_> = formats.into_iter().collect();
        formats.sort_by_key(|&(dtype, sum)| (std::cmp::Reverse(sum.bytes), dtype));
        formats
    }
}

impl Sum {
    fn add(self, tensors: u64, bytes: u64) -> Self {
        Self {
            tensors: self.tensors.saturating_add(tensors),
            bytes: self.bytes.saturating_add(bytes),
        }
    }
}

/// A name in the order of a person: 2 before 10.
fn natural(name: &str) -> Vec<(Option<u64>, &str)> {
    // What is no number has none, and comes first.
    let parts = name.split('.');
    parts.map(|part| (part.parse().ok(), part)).collect()
}

/// A path from the folder of the weights.
fn name_in(path: &Path, folder: &Path) -> String {
    slashed(path.strip_prefix(folder).unwrap_or(path))
}

/// Paths in results use `/` on every system.
fn slashed(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}
