//! A long JSON object as several short ones.

use std::io::Read;

/// Bytes that are read at once.
const READ: usize = 1 << 20;
/// Bytes in which an entry has to end: more than any that is sound takes.
const LONGEST: usize = 8 << 20;

/// Gives the entries of an object as objects of a few thousand of them each. Commas and brackets are
/// all that it looks at: an object in which these are wrong gives a piece that is no JSON.
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

    /// The next piece; `Some(None)` behind the last, `None` where there is none that is JSON.
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
        let (mut state, mut comma) = (State::default(), None);
        let mut seen = 0;
        loop {
            let read = (&mut self.from)
                .take(READ as u64)
                .read_to_end(&mut self.bytes);
            self.at_end = read.ok()? == 0;
            if self.bytes.first() != Some(&b'{') {
                return None;
            }
            for (at, &byte) in self.bytes.iter().enumerate().skip(seen) {
                if state.is_between(byte) {
                    comma = Some(at);
                }
            }
            seen = self.bytes.len();
            if self.at_end {
                return Some(Some(&self.bytes));
            }
            if let Some(comma) = comma {
                self.bytes[comma] = b'}';
                self.piece = comma + 1;
                return Some(Some(&self.bytes[..self.piece]));
            }
            if seen > LONGEST {
                return None;
            }
        }
    }
}

/// Where in an object the next byte is.
#[derive(Default)]
struct State {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl State {
    /// Whether this byte is the comma between two entries of the outermost object.
    fn is_between(&mut self, byte: u8) -> bool {
        if self.in_text {
            let ends = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_text = !ends;
            return false;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' => return self.depth == 1,
            _ => {}
        }
        false
    }
}
