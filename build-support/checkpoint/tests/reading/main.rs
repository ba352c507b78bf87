//! Opening checkpoints: good ones, and cut, lying or hostile ones, which are refused by file and byte.

mod files;
mod gguf;
mod hostile;
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
}
