//! A checkpoint → the text of its lock, and the hash over all that a lock says.

use std::fmt::Write;

use pycandle_checkpoint::{Checkpoint, Dtype};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::VERSION;
use super::facts::{Facts, File};
use super::names::patterns;

/// The text of the lock: sorted, one line for equal tensors of all layers, the same on every machine.
pub(super) fn text(facts: &Facts, checkpoint: &Checkpoint) -> String {
    let tensors = checkpoint
        .iter()
        .map(|tensor| (tensor.name(), (tensor.dtype(), tensor.shape())));
    let said = |(dtype, shape): (Dtype, &[usize])| Value::from(format!("{dtype} {shape:?}"));
    let weights = patterns(tensors)
        .into_iter()
        .map(|(names, tensor)| (names, said(tensor)));
    let files = facts.files.iter().map(|(name, file)| {
        let File { bytes, tensors } = file;
        let header = facts.header(name);
        let said = json!({"bytes": bytes, "header": header, "tensors": tensors});
        (name.clone(), said)
    });
    let format = if facts.is_gguf { "gguf" } else { "safetensors" };
    let sha256 = sha256(facts, checkpoint);
    let mut text = format!(
        "{{\n  \"pycandle_lock\": {VERSION},\n  \"sha256\": \"{sha256}\",\n  \"format\": \"{format}\""
    );
    section(&mut text, "files", files);
    if let Some(origin) = &facts.origin {
        let repository = origin.repository.iter();
        let repository = repository.map(|name| ("repository".to_owned(), name.as_str().into()));
        let commit = ("commit".to_owned(), origin.commit.as_str().into());
        section(&mut text, "origin", repository.chain([commit]));
    }
    section(&mut text, "metadata", facts.metadata.clone().into_iter());
    if let Some(config) = &facts.config {
        section(&mut text, "config", config.clone().into_iter());
    }
    section(&mut text, "weights", weights);
    text + "\n}\n"
}

fn section(text: &mut String, name: &str, entries: impl Iterator<Item = (String, Value)>) {
    let _ = write!(text, ",\n  \"{name}\": {{");
    let mut any = false;
    for (i, (key, value)) in entries.enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            text,
            "{comma}\n    {}: {}",
            Value::from(key),
            sorted(&value)
        );
        any = true;
    }
    text.push_str(if any { "\n  }" } else { "}" });
}

/// JSON in one form: keys in order and numbers as Rust writes them, whatever features of
/// `serde_json` the crates beside this one turn on.
pub(super) fn sorted(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(sorted).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|&(key, _)| key);
            let entry = |(key, value)| format!("{}: {}", Value::String(key), sorted(value));
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(k, v)| (k.clone(), v))
                .map(entry)
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => number.to_string(),
            (None, Some(number), _) => number.to_string(),
            (None, None, Some(number)) if number.is_finite() => format!("{number:?}"),
            _ => "null".to_owned(),
        },
        other => other.to_string(),
    }
}

/// The hash over everything that a lock says, in one order, however the lock is laid out.
pub(super) fn sha256(facts: &Facts, checkpoint: &Checkpoint) -> String {
    let mut hash = Sha256::new();
    // Each piece goes in with its length, so that no two sequences of pieces are the same bytes.
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    put(&[VERSION as u8, u8::from(facts.is_gguf)]);
    put(&(facts.files.len() as u64).to_le_bytes());
    for (name, file) in &facts.files {
        put(name.as_bytes());
        put(&file.bytes.to_le_bytes());
        put(&file.tensors.to_le_bytes());
        put(facts.header(name).as_bytes());
    }
    let origin = facts.origin.as_ref().map(ToString::to_string);
    put(origin.unwrap_or_default().as_bytes());
    for entries in [Some(&facts.metadata), facts.config.as_ref()] {
        put(&[u8::from(entries.is_some())]);
        for (key, value) in entries.into_iter().flatten() {
            put(key.as_bytes());
            put(sorted(value).as_bytes());
        }
    }
    let mut tensors: Vec<_> = checkpoint.iter().collect();
    tensors.sort_unstable_by_key(|tensor| tensor.name());
    put(&(tensors.len() as u64).to_le_bytes());
    for tensor in tensors {
        put(tensor.name().as_bytes());
        put(tensor.dtype().name().as_bytes());
        for &dim in tensor.shape() {
            put(&(dim as u64).to_le_bytes());
        }
    }
    hex(hash)
}

/// A hash as it is written.
pub(super) fn hex(hash: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
