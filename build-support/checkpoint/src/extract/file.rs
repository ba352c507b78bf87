//! One file of the output: which tensors it holds, where, and its header.

use std::collections::BTreeMap;

use super::Piece;
use super::layout::{self, Entry, LINE, Layout, Size};
use crate::header::PADDING;

/// The format's own limit for the length of the header, in bytes.
const MAX_HEADER: usize = 100_000_000;

/// A file to write.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub pieces: Vec<Piece<'a>>,
    pub layout: Layout,
    /// Number of the first padding entry: names are unique in all files together.
    first_padding: usize,
}

impl<'a> Planned<'a> {
    pub fn new(pieces: Vec<Piece<'a>>, padding: bool, first_padding: usize) -> Self {
        let size = |piece: &Piece| Size {
            bytes: piece.bytes,
            element: piece.to.block().0,
        };
        let sizes: Vec<Size> = pieces.iter().map(size).collect();
        Self {
            layout: layout::layout(&sizes, padding),
            pieces,
            first_padding,
        }
    }

    /// Number of padding entries.
    pub fn paddings(&self) -> usize {
        let entries = self.layout.entries.iter();
        entries
            .filter(|entry| matches!(entry, Entry::Padding { .. }))
            .count()
    }

    /// Bytes of tensors, without padding.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Everything before the data.
    pub fn header(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
        let mut text = vec![0; 8];
        text.extend(b"{\"__metadata__\":");
        text.extend(json(metadata).bytes());
        let mut paddings = self.first_padding..;
        for entry in &self.layout.entries {
            let (name, dtype, shape, start, end) = match *entry {
                Entry::Tensor { index, start } => {
                    let piece = &self.pieces[index];
                    let end = start + piece.bytes;
                    let shape = json(piece.tensor.shape());
                    (json(piece.name), piece.to.name(), shape, start, end)
                }
                Entry::Padding { start, len } => {
                    let number = paddings.next().unwrap_or_default();
                    let name = json(&format!("{PADDING}{number}"));
                    (name, "U8", format!("[{len}]"), start, start + len)
                }
            };
            let entry = format!(
                ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}"
            );
            text.extend(entry.bytes());
        }
        text.push(b'}');
        // Spaces up to where the data has to start.
        let (start, unit) = (self.layout.start as usize, self.layout.unit as usize);
        let end = (text.len() + unit - start).next_multiple_of(unit) + start - unit;
        debug_assert!(end >= text.len() && (end as u64).is_multiple_of(LINE));
        text.resize(end, b' ');
        let len = text.len() - 8;
        if len > MAX_HEADER {
            return Err(format!(
                "the header of {} tensors takes {len} bytes, the format allows {MAX_HEADER}: \
                 write several files with --shard-size",
                self.pieces.len()
            ));
        }
        text[..8].copy_from_slice(&(len as u64).to_le_bytes());
        Ok(text)
    }
}

/// The index of several files: `weight_map` as Hugging Face writes it.
pub(super) fn index(files: &[Planned], names: &[String]) -> String {
    let pairs = files.iter().zip(names);
    let map: BTreeMap<&str, &str> = pairs
        .flat_map(|(file, name)| file.pieces.iter().map(|piece| (piece.name, name.as_str())))
        .collect();
    let total: u64 = files.iter().map(Planned::bytes).sum();
    let index = serde_json::json!({
        "metadata": { "total_size": total },
        "weight_map": map,
    });
    format!("{index:#}\n")
}

/// JSON of a value that has one: text, numbers, and lists and maps of them.
fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
