//! What a file's header says, in whichever format.

use std::collections::HashMap;

use crate::dtype::Dtype;

/// How the names of entries begin that are no tensor of any model, but zeros that align the next.
pub const PADDING: &str = "__padding__.";

/// One tensor of a file, as its header describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub dtype: Dtype,
    /// Where its shape lies in [`Header::dims`], and its rank.
    pub shape: (u32, u8),
    /// Bytes of the tensor, counted from the start of the file.
    pub start: u64,
    pub end: u64,
}

impl Entry {
    pub fn shape<'a>(&self, dims: &'a [usize]) -> &'a [usize] {
        let (start, rank) = (self.shape.0 as usize, self.shape.1 as usize);
        dims.get(start..start + rank).unwrap_or(&[])
    }
}

/// The checked contents of one file's header.
///
/// Half a million tensors are an ordinary input: shapes lie in one shared list.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub entries: HashMap<Box<str>, Entry>,
    pub dims: Vec<usize>,
    pub metadata: HashMap<String, Value>,
}

/// A value of a file's metadata; safetensors has text alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    Text(String),
    /// An integer of any width.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// An array; only its length is kept.
    Array(u64),
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one that is not negative.
    pub fn as_usize(&self) -> Option<usize> {
        match self {
            Self::Integer(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }
}

/// serde_json's message with the position as a byte of the file, in which `text` starts at `start`.
pub(crate) fn json_problem(text: &str, start: usize, err: &serde_json::Error) -> String {
    let before: usize = text
        .split_inclusive('\n')
        .take(err.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = start + before + err.column().saturating_sub(1);
    let message = err.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(m, _)| m);
    format!("not valid at byte {at}: {message}")
}
