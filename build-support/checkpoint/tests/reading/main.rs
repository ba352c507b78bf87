//! Opening checkpoints: good ones, and cut, lying or hostile ones, which are refused by file and byte.

mod files;
mod foreign;
mod gguf;
mod hostile;
mod index;
mod memory;
mod safetensors;
mod written;

use std::path::Path;

use pycandle_checkpoint::Checkpoint;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A safetensors file of this header and so many zeros.
fn header(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

/// Whether an error names a byte, in each of its problems.
fn names_a_byte(error: &str) -> bool {
    let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let names = |line: &str, word| line.split(word).skip(1).any(number);
    let byte = |line: &str| names(line, "byte ") || names(line, "bytes ");
    let mut lines = error.lines();
    let first = lines.next().unwrap_or_default();
    let head = first.ends_with(" problems");
    let more = |line: &str| line.starts_with("  and ") && line.ends_with(" more");
    (head || byte(first)) && lines.all(|line| byte(line) || more(line))
}

/// What is said of a file of these bytes.
fn outcome(bytes: &[u8]) -> Result<Checkpoint, String> {
    let folder = folder();
    let path = folder.path().join("hostile");
    std::fs::write(&path, bytes).expect("a writable folder");
    Checkpoint::open_shown(&path, Path::new("w/hostile")).map_err(|err| err.to_string())
}

/// The file is refused by its name, with this text.
#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let text = outcome(bytes).expect_err("something to refuse");
    assert!(text.starts_with("w/hostile: "), "no file in: {text}");
    assert!(text.contains(expected), "`{expected}` is not in: {text}");
    assert!(names_a_byte(&text), "no byte in: {text}");
}
