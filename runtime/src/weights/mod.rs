//! Checkpoints: files in, lazy handles out.
//!
//! [`Weights::open`] reads headers only; a [`Param`] knows where its bytes are and reads them on
//! first use.

mod blocks;
mod convert;
mod needs;
mod param;
mod rows;
mod scope;

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, Weak};

use candle_core::{DType, Device};
use memmap2::Mmap;
use pycandle_checkpoint::{Checkpoint, Dtype as FileDtype, Rows, Shard, Snapshot, Tensor, Value};

use crate::{Error, Result};
use param::Cell;

pub(crate) use needs::needs;
pub(crate) use param::untied;

pub use needs::RequiredKey;
pub use param::Param;
pub use scope::Scope;

/// An open checkpoint: names, dtypes, shapes and byte ranges, and the mapped files.
///
/// Cheap to clone; all clones share the mapping and the tensors already read.
///
/// ```
/// use pycandle::{Device, Tensor, Weights};
/// # fn main() -> pycandle::Result<()> {
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// let bias = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// candle_core::safetensors::save(&[("bias", bias)].into(), &path)?;
/// let weights = Weights::open(&path)?;
/// assert_eq!(weights.names(), ["bias"]);
/// assert_eq!(weights.shape("bias"), Some(&[2][..]));
/// assert_eq!(weights.file_dtype("bias"), Some(pycandle::FileDtype::F32));
/// assert!(weights.contains("bias") && !weights.is_empty() && weights.path() == path);
/// assert_eq!(weights.metadata("format"), None);
/// let scope = weights.scope(pycandle::DType::F32, &Device::Cpu);
/// assert_eq!(scope.weights().len(), 1);
/// assert!(weights.warnings().is_empty()); // no model was loaded from it yet
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Weights(Arc<Inner>);

struct Inner {
    checkpoint: Checkpoint,
    /// One for every shard.
    maps: Vec<Mmap>,
    tensors: Mutex<Loaded>,
    warnings: Mutex<Vec<String>>,
}

/// Cells by key, heads whose rows change their order, and dtype; several where handles are on several
/// devices.
type Loaded = HashMap<(Box<str>, usize, DType), Vec<Weak<Cell>>>;

impl Weights {
    /// Opens a safetensors or GGUF file, an `*.index.json`, or a folder that holds an index or
    /// shards.
    ///
    /// Reads headers only and maps the files.
    /// Fails with everything that is wrong with the files: a header that is cut, is not valid or
    /// lies about lengths, tensors that overlap or leave holes, a name listed twice or in two
    /// shards, a shard that the index names and that is not there, a tensor that is not in its
    /// shard.
    ///
    /// The files must not be written to or cut while the checkpoint is open: on Unix the process
    /// would get `SIGBUS` when it reads beyond the new end.
    pub fn open(path: impl AsRef<FilePath>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let maps = checkpoint.shards().iter().map(map).collect::<Result<_>>()?;
        Ok(Self::new(checkpoint, maps))
    }

    /// No file and no tensor.
    pub(crate) fn none() -> Self {
        let nowhere = FilePath::new("");
        let checkpoint = Snapshot::default().into_checkpoint(nowhere, nowhere);
        Self::new(checkpoint, Vec::new())
    }

    fn new(checkpoint: Checkpoint, maps: Vec<Mmap>) -> Self {
        Self(Arc::new(Inner {
            checkpoint,
            maps,
            tensors: Mutex::default(),
            warnings: Mutex::default(),
        }))
    }

    /// The path that was opened.
    pub fn path(&self) -> &FilePath {
        self.0.checkpoint.path()
    }

    /// The headers.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.0.checkpoint
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.checkpoint.iter().map(|t| t.name()).collect();
        names.sort_unstable();
        names
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.checkpoint.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The shape that the file gives for a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.find(name)?.shape())
    }

    /// The dtype that the file gives for a tensor.
    pub fn file_dtype(&self, name: &str) -> Option<FileDtype> {
        Some(self.find(name)?.dtype())
    }

    /// A text of the metadata of the first file that has one of this name.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.checkpoint.metadata(key).and_then(Value::as_text)
    }

    /// What a build would warn of, said of this checkpoint by the models that were loaded from it: what
    /// may be a mistake, though everything fits. Each once.
    pub fn warnings(&self) -> Vec<String> {
        // A panic while the lock is held leaves the list whole.
        let warnings = self.0.warnings.lock();
        warnings.unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub(crate) fn warn(&self, warnings: Vec<String>) {
        let mut all = self.0.warnings.lock().unwrap_or_else(|e| e.into_inner());
        for warning in warnings {
            if !all.contains(&warning) {
                all.push(warning);
            }
        }
    }

    /// The root of the module tree, for a model that computes in `dtype` on `device`.
    pub fn scope(&self, dtype: DType, device: &Device) -> Scope {
        Scope::new(self.clone(), dtype, device)
    }

    /// The file's bytes of a tensor, straight from the mapping.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let tensor = self.find(name)?;
        let range = tensor.range();
        let (start, end) = (range.start.try_into().ok()?, range.end.try_into().ok()?);
        self.0.maps.get(tensor.shard())?.get(start..end)
    }

    /// Whether what stands for one tensor is: the same bytes in the same order of rows, or a matrix in
    /// blocks of another type, which cannot be equal.
    pub(crate) fn is_same(&self, (a, of_a): (&str, Rows), (b, of_b): (&str, Rows)) -> bool {
        let (Some(one), Some(other)) = (self.find(a), self.find(b)) else {
            return false;
        };
        let place = |tensor: &Tensor<'_>| (tensor.shard(), tensor.range());
        if place(&one) == place(&other) {
            return of_a == of_b;
        }
        let is_blocks = one.dtype().is_quantized() || other.dtype().is_quantized();
        one.dtype() != other.dtype() && is_blocks
            || one.dtype() == other.dtype()
                && of_a == of_b
                && self
                    .bytes(a)
                    .is_some_and(|bytes| self.bytes(b) == Some(bytes))
    }

    /// The file that holds a tensor, for messages.
    pub(crate) fn file_of(&self, name: &str) -> &FilePath {
        let shard = self.find(name).map(|tensor| tensor.shard());
        let shard = shard.and_then(|i| self.0.checkpoint.shards().get(i));
        shard.map_or(self.path(), Shard::path)
    }

    fn find(&self, name: &str) -> Option<Tensor<'_>> {
        self.0.checkpoint.get(name)
    }

    /// The one cell that all handles of this tensor in this dtype on this device share.
    fn cell(&self, name: &str, rows: Rows, dtype: DType, device: &Device) -> Arc<Cell> {
        // A panic while the lock is held leaves the map whole, so a poisoned lock is usable.
        let mut tensors = self.0.tensors.lock().unwrap_or_else(|e| e.into_inner());
        let cells = tensors
            .entry((name.into(), heads(rows), dtype))
            .or_default();
        cells.retain(|cell| cell.strong_count() > 0);
        let mut live = cells.iter().filter_map(Weak::upgrade);
        if let Some(cell) = live.find(|cell| cell.device().same_device(device)) {
            return cell;
        }
        let cell = Arc::new(Cell::new(device));
        cells.push(Arc::downgrade(&cell));
        cell
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights")
            .field("path", &self.path())
            .field("shards", &self.0.maps.len())
            .field("tensors", &self.len())
            .finish()
    }
}

/// Maps the file whose header was read.
fn map(shard: &Shard) -> Result<Mmap> {
    let Some(file) = shard.file() else {
        return Err(Error::file(shard.path(), vec!["there is no file".into()]));
    };
    // SAFETY: the mapping is private to this process, read-only, and lives as long as the slices
    // borrowed from it (they borrow `Weights`). It is only ever read as bytes, of which every value
    // is valid. What the operating system cannot rule out is another process that writes to the
    // file or cuts it while it is mapped: the bytes read would then be any bytes, or reading beyond
    // the new end would raise SIGBUS. `Weights::open` documents that this must not happen;
    // checkpoints are replaced by renaming, which leaves the mapped file as it was. The header was
    // read through this very file, not through the mapping, so no check can be undone by a later
    // write; a file that was cut since gives a shorter mapping, in which `bytes` finds nothing.
    unsafe { Mmap::map(file) }.map_err(|err| Error::file(shard.path(), vec![err.to_string()]))
}

/// Heads whose rows change their order; 0 where rows stay.
fn heads(rows: Rows) -> usize {
    match rows {
        Rows::Interleaved { heads } => heads,
        _ => 0,
    }
}
