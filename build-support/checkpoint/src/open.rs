//! The files of a checkpoint, opened and held against each other.

mod index;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Seek};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::dtype::Dtype;
use crate::entries::{Entries, Index};
use crate::error::{Error, Result};
use crate::files::{self, Place};
use crate::header::{Header, Value};
use crate::origin::{self, Origin};
use crate::{foreign, gguf, safetensors};
use index::{count, index, name_in, tensor};

/// What a checkpoint holds: names, dtypes, shapes and byte ranges of all its tensors.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.safetensors");
/// # let header = r#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// # let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
/// # std::fs::write(&path, bytes)?;
/// use pycandle_checkpoint::{Checkpoint, Dtype};
/// let checkpoint = Checkpoint::open(&path)?;
/// let bias = checkpoint.get("bias").ok_or("no bias")?;
/// assert_eq!((bias.dtype(), bias.shape()), (Dtype::F32, &[2][..]));
/// let again = checkpoint.at(bias.id()).ok_or("no tensor")?;
/// assert_eq!(again.name(), bias.name());
///
/// assert_eq!((checkpoint.len(), checkpoint.iter().count()), (1, 1));
/// assert!(!checkpoint.is_empty() && !checkpoint.is_gguf() && !checkpoint.is_snapshot());
/// assert!(checkpoint.path() == path && checkpoint.folder() == folder.path());
/// assert!(checkpoint.files().eq([&*path])); // with an index, that too
/// assert!(checkpoint.metadata("format").is_none() && checkpoint.all_metadata().is_empty());
/// assert_eq!(checkpoint.config()?, None); // no `config.json` beside it
/// assert_eq!(checkpoint.config_path().0, folder.path().join("config.json"));
/// assert_eq!(checkpoint.origin(), None); // not in the cache of a hub
/// // The same under another name in messages:
/// let relative = Checkpoint::open_shown(&path, "model.safetensors".as_ref())?;
/// assert_eq!(relative.shown().to_str(), Some("model.safetensors"));
/// assert_eq!(relative.shards().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    place: Place,
    index: Option<Place>,
    shards: Vec<Shard>,
    /// All tensors, where there are several shards.
    all: Index,
    /// `config.json` as a snapshot has it, which stands for the one beside the weights.
    config: Option<Box<str>>,
    /// The commit that a snapshot says it is of.
    origin: Option<Origin>,
}

/// One file of a checkpoint; or a [`Snapshot`](crate::Snapshot), which stands for all of them.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.safetensors");
/// # let header = r#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// # let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
/// # std::fs::write(&path, bytes)?;
/// # let checkpoint = pycandle_checkpoint::Checkpoint::open(&path)?;
/// let shard = &checkpoint.shards()[0];
/// assert!(shard.path() == path && shard.shown() == path);
/// assert!(shard.file().is_some_and(|file| file.metadata().is_ok_and(|file| file.is_file())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Shard {
    place: Place,
    file: Option<File>,
    is_gguf: bool,
    header: Header,
    /// How many tensors the files before it have.
    before: u32,
}

/// One tensor of a checkpoint, as the header of its file describes it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.safetensors");
/// # let header = r#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// # let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
/// # std::fs::write(&path, bytes)?;
/// # let checkpoint = pycandle_checkpoint::Checkpoint::open(&path)?;
/// let bias = checkpoint.get("bias").ok_or("no bias")?;
/// println!("{} is {:?} {:?}", bias.name(), bias.dtype(), bias.shape());
/// assert_eq!((bias.shard(), bias.bytes()), (0, 8));
/// assert_eq!(checkpoint.at(bias.id()).map(|same| same.name()), Some("bias"));
/// assert_eq!(bias.range().end - bias.range().start, 8); // counted from the start of the file
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    shards: &'a [Shard],
    shard: u32,
    number: u32,
}

/// Which tensor of a checkpoint one is: 4 bytes to keep in place of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(NonZeroU32);

impl TensorId {
    /// Of the tensor that is there behind so many others.
    pub(crate) fn new(behind: u32) -> Self {
        // Opening counts them in 32 bits.
        Self(NonZeroU32::MIN.saturating_add(behind))
    }

    /// How many tensors of the checkpoint are before it.
    pub(crate) fn behind(self) -> u32 {
        self.0.get() - 1
    }
}

impl Checkpoint {
    /// Opens a safetensors or GGUF file, a `*.safetensors.index.json`, or a folder that holds an
    /// index or shards. Reads headers only.
    ///
    /// # Errors
    /// Everything that is wrong with any of the files: a header that is cut, is not valid or lies
    /// about lengths, tensors that overlap or leave holes, a name listed twice or in two shards, a
    /// shard that the index names and that is not there, a tensor that is not in its shard.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_shown(path.as_ref(), path.as_ref())
    }

    /// [`Checkpoint::open`], where errors call the path `shown`.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn open_shown(path: &Path, shown: &Path) -> Result<Self> {
        let place = Place {
            path: path.to_path_buf(),
            shown: shown.to_path_buf(),
        };
        let files = files::find(place.clone())?;
        let mut shards = Error::all(files.shards.into_iter().map(Shard::open))?;
        count(&place, &mut shards)?;
        let all = index(&place, &shards, files.index.as_ref())?;
        Ok(Self {
            place,
            index: files.index.map(|index| index.place),
            shards,
            all,
            config: None,
            origin: None,
        })
    }

    /// What a snapshot says; it has one shard, without a file.
    pub(crate) fn of_snapshot(
        place: Place,
        is_gguf: bool,
        header: Header,
        (config, origin): (Option<Box<str>>, Option<Origin>),
    ) -> Self {
        let shard = Shard {
            place: place.clone(),
            file: None,
            is_gguf,
            header,
            before: 0,
        };
        Self {
            place,
            index: None,
            shards: vec![shard],
            all: Index::default(),
            config,
            origin,
        }
    }

    /// Whether there are no files, only a [`Snapshot`](crate::Snapshot) of them.
    pub fn is_snapshot(&self) -> bool {
        self.shards.iter().any(|shard| shard.file.is_none())
    }

    /// The text of `config.json`, from the snapshot or from beside the weights; `None` when there is
    /// none. What Python writes as `NaN` and `Infinity`, which JSON does not have, is `null` in it.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is no text.
    pub fn config(&self) -> Result<Option<Cow<'_, str>>> {
        if self.is_snapshot() {
            return Ok(self.config.as_deref().map(Cow::Borrowed));
        }
        let (path, shown) = self.config_path();
        Ok(config_at(&path, &shown)?.map(Cow::Owned))
    }

    /// Where `config.json` is, or would be, and its path for messages: beside the weights or, where
    /// they are a link, beside what that leads to.
    pub fn config_path(&self) -> (PathBuf, PathBuf) {
        let beside = |path: &Path| match path.is_dir() {
            true => path.join("config.json"),
            false => path.with_file_name("config.json"),
        };
        let own = beside(&self.place.path);
        if !own.exists() {
            let linked = origin::hops(&self.place.path);
            let mut linked = linked.iter().map(|path| beside(path));
            if let Some(linked) = linked.find(|config| config.exists()) {
                return (linked.clone(), linked);
            }
        }
        let shown = match self.place.path.is_dir() {
            true => self.place.shown.join("config.json"),
            false => self.place.shown.with_file_name("config.json"),
        };
        (own, shown)
    }

    /// The commit of a hub's repository that it is of, where its path or what that links to lies in
    /// the hub's cache, or a snapshot says so.
    pub fn origin(&self) -> Option<Origin> {
        match self.is_snapshot() {
            true => self.origin.clone(),
            false => origin::hops(&self.place.path)
                .iter()
                .find_map(|path| Origin::of(path)),
        }
    }

    /// The path that was opened, as errors call it.
    pub fn shown(&self) -> &Path {
        &self.place.shown
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// The folder of the weights, where `config.json` lies beside them.
    pub fn folder(&self) -> &Path {
        match self.place.path.is_dir() {
            true => &self.place.path,
            false => self.place.path.parent().unwrap_or(Path::new("")),
        }
    }

    /// The open files.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Every file that was read, the index too.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let shards = self.shards.iter().map(|shard| &shard.place);
        self.index.iter().chain(shards).map(|place| &*place.path)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.header.entries.len()).sum()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let number = match &*self.shards {
            [only] => only.header.entries.find(name),
            shards => self.all.find(name, |number| name_in(shards, number)),
        };
        tensor(&self.shards, number?)
    }

    /// The tensor that has this id, which has to be one of this checkpoint; `None` where there are
    /// fewer tensors.
    pub fn at(&self, id: TensorId) -> Option<Tensor<'_>> {
        tensor(&self.shards, id.behind())
    }

    /// All tensors, in the order of the files and of their headers.
    pub fn iter(&self) -> impl Iterator<Item = Tensor<'_>> {
        (0u32..).zip(&self.shards).flat_map(move |(shard, file)| {
            let numbers = file.header.entries.numbers();
            numbers.map(move |number| Tensor {
                shards: &self.shards,
                shard,
                number,
            })
        })
    }

    /// A value of the metadata of the first file that has one.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        let mut values = self.shards.iter().map(|shard| &shard.header.metadata);
        values.find_map(|metadata| metadata.get(key))
    }

    /// All of the metadata by key; of a key that several files have, the value of the first.
    pub fn all_metadata(&self) -> BTreeMap<&str, &Value> {
        let shards = self.shards.iter().rev();
        let entries = shards.flat_map(|shard| &shard.header.metadata);
        entries.map(|(key, value)| (key.as_str(), value)).collect()
    }

    /// Whether the files are GGUF.
    pub fn is_gguf(&self) -> bool {
        self.shards.iter().any(|shard| shard.is_gguf)
    }
}

impl Shard {
    fn open(place: Place) -> Result<Self> {
        let io = |err: std::io::Error| Error::io(&place.shown, &err);
        let mut file = files::open_file(&place.path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let start = foreign::start(&file).map_err(io)?;
        file.rewind().map_err(io)?;
        let is_gguf = start.starts_with(b"GGUF");
        let header = match is_gguf {
            true => gguf::read(&file, len),
            false => safetensors::read(&mut file, len),
        };
        let header = header.map_err(|problems| {
            let known = foreign::known(&place, &file, &start).map(|what| vec![what]);
            Error::file(&place.shown, known.unwrap_or(problems))
        })?;
        Ok(Self {
            place,
            file: Some(file),
            is_gguf,
            header,
            before: 0,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// The path as errors call it.
    pub fn shown(&self) -> &Path {
        &self.place.shown
    }

    /// The file whose header was read; `None` of a snapshot.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

impl<'a> Tensor<'a> {
    /// Its key in the file.
    pub fn name(&self) -> &'a str {
        self.entries().name(self.number)
    }

    /// How its elements are stored.
    pub fn dtype(&self) -> Dtype {
        self.entries().dtype(self.number)
    }

    /// Its shape, outermost dimension first, as PyTorch counts.
    pub fn shape(&self) -> &'a [usize] {
        self.entries().shape(self.number)
    }

    /// Number of its file in [`Checkpoint::shards`].
    pub fn shard(&self) -> usize {
        self.shard as usize
    }

    /// Where [`Checkpoint::at`] finds it again.
    pub fn id(&self) -> TensorId {
        TensorId::new(self.shards[self.shard as usize].before + self.number)
    }

    fn entries(&self) -> &'a Entries {
        &self.shards[self.shard as usize].header.entries
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> u64 {
        let range = self.range();
        range.end - range.start
    }

    /// Its bytes, counted from the start of the file; a snapshot does not say where they are, and
    /// counts from 0.
    pub fn range(&self) -> Range<u64> {
        self.entries().range(self.number)
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("name", &self.name())
            .field("dtype", &self.dtype())
            .field("shape", &self.shape())
            .field("shard", &self.shard)
            .field("range", &self.range())
            .finish()
    }
}

/// The text of a `config.json` as [`Checkpoint::config`] returns it, where there are no weights; errors
/// call it `shown`.
///
/// ```
/// let path = std::path::Path::new("no/such/config.json");
/// assert_eq!(pycandle_checkpoint::config_at(path, path)?, None);
/// # Ok::<(), pycandle_checkpoint::Error>(())
/// ```
///
/// # Errors
/// When the file is there and cannot be read, or is no text.
pub fn config_at(path: &Path, shown: &Path) -> Result<Option<String>> {
    match files::open_file(path).and_then(io::read_to_string) {
        Ok(text) => Ok(Some(without_nan(&text))),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::io(shown, &err)),
    }
}

/// The text with `null` for numbers that Python writes and JSON does not have.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut words = ["NaN", "Infinity", "-Infinity"].into_iter();
        if let Some(word) = words.find(|word| !in_text && rest.starts_with(word)) {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        in_text ^= c == '"' && !escaped;
        escaped = in_text && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_are_null() {
        let text = r#"{"a": [0.0, Infinity], "NaN \" NaN": -Infinity, "b\\": NaN}"#;
        let json = r#"{"a": [0.0, null], "NaN \" NaN": null, "b\\": null}"#;
        assert_eq!(without_nan(text), json);
    }
}
