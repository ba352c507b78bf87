//! Lines and field paths in a JSON text: found by offset, so that parsing keeps none of them.

use serde_json::value::RawValue;

use super::json::Entries;

/// Deeper than the parser itself goes; below that a path says enough.
const MAX_DEPTH: usize = 128;

/// Line starts of a text.
pub(crate) struct Lines<'a> {
    text: &'a str,
    newlines: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|&(_, b)| b == b'\n')
            .map(|(i, _)| i);
        Self {
            text,
            newlines: newlines.collect(),
        }
    }

    /// The line, from 1, of a part of the text.
    pub(crate) fn of(&self, part: &str) -> usize {
        self.at(offset_in(self.text, part))
    }

    /// The line, from 1, of a byte offset.
    pub(crate) fn at(&self, offset: usize) -> usize {
        self.newlines.partition_point(|&newline| newline < offset) + 1
    }
}

/// Where `part` begins within `text`; 0 if it is not a part of it.
fn offset_in(text: &str, part: &str) -> usize {
    let offset = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    if offset <= text.len() { offset } else { 0 }
}

/// The byte offset in `text` at which serde_json reports an error.
pub(crate) fn error_offset(text: &str, error: &serde_json::Error) -> usize {
    let start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    (start + error.column().saturating_sub(1)).min(text.len())
}

/// The error's text without its position, which is relative to an element, and without the names of
/// types of Rust.
pub(crate) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    match (error.classify(), text[..cut].split_once("expected struct ")) {
        (serde_json::error::Category::Eof, _) => "the file is cut short".to_owned(),
        (_, Some((before, _))) => format!("{before}expected a JSON object"),
        _ => text[..cut].to_owned(),
    }
}

/// Where a text that is valid JSON is no object: the offset of what it is, and what is said of it.
pub(crate) fn no_object(text: &str) -> Option<(usize, String)> {
    let value = text.trim_ascii_start();
    let found = match value.bytes().next()? {
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => return None,
    };
    serde_json::from_str::<serde::de::IgnoredAny>(value).ok()?;
    let message = format!("expected a JSON object, found {found}");
    Some((text.len() - value.len(), message))
}

/// The path from `text` (one JSON value) down to the value around `offset`, as `.args.input[2]`.
pub(crate) fn path_to(text: &str, offset: usize) -> String {
    let mut path = String::new();
    descend(text, text, offset, &mut path, 0);
    path
}

fn descend(whole: &str, part: &str, offset: usize, path: &mut String, depth: usize) {
    let around = |child: &str| {
        let start = offset_in(whole, child);
        (start..=start + child.len()).contains(&offset)
    };
    if depth == MAX_DEPTH {
        return;
    }
    if part.starts_with('{') {
        let Ok(Entries(entries)) = serde_json::from_str::<Entries<'_, &RawValue>>(part) else {
            return;
        };
        if let Some((key, child)) = entries.iter().find(|(_, child)| around(child.get())) {
            path.push('.');
            path.push_str(key);
            descend(whole, child.get(), offset, path, depth + 1);
        }
    } else if part.starts_with('[') {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(part) else {
            return;
        };
        if let Some((index, child)) = items
            .iter()
            .enumerate()
            .find(|(_, child)| around(child.get()))
        {
            path.push_str(&format!("[{index}]"));
            descend(whole, child.get(), offset, path, depth + 1);
        }
    }
}
