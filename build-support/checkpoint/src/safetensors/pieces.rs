//! A long JSON object as several short ones.

use std::io::Read;

/// Bytes that are read at once.
const READ: usize = 1 << 20;
/// Bytes in which an entry has to end: more than any that is sound takes.
const LONGEST: usize = 8 << 20;

/// Gives the entries of an object as objects of some thousands of them each. Where these all are valid
/// JSON, so is the object, and says the same: what ends before a comma is whole only where the comma
/// is one between two entries.
pub(super) struct Pieces<R> {
    from: R,
    /// The current piece, what follows it, and how long the piece is.
    bytes: Vec<u8>,
    piece: usize,
    at_end: bool,
}

impl<R: Read> Pieces<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            bytes: Vec::new(),
            piece: 0,
            at_end: false,
        }
    }

    /// The next piece; `Some(None)` behind the last, `None` where there is none.
    pub fn next(&mut self) -> Option<Option<&[u8]>> {
        if self.at_end {
            return Some(None);
        }
        // The rest begins as the whole did; its first byte is where the comma was.
        if self.piece > 0 {
            let rest = self.bytes.len() - self.piece;
            self.bytes.copy_within(self.piece.., 1);
            self.bytes.truncate(1 + rest);
            self.bytes[0] = b'{';
        }
        while self.bytes.len() <= LONGEST {
            let more = (&mut self.from).take(READ as u64);
            let read = { more }.read_to_end(&mut self.bytes).ok()?;
            if self.bytes.first() != Some(&b'{') {
                return None;
            }
            if read == 0 {
                self.at_end = true;
                return Some(Some(&self.bytes));
            }
            if let Some(end) = self.bytes.windows(2).rposition(|bytes| bytes == b"},") {
                self.piece = end + 2;
                self.bytes[end + 1] = b'}';
                return Some(Some(&self.bytes[..self.piece]));
            }
        }
        None
    }
}
