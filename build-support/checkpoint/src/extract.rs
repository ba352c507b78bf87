//! Writes a checkpoint that holds exactly what a model needs.
//!
//! In: a [`Checkpoint`] and where [`validate`](crate::validate) found everything in it. Out: a
//! safetensors file, or several with an index, in which every tensor has the name of the trace and
//! is aligned. Bytes go through in pieces of bounded size, so memory does not grow with the model;
//! files get their names when they are finished.

mod file;
mod layout;
mod place;
mod stream;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::open::{Checkpoint, Tensor};
use crate::validate::{EXTRACTED, Expected, Form, Need, Needs, Rows, Validated};

use file::Planned;
use place::Place;
use stream::Overflows;

pub use layout::{LARGE, LINE, PAGE};

/// Tensors that an error names.
const SHOWN: usize = 5;

/// Told of bytes that were written; says whether to go on. Called from several threads.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// let written = AtomicU64::new(0);
/// let count = |bytes| {
///     written.fetch_add(bytes, Relaxed);
///     true
/// };
/// let progress: pycandle_checkpoint::extract::Progress = &count;
/// assert!(progress(64));
/// ```
pub type Progress<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// How a checkpoint is extracted.
///
/// ```
/// use pycandle_checkpoint::{Dtype, extract::Options};
/// let options = Options {
///     dtype: Some(Dtype::BF16),
///     shard_size: Some(5 << 30),
///     ..Options::default()
/// };
/// assert!(options.padding && !options.force);
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// What floating-point tensors become: F32, F16 or BF16; `None` keeps each as it is.
    pub dtype: Option<Dtype>,
    /// Bytes of tensors that a file holds at most, but one tensor at least; `None` writes one file.
    pub shard_size: Option<u64>,
    /// Whether tensors that no order aligns get an entry of zeros before them, named
    /// [`PADDING`](crate::PADDING) and a number. Without, they lie at a multiple of their element.
    pub padding: bool,
    /// Whether finite values may become infinite where `dtype` has no room for them, as PyTorch and
    /// loading make them.
    pub overflow: bool,
    /// Whether to replace an earlier output.
    pub force: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dtype: None,
            shard_size: None,
            padding: true,
            overflow: false,
            force: false,
        }
    }
}

/// What will be written, and where; made from headers alone.
#[derive(Debug)]
pub struct Plan<'a> {
    origin: Origin<'a>,
    place: Place,
    force: bool,
    overflow: bool,
    files: Vec<Planned<'a>>,
    /// Tensors that have to be equal: one that is written, and a tied copy of it that is not.
    twins: Vec<(Piece<'a>, Piece<'a>)>,
    metadata: BTreeMap<String, String>,
}

/// Where tensors come from, and what becomes of them: a plan of half a million tensors keeps their
/// numbers, and looks up the rest again.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    needs: &'a dyn Needs,
    validated: &'a Validated,
    checkpoint: &'a Checkpoint,
    dtype: Option<Dtype>,
}

/// One tensor to write.
#[derive(Debug, Clone)]
struct Piece<'a> {
    name: Cow<'a, str>,
    tensor: Tensor<'a>,
    rows: Rows,
    to: Dtype,
    /// Bytes that it takes in the output.
    bytes: u64,
}

/// What was written; [`Plan::new`] shows how it comes about.
///
/// ```
/// use pycandle_checkpoint::extract::Written;
/// fn tell(written: &Written) -> String {
///     let Written { files, bytes_out, .. } = written;
///     format!("{bytes_out} bytes in {} files", files.len())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The files, the index last where there is one.
    pub files: Vec<PathBuf>,
    /// Tensors of the model.
    pub tensors: usize,
    /// Entries of zeros between them.
    pub paddings: usize,
    /// Bytes of tensors that were read.
    pub bytes_in: u64,
    /// Bytes of the files.
    pub bytes_out: u64,
}

impl<'a> Plan<'a> {
    /// Decides what goes where; reads nothing but headers and the folder of `out`.
    ///
    /// Tied tensors are written once, under the first name.
    ///
    /// # Errors
    /// Everything that keeps the files from being written, as problems of `out`: blocks without a
    /// dtype that they become, an output that is there already or is part of the source, a source
    /// that is no file.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// # let header = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    /// # let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
    /// # std::fs::write(&path, bytes)?;
    /// # let out = folder.path().join("small.safetensors");
    /// use pycandle_checkpoint::extract::{Options, Plan};
    /// use pycandle_checkpoint::{Checkpoint, Dtype, Expected, Need, validate};
    /// let checkpoint = Checkpoint::open(&path)?;
    /// let need = Need {
    ///     name: "b".into(),
    ///     shape: &[2],
    ///     dtype: Dtype::F32,
    ///     tied_to: None,
    /// };
    /// let expected = Expected { needs: &[need], ..Expected::DEFAULT };
    /// let found = validate(&expected, &checkpoint)?;
    /// let options = Options { dtype: Some(Dtype::BF16), ..Options::default() };
    /// let plan = Plan::new(&expected, &checkpoint, &found, &out, &options)?;
    /// let written = plan.write(&|_| true)?.ok_or("stopped")?;
    /// assert_eq!((written.tensors, written.paddings, plan.bytes()), (1, 0, 4));
    /// assert_eq!(Checkpoint::open(&out)?.get("b").map(|b| b.dtype()), Some(Dtype::BF16));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(
        expected: &'a Expected<'_>,
        checkpoint: &'a Checkpoint,
        validated: &'a Validated,
        out: &Path,
        options: &Options,
    ) -> Result<Self> {
        let mut problems = Vec::new();
        let place = Place::new(out, checkpoint, options.force);
        if checkpoint.is_snapshot() {
            problems.push(format!(
                "the weights of {} are absent, there is only its lock: put them beside it, or name \
                 others with `--weights`",
                checkpoint.shown().display()
            ));
        }
        let origin = Origin {
            needs: expected.needs,
            validated,
            checkpoint,
            dtype: options.dtype,
        };
        origin.check(&mut problems);
        let place = place.map_err(|more| problems.extend(more));
        let (Ok(place), true) = (place, problems.is_empty()) else {
            return Err(Error::file(out, problems));
        };
        let mut metadata = BTreeMap::from([
            ("format".to_owned(), "pt".to_owned()),
            (EXTRACTED.to_owned(), expected.trace.to_owned()),
            (
                "pycandle.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
        ]);
        let mut twins = Vec::new();
        for (id, need) in expected.needs.iter().enumerate() {
            let first = need.tied_to.and_then(|first| origin.piece(first).ok());
            let (Some(written), Ok(piece)) = (first, origin.piece(id)) else {
                continue;
            };
            // As safetensors.torch.save_model says which names are one tensor.
            metadata.insert(piece.name.to_string(), written.name.to_string());
            if written.tensor.name() != piece.tensor.name() {
                twins.push((written, piece));
            }
        }
        Ok(Self {
            origin,
            place,
            force: options.force,
            overflow: options.overflow,
            files: shards(origin, options),
            twins,
            metadata,
        })
    }

    /// Bytes of tensors that will be written.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(Planned::bytes).sum()
    }

    /// Writes the files; `None` when `progress` stopped it, and then nothing is left.
    ///
    /// # Errors
    /// When a file cannot be read or written, with the bytes that are needed where there is no room
    /// for them, when tied tensors of the source are not equal, and when a finite value is infinite
    /// in the dtype that was asked for, unless that is allowed: no file is written after the first
    /// that has such values. Nothing is left then.
    pub fn write(&self, progress: Progress) -> Result<Option<Written>> {
        let written = self.write_files(progress);
        written.map_err(|error| error.when_full(self.bytes()))
    }

    fn write_files(&self, progress: Progress) -> Result<Option<Written>> {
        self.compare_twins()?;
        self.place.sweep();
        let names = self.place.names(self.files.len());
        let mut parts = Vec::new();
        let mut bytes_out = 0;
        for (file, name) in self.files.iter().zip(&names) {
            let data = file.data_start(&self.metadata);
            let data = data.map_err(|text| Error::file(&self.place.join(name), vec![text]))?;
            let mut part = self.place.create(name)?;
            part.write(|to| file.write_header(&self.metadata, data, to))?;
            // Padding is what is never written to.
            let len = data + file.layout.len;
            let sized = part.file.set_len(len);
            sized.map_err(|error| Error::io(part.shown(), &error))?;
            let to = (&part.file, part.shown());
            let written = stream::write(self.origin.checkpoint, file, to, data, progress)?;
            let Some(overflows) = written else {
                return Ok(None);
            };
            self.refuse(&overflows, parts.len() + 1)?;
            bytes_out += len;
            parts.push(part);
        }
        let mut files: Vec<_> = names.iter().map(|name| self.place.join(name)).collect();
        if self.files.len() > 1 {
            let mut part = self.place.create(&self.place.index())?;
            bytes_out += part.write(|to| file::write_index(&self.files, &names, to))?;
            files.push(self.place.join(&self.place.index()));
            parts.push(part);
        }
        self.place.publish(parts, self.force)?;
        let pieces = || self.files.iter().flat_map(Planned::pieces);
        Ok(Some(Written {
            files,
            tensors: pieces().count(),
            paddings: self.files.iter().map(|file| file.layout.paddings).sum(),
            bytes_in: pieces().map(|piece| piece.tensor.bytes()).sum(),
            bytes_out,
        }))
    }

    /// Finite values that would be infinite in the output are an error: a model with them computes
    /// something else. These are of the last of the first `files` files.
    fn refuse(&self, overflows: &Overflows<'_>, files: usize) -> Result<()> {
        let refused = !self.overflow && !overflows.is_empty();
        let Some(to) = self.origin.dtype.filter(|_| refused) else {
            return Ok(());
        };
        let first = overflows.iter().take(SHOWN);
        let mut first: Vec<_> = first
            .map(|(name, values)| format!("`{name}` ({values})"))
            .collect();
        let more = overflows.len() - first.len();
        first.extend((more > 0).then(|| format!("and {more} more tensors")));
        let unseen = match self.files.len() - files {
            0 => String::new(),
            left => format!(" ({left} of {} files were not looked at)", self.files.len()),
        };
        let mend = match to {
            Dtype::F16 => "take --dtype bf16 or f32",
            Dtype::BF16 => "take --dtype f32",
            _ => "leave --dtype out",
        };
        let text = format!(
            "{} would make finite values infinite, in {}{unseen}: {mend}, or allow it with \
             --allow-overflow",
            to.name(),
            first.join(", ")
        );
        Err(Error::file(self.origin.checkpoint.shown(), vec![text]))
    }

    fn compare_twins(&self) -> Result<()> {
        let mut problems = Vec::new();
        for (a, b) in &self.twins {
            let like = |t: Tensor<'_>| (t.dtype(), t.shape().to_vec());
            let equal =
                like(a.tensor) == like(b.tensor) && stream::same(self.origin.checkpoint, a, b)?;
            if !equal {
                problems.push(format!(
                    "`{}` and `{}` are one tensor in the trace, but differ here: remove one of \
                     them, or untie them in the model and record it again",
                    a.tensor.name(),
                    b.tensor.name()
                ));
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::file(self.origin.checkpoint.shown(), problems)),
        }
    }
}

/// Why a need cannot be written.
enum Refused<'a> {
    /// Its tensor is not there.
    Absent(Cow<'a, str>),
    /// It is in blocks, and nobody said what they become.
    Blocks(&'a str),
    /// Nothing here makes of it what was asked for.
    Unknown(Tensor<'a>),
}

impl<'a> Origin<'a> {
    /// The tensor of a need, and what becomes of it.
    fn piece(&self, number: usize) -> Result<Piece<'a>, Refused<'a>> {
        self.piece_of(number, self.needs.get(number))
    }

    fn piece_of(&self, number: usize, need: Need<'a>) -> Result<Piece<'a>, Refused<'a>> {
        let source = self.validated.source(number);
        let tensor = match source.id {
            Some(id) => self.checkpoint.at(id),
            None => self.checkpoint.get(&need.name),
        };
        let Some(tensor) = tensor else {
            return Err(Refused::Absent(need.name));
        };
        let from = tensor.dtype();
        let to = match self.dtype {
            Some(to) if from.is_float() || source.form != Form::Plain => to,
            _ => from,
        };
        let known = from == to && source.form == Form::Plain || stream::converts(from, to);
        match to.bytes(tensor.shape()) {
            _ if source.form != Form::Plain && self.dtype.is_none() => {
                Err(Refused::Blocks(tensor.name()))
            }
            Some(bytes) if known && rows_fit(&tensor, source.rows) => Ok(Piece {
                name: need.name,
                tensor,
                rows: source.rows,
                to,
                bytes,
            }),
            _ => Err(Refused::Unknown(tensor)),
        }
    }

    /// The tensor of a need that is written: one that is not tied to another.
    fn written(&self, number: u32) -> Option<Piece<'a>> {
        let number = number as usize;
        let need = self.needs.get(number);
        let own = need.tied_to.is_none().then_some(need)?;
        self.piece_of(number, own).ok()
    }

    /// What keeps needs from being written.
    fn check(&self, problems: &mut Vec<String>) {
        let (mut blocks, mut unreadable) = ((0, None), (0, None));
        for id in 0..self.needs.len() {
            let (group, first) = match self.piece(id) {
                Ok(_) => continue,
                Err(Refused::Blocks(key)) => (&mut blocks, format!("`{key}`")),
                Err(Refused::Absent(key)) => (&mut unreadable, format!("`{key}`, which is absent")),
                Err(Refused::Unknown(tensor)) => {
                    let (name, dtype) = (tensor.name(), tensor.dtype());
                    let text = format!("`{name}`, {dtype} {:?}", tensor.shape());
                    (&mut unreadable, text)
                }
            };
            group.0 += 1;
            group.1.get_or_insert(first);
        }
        if let (count, Some(first)) = blocks {
            problems.push(format!(
                "{count} tensors are stored in blocks that safetensors has no dtype for, as \
                 {first}: say what they become with --dtype bf16, f16 or f32"
            ));
        }
        if let (count, Some(first)) = unreadable {
            let to = self.dtype.map_or("as it is", Dtype::name);
            problems.push(format!(
                "{count} tensors cannot be written as {to}, as {first}"
            ));
        }
    }
}

/// Whether heads of an even number of rows are all of them.
fn rows_fit(tensor: &Tensor, rows: Rows) -> bool {
    match rows {
        Rows::AsStored => true,
        Rows::Interleaved { heads } => {
            let count = tensor.shape().first().copied().unwrap_or_default();
            heads > 0 && count % (2 * heads) == 0
        }
    }
}

/// Files of at most the given size, in the order of the trace.
fn shards<'a>(origin: Origin<'a>, options: &Options) -> Vec<Planned<'a>> {
    let most = options.shard_size.unwrap_or(u64::MAX);
    // Names of manifests and headers are counted in 32 bits.
    let end = origin.needs.len() as u32;
    let (mut files, mut start, mut bytes) = (Vec::new(), 0, 0u64);
    for need in 0..end {
        let Some(piece) = origin.written(need) else {
            continue;
        };
        if bytes > 0 && bytes.saturating_add(piece.bytes) > most {
            files.push(start..need);
            (start, bytes) = (need, 0);
        }
        bytes += piece.bytes;
    }
    files.push(start..end);
    let mut paddings = 0;
    let planned = files.into_iter().map(|needs| {
        let planned = Planned::new(origin, needs, options.padding, paddings);
        paddings += planned.layout.paddings;
        planned
    });
    planned.collect()
}
