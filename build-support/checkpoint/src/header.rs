//! What a file's header says, in whichever format.

use std::collections::HashMap;

use crate::entries::Entries;

/// How the names of entries begin that are no tensor of any model, but zeros that align the next.
///
/// ```
/// assert!("__padding__.0".starts_with(pycandle_checkpoint::PADDING));
/// ```
pub const PADDING: &str = "__padding__.";

/// The checked contents of one file's header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub entries: Entries,
    pub metadata: HashMap<String, Value>,
}

/// A value of a file's metadata; safetensors has text alone.
///
/// ```
/// use pycandle_checkpoint::Value;
/// assert_eq!(Value::Text("pt".into()).as_text(), Some("pt"));
/// assert_eq!(Value::Integer(32).as_usize(), Some(32));
/// assert_eq!(Value::Integer(32).as_f64(), Some(32.0));
/// ```
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
    /// An array; only its length is kept. One of integers that are all the same, as GGUF has where
    /// all layers are alike, is that integer instead.
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

/// What is said of a file that ends too early.
pub(crate) const CUT: &str = "the file was cut, copy or download it again";

/// Adds what mends a damaged file to the first problem, unless that says so already.
pub(crate) fn mended(mut problems: Vec<String>, mend: &str) -> Vec<String> {
    if let Some(first) = problems.first_mut()
        && !["the file was cut", "`gguf_convert_endian.py`"]
            .iter()
            .any(|mend| first.contains(mend))
    {
        first.push_str(": ");
        first.push_str(mend);
    }
    problems
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

/// A key of the outermost object by its number, or one of the object that is its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub outer: usize,
    pub inner: Option<usize>,
}

/// What is wrong with the value of a key, or with the key.
///
/// A parser that gives no positions is asked for none: the few keys that something is wrong with are
/// looked up when everything has been read.
#[derive(Debug)]
pub(crate) struct KeyProblem {
    pub key: Key,
    pub name: String,
    /// What follows `<name> at byte <n>`, with what separates it.
    pub text: String,
}

impl KeyProblem {
    /// Each as a sentence in the order of the text, which is valid JSON and starts at byte `start`
    /// of its file.
    pub fn sentences(mut problems: Vec<Self>, json: &str, start: usize) -> Vec<String> {
        problems.sort_by_key(|problem| problem.key);
        let mut keys = keys(json);
        let mut last = None;
        let sentence = |problem: Self| {
            if last.is_none_or(|(key, _)| key != problem.key) {
                last = keys.find(|(key, _)| *key == problem.key);
            }
            let at = start + last.map_or(0, |(_, at)| at);
            format!("`{}` at byte {at}{}", problem.name, problem.text)
        };
        problems.into_iter().map(sentence).collect()
    }
}

/// Where the keys of valid JSON start, down to the second level.
fn keys(json: &str) -> impl Iterator<Item = (Key, usize)> {
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    let (mut outer, mut inner) = (0, 0);
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(at) {
            let start = at;
            at += 1;
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'"' => {
                    while let Some(&byte) = bytes.get(at) {
                        at += if byte == b'\\' { 2 } else { 1 };
                        if byte == b'"' {
                            break;
                        }
                    }
                    let mut rest = bytes.get(at..).unwrap_or_default().iter();
                    // A text before a colon is a key.
                    if rest.find(|byte| !byte.is_ascii_whitespace()) != Some(&b':') {
                        continue;
                    }
                    let key = match depth {
                        1 => {
                            (outer, inner) = (outer + 1, 0);
                            None
                        }
                        2 => {
                            inner += 1;
                            Some(inner - 1)
                        }
                        _ => continue,
                    };
                    let outer = usize::checked_sub(outer, 1)?;
                    return Some((Key { outer, inner: key }, start));
                }
                _ => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_start() {
        let json = r#"{"a": "x:y", "\"b\\" : {"c":["d", {"e":1}],"f":"g\""}, "h":{"i":2}}"#;
        let found: Vec<_> = keys(json)
            .map(|(key, at)| {
                let rest = json.get(at..).expect("a character");
                let name = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let name = name.flatten().next().expect("a text");
                (key.outer, key.inner, name)
            })
            .collect();
        let expected = [
            (0, None, "a"),
            (1, None, "\"b\\"),
            (1, Some(0), "c"),
            (1, Some(1), "f"),
            (2, None, "h"),
            (2, Some(0), "i"),
        ];
        let expected = expected.map(|(outer, inner, name)| (outer, inner, name.to_owned()));
        assert_eq!(found, expected);
    }
}
