//! Checkpoints of one file, of shards and of GGUF: the bytes come from the right place. What is
//! refused is tested where headers are read, in `pycandle-checkpoint`.

use std::fs;
use std::path::{Path, PathBuf};

use pycandle::{DType, Device, FileDtype, Weights};

use crate::{folder, save, write};

/// A file that the Python package `gguf` wrote.
pub fn gguf(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../tests/gguf").join(name)
}

fn values(weights: &Weights) -> Vec<(&str, f32)> {
    let scope = weights.scope(DType::F32, &Device::Cpu);
    let value = |name| {
        let tensor = scope.param(name, 1).and_then(|param| param.tensor());
        let values = tensor.expect("a tensor").to_vec1::<f32>();
        (name, values.expect("a vector")[0])
    };
    weights.names().into_iter().map(value).collect()
}

#[test]
fn shards_are_read_from_their_files() {
    let dir = folder();
    save(
        &dir.path().join("model-1.safetensors"),
        &[("b", &[1], &[2.]), ("c", &[1], &[3.])],
    );
    save(
        &dir.path().join("model-2.safetensors"),
        &[("a", &[1], &[1.])],
    );
    let weights = Weights::open(dir.path()).expect("shards");
    assert_eq!(values(&weights), [("a", 1.), ("b", 2.), ("c", 3.)]);
    let index = r#"{"weight_map":{"a":"model-2.safetensors","b":"model-1.safetensors"}}"#;
    let path = dir.path().join("model.safetensors.index.json");
    fs::write(&path, index).expect("a writable folder");
    let weights = Weights::open(&path).expect("an index");
    assert_eq!(values(&weights), [("a", 1.), ("b", 2.), ("c", 3.)]);
    assert_eq!(weights.path(), path);
}

#[test]
fn headers_are_shown() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"empty":{"shape":[0,3],"dtype":"F32","data_offsets":[1,1]},"scalar":{"dtype":"F32","shape":[],"data_offsets":[1,5]}}"#;
    write(&path, json, &[0; 5]);
    let weights = Weights::open(&path).expect("a good file");
    assert_eq!(weights.names(), ["b", "empty", "scalar"]);
    assert_eq!(weights.shape("empty"), Some(&[0, 3][..]));
    assert_eq!(weights.shape("scalar"), Some(&[][..]));
    assert_eq!(weights.file_dtype("b"), Some(FileDtype::Bool));
    assert_eq!(weights.file_dtype("c"), None);
    assert_eq!(weights.metadata("format"), Some("pt"));
    assert!(weights.contains("b") && !weights.is_empty());
    let text = Weights::open(dir.path().join("absent.safetensors"))
        .expect_err("no file")
        .to_string();
    assert!(text.contains("absent.safetensors: "), "{text}");
}

#[test]
fn plain_tensors_of_gguf() {
    let weights = Weights::open(gguf("kinds.gguf")).expect("a good file");
    assert_eq!(weights.metadata("kind.text"), Some("grün"));
    assert_eq!(weights.metadata("kind.u8"), None);
    let scope = weights.scope(DType::F32, &Device::Cpu).pp("plain");
    let expected = [[-2, -1, 0], [1, 2, 3]];
    for name in ["int8", "int16", "int32", "int64"] {
        let tensor = scope.param(name, (2, 3)).and_then(|param| param.tensor());
        let values = tensor.expect("integers").to_vec2::<i64>();
        assert_eq!(values.expect("I64"), expected, "{name}");
    }
    for name in ["float16", "float32", "float64"] {
        let tensor = scope.param(name, (2, 3)).and_then(|param| param.tensor());
        let values = tensor.expect("floats").to_vec2::<f32>().expect("F32");
        assert_eq!(values, expected.map(|row| row.map(|n| n as f32)), "{name}");
    }
}
