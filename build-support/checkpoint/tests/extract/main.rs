//! Extraction: what is in the files, where it lies, and what becomes of them when it goes wrong.

mod bytes;
mod places;
mod renamed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pycandle_checkpoint::extract::{LARGE, LINE, Options, PAGE, Plan, Written};
use pycandle_checkpoint::{Checkpoint, Dtype, Expected, Need, Needs, PADDING, validate};
use safetensors::SafeTensors;

/// What a plan to write comes to: errors as text.
type Outcome = Result<Option<Written>, String>;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A file of the workspace's tests.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests")
        .join(name)
}

fn need(name: &str, dtype: Dtype, shape: &[usize]) -> Need<'static> {
    Need {
        name: name.to_owned().into(),
        // For as long as the test runs.
        shape: shape.to_vec().leak(),
        dtype,
        tied_to: None,
    }
}

/// A model that needs everything that this file holds, by its names.
fn needs_of(path: &Path) -> Vec<Need<'static>> {
    let checkpoint = Checkpoint::open(path).expect("a checkpoint");
    let mut needs: Vec<_> = checkpoint
        .iter()
        .map(|tensor| need(tensor.name(), tensor.dtype(), tensor.shape()))
        .collect();
    needs.sort_by(|a, b| a.name.cmp(&b.name));
    needs
}

fn extract_while(
    needs: &dyn Needs,
    source: &Path,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Outcome {
    let text = |error: pycandle_checkpoint::Error| error.to_string();
    let checkpoint = Checkpoint::open(source).map_err(text)?;
    let expected = Expected {
        trace: "test_manifest.json",
        needs,
        ..Expected::DEFAULT
    };
    let found = validate(&expected, &checkpoint).map_err(|error| error.to_string())?;
    let plan = Plan::new(&expected, &checkpoint, &found, out, options).map_err(text)?;
    plan.write(progress).map_err(text)
}

fn extract(needs: &dyn Needs, source: &Path, out: &Path, options: &Options) -> Outcome {
    extract_while(needs, source, out, options, &|_| true)
}

#[track_caller]
fn written(outcome: Outcome) -> Written {
    outcome.expect("no error").expect("no stop")
}

#[track_caller]
fn refused(outcome: Outcome, expected: &str) {
    let error = outcome.expect_err("an error");
    assert!(error.contains(expected), "`{expected}` is not in: {error}");
}

/// A safetensors file of these tensors, byte by byte another number.
fn write(path: &Path, tensors: &[(&str, Dtype, &[usize])]) {
    let (mut json, mut at) = (Vec::new(), 0);
    for (name, dtype, shape) in tensors {
        let end = at + dtype.bytes(shape).expect("a size");
        json.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#
        ));
        at = end;
    }
    let json = format!("{{{}}}", json.join(","));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.extend((0..at).map(|i| (i * 31 % 127) as u8));
    std::fs::write(path, bytes).expect("a writable folder");
}

/// Dtype, shape and bytes of every tensor, as the reference implementation reads them; checks that
/// each is aligned, if it was to be. Padding is left out.
#[track_caller]
fn read(path: &Path, aligned: bool) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("a valid file");
    let mut tensors = BTreeMap::new();
    for (name, tensor) in file.iter().filter(|(name, _)| !name.starts_with(PADDING)) {
        let data = tensor.data();
        let at = data.as_ptr() as usize - bytes.as_ptr() as usize;
        let unit = if data.len() as u64 >= LARGE {
            PAGE
        } else {
            LINE
        };
        assert!(
            !aligned || data.is_empty() || (at as u64).is_multiple_of(unit),
            "{name} at {at}"
        );
        let tensor = (
            tensor.dtype().to_string(),
            tensor.shape().to_vec(),
            data.to_vec(),
        );
        tensors.insert(name.to_owned(), tensor);
    }
    tensors
}

/// The names of a folder's files, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}
