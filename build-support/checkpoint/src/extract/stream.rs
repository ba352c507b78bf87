//! Bytes of the source to bytes of a file, in pieces of bounded size, on several threads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use half::{bf16, f16};

use super::file::Planned;
use super::{Piece, Progress};
use crate::blocks;
use crate::convert::{Sink, floats};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::open::{Checkpoint, Shard};
use crate::validate::Rows;

/// Bytes that are read or written at once: as much as stays in a processor's cache, many times what
/// makes a system call worth it.
const CHUNK: u64 = 1 << 20;
/// Threads at most: more do not make a disk faster.
const THREADS: usize = 8;

/// Writes all tensors of a file whose header is there; `data` is where its data starts.
///
/// Returns what had no room in its dtype; `None` when `progress` stopped it.
pub(super) fn write<'a>(
    checkpoint: &Checkpoint,
    planned: &Planned<'a>,
    to: (&File, &Path),
    data: u64,
    progress: Progress,
) -> Result<Option<Overflows<'a>>> {
    let work = Work {
        jobs: Mutex::new(Some(planned.placed().flat_map(jobs))),
        failed: Mutex::new(None),
        overflows: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(THREADS) {
            scope.spawn(|| {
                let mut buffers = Buffers::default();
                while let Some(job) = work.next() {
                    let done = buffers.run(checkpoint, &job, to, data);
                    work.count(&job.piece, done.as_ref().map_or(0, |&count| count));
                    let go_on = done.is_ok() && progress(job.bytes());
                    if !go_on {
                        work.stop(done.err());
                    }
                }
            });
        }
    });
    let (jobs, failed) = (into_inner(work.jobs), into_inner(work.failed));
    let overflows = into_inner(work.overflows);
    failed.map_or(Ok(jobs.map(|_| overflows)), Err)
}

/// How many finite values of a tensor became infinite, by its name.
pub(super) type Overflows<'a> = BTreeMap<Cow<'a, str>, usize>;

/// Whether two tensors of the same dtype and shape have the same bytes.
pub(super) fn same(checkpoint: &Checkpoint, a: &Piece, b: &Piece) -> Result<bool> {
    let mut buffers = [Vec::new(), Vec::new()];
    let total = a.tensor.bytes();
    let mut at = 0;
    while at < total {
        let len = CHUNK.min(total - at);
        for (piece, buffer) in [a, b].into_iter().zip(&mut buffers) {
            buffer.resize(len as usize, 0);
            read(checkpoint, piece, at, buffer)?;
        }
        if buffers[0] != buffers[1] {
            return Ok(false);
        }
        at += len;
    }
    Ok(true)
}

struct Work<'a, J> {
    /// What is left to do; `None` after a stop.
    jobs: Mutex<Option<J>>,
    failed: Mutex<Option<Error>>,
    overflows: Mutex<Overflows<'a>>,
}

/// A run of elements of one tensor.
struct Job<'a> {
    piece: Piece<'a>,
    /// First element, and their number.
    first: u64,
    count: u64,
    /// Where the tensor starts in the data.
    start: u64,
}

/// The runs of elements that a tensor goes through in.
fn jobs<'a>((start, piece): (u64, Piece<'a>)) -> impl Iterator<Item = Job<'a>> {
    let (all, at_once) = (piece.elements(), piece.elements_in(CHUNK));
    (0..all).step_by(at_once as usize).map(move |first| Job {
        first,
        count: at_once.min(all - first),
        piece: piece.clone(),
        start,
    })
}

impl<'a, J: Iterator<Item = Job<'a>>> Work<'a, J> {
    fn next(&self) -> Option<Job<'a>> {
        lock(&self.jobs).as_mut()?.next()
    }

    fn count(&self, piece: &Piece<'a>, overflows: usize) {
        if overflows > 0 {
            *lock(&self.overflows).entry(piece.name.clone()).or_default() += overflows;
        }
    }

    fn stop(&self, error: Option<Error>) {
        *lock(&self.jobs) = None;
        let mut failed = lock(&self.failed);
        *failed = failed.take().or(error);
    }
}

impl Job<'_> {
    /// Bytes that it writes.
    fn bytes(&self) -> u64 {
        size(self.piece.to, self.count)
    }
}

/// Bytes of this many elements, which are whole blocks.
fn size(dtype: Dtype, elements: u64) -> u64 {
    let (bytes, block) = dtype.block();
    elements / block * bytes
}

impl Piece<'_> {
    fn elements(&self) -> u64 {
        let (bytes, block) = self.tensor.dtype().block();
        self.tensor.bytes() / bytes * block
    }

    /// Elements that take at most `bytes` in the source and in the output, or one block.
    fn elements_in(&self, bytes: u64) -> u64 {
        let of = |dtype: Dtype| (bytes / dtype.block().0).max(1) * dtype.block().1;
        let (from, to) = (self.tensor.dtype(), self.to);
        let block = from.block().1.max(to.block().1);
        (of(from).min(of(to)) / block).max(1) * block
    }
}

/// What a thread reads into and converts into.
#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    converted: Vec<u8>,
}

impl Buffers {
    /// Returns how many finite values became infinite.
    fn run(
        &mut self,
        checkpoint: &Checkpoint,
        job: &Job,
        (file, path): (&File, &Path),
        data: u64,
    ) -> Result<usize> {
        let (from, to) = (job.piece.tensor.dtype(), job.piece.to);
        self.read.resize(size(from, job.count) as usize, 0);
        read(
            checkpoint,
            &job.piece,
            size(from, job.first),
            &mut self.read,
        )?;
        let (bytes, overflows) = match from == to {
            true => (&self.read, 0),
            false => {
                self.converted.resize(job.bytes() as usize, 0);
                let overflows = convert(&self.read, from, to, &mut self.converted);
                (&self.converted, overflows)
            }
        };
        let at = data + job.start + size(to, job.first);
        write_at(file, bytes, at).map_err(|error| Error::io(path, &error))?;
        Ok(overflows)
    }
}

/// Reads bytes of a tensor, counted in the order of its rows in the trace.
fn read(checkpoint: &Checkpoint, piece: &Piece, mut at: u64, mut buffer: &mut [u8]) -> Result<()> {
    let shard = &checkpoint.shards()[piece.tensor.shard()];
    let start = piece.tensor.range().start;
    let (rows, row) = match piece.rows {
        Rows::AsStored => (1, piece.tensor.bytes()),
        Rows::Interleaved { .. } => {
            let rows = piece.tensor.shape().first().map_or(1, |&rows| rows as u64);
            (rows, piece.tensor.bytes() / rows.max(1))
        }
    };
    while !buffer.is_empty() {
        let (number, within) = (at / row, at % row);
        let len = (row - within).min(buffer.len() as u64);
        let (now, rest) = buffer.split_at_mut(len as usize);
        let from = start + stored_row(number, rows, piece.rows) * row + within;
        read_from(shard, now, from)?;
        (buffer, at) = (rest, at + len);
    }
    Ok(())
}

/// Where the file has a row of the trace.
fn stored_row(row: u64, rows: u64, order: Rows) -> u64 {
    match order {
        Rows::AsStored => row,
        Rows::Interleaved { heads } => {
            let d = rows / heads as u64;
            let (head, within) = (row / d, row % d);
            head * d + within % (d / 2) * 2 + within / (d / 2)
        }
    }
}

fn read_from(shard: &Shard, buffer: &mut [u8], at: u64) -> Result<()> {
    let done = match shard.file() {
        Some(file) => read_at(file, buffer, at),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    done.map_err(|error| {
        let end = at + buffer.len() as u64;
        let text = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("bytes {at} to {end} are gone: the file was cut while it was read")
            }
            _ => format!("cannot read bytes {at} to {end}: {error}"),
        };
        Error::file(shard.shown(), vec![text])
    })
}

/// Converts whole elements; the pair is one of those that [`converts`] allows. Returns how many
/// finite values became infinite.
fn convert(bytes: &[u8], from: Dtype, to: Dtype, out: &mut [u8]) -> usize {
    let Some(decode) = blocks::decoder(from) else {
        return convert_plain(bytes, from, to, out);
    };
    let (block, elements) = from.block();
    let (mut values, mut stored) = ([0f32; 256], [0u8; 1024]);
    let (values, stored) = (
        &mut values[..elements as usize],
        &mut stored[..4 * elements as usize],
    );
    let mut overflows = 0;
    let outs = out.chunks_exact_mut(size(to, elements) as usize);
    for (block, out) in bytes.chunks_exact(block as usize).zip(outs) {
        decode(block, values);
        for (to, value) in stored.as_chunks_mut().0.iter_mut().zip(&*values) {
            *to = value.to_le_bytes();
        }
        overflows += convert_plain(stored, Dtype::F32, to, out);
    }
    overflows
}

fn convert_plain(bytes: &[u8], from: Dtype, to: Dtype, out: &mut [u8]) -> usize {
    match to {
        Dtype::F32 => floats::<f32, _>(bytes, from, LittleEndian(out)),
        Dtype::F16 => floats::<f16, _>(bytes, from, LittleEndian(out)),
        _ => floats::<bf16, _>(bytes, from, LittleEndian(out)),
    };
    // What is not finite stays so.
    match not_finite(out, to) {
        0 => 0,
        count => count.saturating_sub(not_finite(bytes, from)),
    }
}

/// How many values are infinite or not a number: those with all bits of the exponent set.
fn not_finite(bytes: &[u8], dtype: Dtype) -> usize {
    fn count<const N: usize>(bytes: &[u8], is_one: impl Fn([u8; N]) -> bool) -> usize {
        let elements = bytes.as_chunks().0.iter();
        elements.map(|bytes| usize::from(is_one(*bytes))).sum()
    }
    let half = |exponent| count(bytes, move |b| u16::from_le_bytes(b) & exponent == exponent);
    match dtype {
        Dtype::F64 => count(bytes, |b| !f64::from_le_bytes(b).is_finite()),
        Dtype::F32 => count(bytes, |b| !f32::from_le_bytes(b).is_finite()),
        Dtype::F16 => half(0x7c00),
        Dtype::BF16 => half(0x7f80),
        Dtype::F8_E4M3 => count(bytes, |[b]| b & 0x7f == 0x7f),
        _ => 0,
    }
}

/// Whether [`convert`] knows the pair.
pub(super) fn converts(from: Dtype, to: Dtype) -> bool {
    let plain = [
        Dtype::F64,
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F8_E4M3,
    ];
    let readable = plain.contains(&from) || blocks::decoder(from).is_some();
    readable && [Dtype::F32, Dtype::F16, Dtype::BF16].contains(&to)
}

struct LittleEndian<'a>(&'a mut [u8]);

macro_rules! sink {
    ($($bits:ty)*) => {$(
        impl Sink<$bits> for LittleEndian<'_> {
            type Out = ();
            fn fill<const N: usize>(
                self,
                elements: &[[u8; N]],
                convert: impl Fn([u8; N]) -> $bits + Sync,
            ) {
                for (to, from) in self.0.as_chunks_mut().0.iter_mut().zip(elements) {
                    *to = convert(*from).to_le_bytes();
                }
            }
        }
    )*};
}

sink!(u16 f32);

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, buffer, at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (buffer, at) = (&mut buffer[n..], at + n as u64);
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        (bytes, at) = (&bytes[n..], at + n as u64);
    }
    Ok(())
}

/// A panic elsewhere leaves what these locks hold whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
