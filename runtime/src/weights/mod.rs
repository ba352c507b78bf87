//! Checkpoints: files in, lazy handles out.
//!
//! [`Weights::open`] reads headers only; a [`Param`] knows where its bytes are and reads them on
//! first use.

mod convert;
mod files;
mod header;
mod param;
mod scope;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use candle_core::{DType, Device};
use memmap2::Mmap;

use crate::{Error, Result};
use header::{Entry, Header};
use param::Cell;

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
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Weights(Arc<Inner>);

struct Inner {
    path: PathBuf,
    shards: Vec<Shard>,
    /// Shard of every tensor; empty when there is one shard only.
    shard_of: HashMap<Box<str>, u32>,
    tensors: Mutex<Loaded>,
}

/// Cells by key and dtype; several where handles are on several devices.
type Loaded = HashMap<(Box<str>, DType), Vec<Weak<Cell>>>;

struct Shard {
    path: PathBuf,
    header: Header,
    map: Mmap,
}

impl Weights {
    /// Opens a safetensors file, an `*.index.json`, or a folder that holds an index or shards.
    ///
    /// Reads headers only and maps the files.
    /// Fails with everything that is wrong with a file: a header that is cut, is not JSON or lies
    /// about lengths, tensors that overlap or leave holes, a name listed twice or in two shards, a
    /// shard that the index names and that is not there, a tensor that is not in its shard.
    ///
    /// The files must not be written to or cut while the checkpoint is open: on Unix the process
    /// would get `SIGBUS` when it reads beyond the new end.
    pub fn open(path: impl AsRef<FilePath>) -> Result<Self> {
        let path = path.as_ref();
        let files = files::find(path)?;
        let shards = files
            .paths
            .iter()
            .map(|path| Shard::open(path))
            .collect::<Result<Vec<_>>>()?;
        let shard_of = distribute(path, &shards, files.index.as_ref())?;
        Ok(Self(Arc::new(Inner {
            path: path.to_path_buf(),
            shards,
            shard_of,
            tensors: Mutex::default(),
        })))
    }

    /// The path that was opened.
    pub fn path(&self) -> &FilePath {
        &self.0.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let headers = self.0.shards.iter().map(|shard| &shard.header);
        let mut names: Vec<&str> = headers
            .flat_map(|header| header.entries.keys().map(|name| &**name))
            .collect();
        names.sort_unstable();
        names
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|shard| shard.header.entries.len()).sum()
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
        let (shard, entry) = self.find(name)?;
        Some(entry.shape(&shard.header.dims))
    }

    /// The dtype that the file gives for a tensor.
    pub fn file_dtype(&self, name: &str) -> Option<safetensors::Dtype> {
        Some(self.find(name)?.1.dtype)
    }

    /// A value of the `__metadata__` of the first file that has one.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let headers = self.0.shards.iter().map(|shard| &shard.header);
        let mut values = headers.filter_map(|header| header.metadata.get(key));
        values.next().map(String::as_str)
    }

    /// The root of the module tree, for a model that computes in `dtype` on `device`.
    pub fn scope(&self, dtype: DType, device: &Device) -> Scope {
        Scope::new(self.clone(), dtype, device)
    }

    /// The file's bytes of a tensor, straight from the mapping.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (shard, entry) = self.find(name)?;
        shard.bytes(entry)
    }

    /// The file that holds a tensor, for messages.
    pub(crate) fn file_of(&self, name: &str) -> &FilePath {
        self.find(name)
            .map_or(self.path(), |(shard, _)| &shard.path)
    }

    fn find(&self, name: &str) -> Option<(&Shard, &Entry)> {
        let shards = &self.0.shards;
        let shard = match shards.len() {
            1 => 0,
            _ => *self.0.shard_of.get(name)? as usize,
        };
        let shard = shards.get(shard)?;
        Some((shard, shard.header.entries.get(name)?))
    }

    /// The one cell that all handles of this tensor in this dtype on this device share.
    fn cell(&self, name: &str, dtype: DType, device: &Device) -> Arc<Cell> {
        // A panic while the lock is held leaves the map whole, so a poisoned lock is usable.
        let mut tensors = self.0.tensors.lock().unwrap_or_else(|e| e.into_inner());
        let cells = tensors.entry((name.into(), dtype)).or_default();
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
            .field("path", &self.0.path)
            .field("shards", &self.0.shards.len())
            .field("tensors", &self.len())
            .finish()
    }
}

impl Shard {
    fn open(path: &FilePath) -> Result<Self> {
        let mut file = File::open(path).map_err(|err| Error::io(path, err))?;
        let len = file.metadata().map_err(|err| Error::io(path, err))?.len();
        let header =
            header::read(&mut file, len).map_err(|problems| Error::file(path, problems))?;
        // SAFETY: the mapping is private to this process, read-only, and lives as long as the
        // slices borrowed from it (they borrow `self`). It is only ever read as bytes, of which
        // every value is valid. What the operating system cannot rule out is another process that
        // writes to the file or cuts it while it is mapped: the bytes read would then be any
        // bytes, or reading beyond the new end would raise SIGBUS. `Weights::open` documents that
        // this must not happen; checkpoints are replaced by renaming, which leaves the mapped
        // file as it was. The header was read through the file, not through the mapping, so no
        // check of ours can be undone by a later write: ranges are within the length seen here.
        let map = unsafe { Mmap::map(&file) }.map_err(|err| Error::io(path, err))?;
        Ok(Self {
            path: path.to_path_buf(),
            header,
            map,
        })
    }

    fn bytes(&self, entry: &Entry) -> Option<&[u8]> {
        self.map.get(header::byte_range(entry)?)
    }
}

/// Which shard holds which tensor; checks that shards and index agree.
fn distribute(
    path: &FilePath,
    shards: &[Shard],
    index: Option<&files::Index>,
) -> Result<HashMap<Box<str>, u32>> {
    let mut problems = Vec::new();
    let mut shard_of: HashMap<Box<str>, u32> = HashMap::new();
    if shards.len() > 1 {
        for (number, shard) in shards.iter().enumerate() {
            for name in shard.header.entries.keys() {
                if let Some(first) = shard_of.insert(name.clone(), number as u32) {
                    problems.push(format!(
                        "`{name}` is in two shards, {} and {}",
                        shards[first as usize].path.display(),
                        shard.path.display()
                    ));
                }
            }
        }
    }
    for (name, &number) in index.iter().flat_map(|index| &index.shard_of) {
        if !shards[number].header.entries.contains_key(name.as_str()) {
            problems.push(format!(
                "`{name}` is not in {}, where the index puts it",
                shards[number].path.display()
            ));
        }
    }
    if problems.is_empty() {
        return Ok(shard_of);
    }
    problems.sort_unstable();
    Err(Error::file(
        index.map_or(path, |index| &index.path),
        problems,
    ))
}
