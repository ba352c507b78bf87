//! One file of the output: which tensors it holds, where, and its header.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;

use super::layout::{Entry, LINE, Layout, Sizes};
use super::{Origin, Piece};
use crate::header::PADDING;

/// The format's own limit for the length of the header, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// A file to write.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    origin: Origin<'a>,
    /// The needs that it holds, by their numbers; those among them that are tied are not written.
    needs: Range<u32>,
    pub layout: Layout,
    /// Number of the first padding entry: names are unique in all files together.
    first_padding: usize,
}

/// A part of a file's data.
enum Content<'a> {
    Tensor(Piece<'a>),
    /// So many zeros.
    Padding(u32),
}

impl<'a> Planned<'a> {
    pub fn new(origin: Origin<'a>, needs: Range<u32>, padding: bool, first_padding: usize) -> Self {
        let mut planned = Self {
            origin,
            needs,
            layout: Layout::default(),
            first_padding,
        };
        let mut sizes = Sizes::default();
        for need in planned.needs.clone() {
            match origin.written(need) {
                Some(piece) => sizes.push(piece.bytes, piece.to.block().0),
                // What is not written has its place in the layout as well, of no bytes.
                None => sizes.push(0, 1),
            }
        }
        planned.layout = Layout::new(sizes, padding);
        planned
    }

    /// The tensor of this number in the layout.
    fn piece(&self, index: u32) -> Option<Piece<'a>> {
        self.origin.written(self.needs.start + index)
    }

    /// All tensors, in the order of the trace.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'a>> + '_ {
        let needs = self.needs.clone();
        needs.filter_map(|need| self.origin.written(need))
    }

    /// What the data consists of, in order: each with the byte at which it starts.
    fn contents(&self) -> impl Iterator<Item = (u64, Content<'a>)> + '_ {
        let mut end = 0;
        self.layout.entries().filter_map(move |entry| {
            let start = end;
            let (content, bytes) = match entry {
                Entry::Padding(len) => (Content::Padding(len), u64::from(len)),
                Entry::Tensor(index) => {
                    let piece = self.piece(index)?;
                    let bytes = piece.bytes;
                    (Content::Tensor(piece), bytes)
                }
            };
            end += bytes;
            Some((start, content))
        })
    }

    /// All tensors in the order of the data, each with the byte at which it starts.
    pub fn placed(&self) -> impl Iterator<Item = (u64, Piece<'a>)> + '_ {
        self.contents()
            .filter_map(|(start, content)| match content {
                Content::Tensor(piece) => Some((start, piece)),
                Content::Padding(_) => None,
            })
    }

    /// Bytes of tensors, without padding.
    pub fn bytes(&self) -> u64 {
        self.pieces().map(|piece| piece.bytes).sum()
    }

    /// Where the data starts: behind the header, and spaces up to where it has to.
    pub fn data_start(&self, metadata: &BTreeMap<String, String>) -> Result<u64, String> {
        let mut count = Count(8);
        // Counting does not fail.
        let _ = self.write_json(metadata, &mut count);
        let Count(len) = count;
        let (start, unit) = (self.layout.start, self.layout.unit);
        let data = (len + unit - start).next_multiple_of(unit) + start - unit;
        debug_assert!(data >= len && data.is_multiple_of(LINE));
        match data - 8 {
            len if len > MAX_HEADER => Err(format!(
                "the header of {} tensors takes {len} bytes, the format allows {MAX_HEADER}: \
                 write several files with --shard-size",
                self.pieces().count()
            )),
            _ => Ok(data),
        }
    }

    /// Writes everything before the data, which starts at the byte `data`.
    pub fn write_header(
        &self,
        metadata: &BTreeMap<String, String>,
        data: u64,
        to: &mut impl Write,
    ) -> io::Result<()> {
        to.write_all(&(data - 8).to_le_bytes())?;
        let mut count = Count(8);
        self.write_json(metadata, &mut count)?;
        self.write_json(metadata, to)?;
        let Count(len) = count;
        io::copy(&mut io::repeat(b' ').take(data - len), to).map(|_| ())
    }

    fn write_json(
        &self,
        metadata: &BTreeMap<String, String>,
        to: &mut impl Write,
    ) -> io::Result<()> {
        write!(to, "{{\"__metadata__\":{}", json(metadata))?;
        let mut paddings = self.first_padding..;
        for (start, content) in self.contents() {
            let (name, dtype, shape, end) = match content {
                Content::Tensor(piece) => {
                    let end = start + piece.bytes;
                    let shape = json(piece.tensor.shape());
                    (json(&piece.name), piece.to.name(), shape, end)
                }
                Content::Padding(len) => {
                    let number = paddings.next().unwrap_or_default();
                    let name = json(&format!("{PADDING}{number}"));
                    let end = start + u64::from(len);
                    (name, "U8", format!("[{len}]"), end)
                }
            };
            write!(
                to,
                ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}"
            )?;
        }
        to.write_all(b"}")
    }
}

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the index of several files: `weight_map` as Hugging Face has it, in the order of the trace.
pub(super) fn write_index(
    files: &[Planned],
    names: &[String],
    to: &mut impl Write,
) -> io::Result<()> {
    let total: u64 = files.iter().map(Planned::bytes).sum();
    write!(
        to,
        "{{\n  \"metadata\": {{\n    \"total_size\": {total}\n  }},\n  \"weight_map\": {{"
    )?;
    let mut comma = "";
    for (file, name) in files.iter().zip(names) {
        for piece in file.pieces() {
            write!(to, "{comma}\n    {}: {}", json(&piece.name), json(name))?;
            comma = ",";
        }
    }
    to.write_all(b"\n  }\n}\n")
}

/// JSON of a value that has one: text, numbers, and lists and maps of them.
fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
