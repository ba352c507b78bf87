//! One file, an index, a folder: which files are opened, and what is wrong with them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use pycandle_checkpoint::Checkpoint;

use crate::{folder, header};

/// A safetensors file with these tensors of one byte each.
fn shard(path: &Path, names: &[&str]) {
    let entries = names.iter().enumerate().map(|(i, name)| {
        let end = i + 1;
        format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{end}]}}"#)
    });
    let json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    fs::write(path, header(&json, names.len())).expect("a writable folder");
}

fn index(folder: &Path, entries: &[(&str, &str)]) {
    let entries = entries.iter().map(|(k, v)| format!("{k:?}:{v:?}"));
    let entries = entries.collect::<Vec<_>>().join(",");
    let json = format!(r#"{{"metadata":{{}},"weight_map":{{{entries}}}}}"#);
    fs::write(folder.join("model.safetensors.index.json"), json).expect("a writable folder");
}

fn shards() -> tempfile::TempDir {
    let folder = folder();
    shard(&folder.path().join("model-1.safetensors"), &["a"]);
    shard(&folder.path().join("model-2.safetensors"), &["b"]);
    folder
}

/// Name and file of every tensor.
fn tensors(path: &Path) -> Vec<(String, String)> {
    let checkpoint = Checkpoint::open(path).expect("a good checkpoint");
    let mut tensors: Vec<_> = checkpoint
        .iter()
        .map(|tensor| {
            assert_eq!(
                checkpoint.get(tensor.name()).map(|t| t.range()),
                Some(tensor.range())
            );
            let file = checkpoint.shards()[tensor.shard()].path().file_name();
            let file = file.unwrap_or_default().to_string_lossy().into_owned();
            (tensor.name().to_owned(), file)
        })
        .collect();
    tensors.sort();
    tensors
}

#[track_caller]
fn refused(path: &Path, expected: &[&str]) {
    let text = Checkpoint::open_shown(path, Path::new("w"))
        .expect_err("something to refuse")
        .to_string();
    assert!(text.starts_with('w'), "no file in: {text}");
    for expected in expected {
        assert!(text.contains(expected), "`{expected}` is not in: {text}");
    }
}

#[test]
fn a_folder_its_index_and_its_shards_are_the_same_checkpoint() {
    let folder = shards();
    let expected = [("a", "model-1.safetensors"), ("b", "model-2.safetensors")];
    let owned = expected.map(|(name, file)| (name.to_owned(), file.to_owned()));
    assert_eq!(tensors(folder.path()), owned);
    index(folder.path(), &expected);
    // A file that the index does not name is not part of the checkpoint.
    shard(&folder.path().join("optimizer.safetensors"), &["a"]);
    assert_eq!(tensors(folder.path()), owned);
    let path = folder.path().join("model.safetensors.index.json");
    assert_eq!(tensors(&path), owned);
    let checkpoint = Checkpoint::open(&path).expect("an index");
    assert_eq!(checkpoint.files().count(), 3);
    assert_eq!(checkpoint.folder(), folder.path());
}

#[test]
fn shards_in_a_subfolder_of_the_index() {
    let folder = folder();
    fs::create_dir(folder.path().join("parts")).expect("a folder");
    shard(&folder.path().join("parts/x.safetensors"), &["a"]);
    index(folder.path(), &[("a", "parts/x.safetensors")]);
    assert_eq!(
        tensors(folder.path()),
        [("a".to_owned(), "x.safetensors".to_owned())]
    );
}

#[test]
fn missing_shards_are_reported_together() {
    let folder = shards();
    let entries = [
        ("a", "model-1.safetensors"),
        ("b", "no.safetensors"),
        ("c", "nor.safetensors"),
    ];
    index(folder.path(), &entries);
    refused(
        folder.path(),
        &[
            "w/model.safetensors.index.json: 2 problems",
            "`b` at byte 55 is in the file `no.safetensors`, which is not there: download it",
            "`c` at byte 76 is in the file `nor.safetensors`",
        ],
    );
}

#[test]
fn an_index_cannot_leave_its_folder() {
    for file in [
        "../x.safetensors",
        "/etc/passwd",
        "a/../../b",
        "",
        ".",
        "C:\\x",
        "a\\..\\b",
    ] {
        let folder = folder();
        index(folder.path(), &[("a", file)]);
        refused(
            folder.path(),
            &[
                "`a` at byte 29 is in the file",
                "which is not inside the folder",
            ],
        );
    }
}

#[test]
fn index_and_shards_disagree() {
    let folder = shards();
    let elsewhere = [("a", "model-2.safetensors"), ("b", "model-2.safetensors")];
    index(folder.path(), &elsewhere);
    refused(
        folder.path(),
        &["`a` is not in model-2.safetensors, where the index puts it: index and file are of two"],
    );
    let twice = [("a", "model-1.safetensors"), ("a", "model-2.safetensors")];
    index(folder.path(), &twice);
    refused(
        folder.path(),
        &[
            "w/model.safetensors.index.json: `a` at byte 55 is listed twice, in \
             `model-1.safetensors` and in `model-2.safetensors`",
        ],
    );
    shard(&folder.path().join("model-2.safetensors"), &["a", "b"]);
    index(
        folder.path(),
        &[("a", "model-1.safetensors"), ("b", "model-2.safetensors")],
    );
    refused(
        folder.path(),
        &["`a` is in model-1.safetensors and in model-2.safetensors"],
    );
}

#[test]
fn two_checkpoints_in_one_folder_are_one_problem() {
    let folder = folder();
    let names: Vec<String> = (0..40).map(|i| format!("layers.{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    shard(&folder.path().join("consolidated.safetensors"), &names);
    shard(&folder.path().join("model.safetensors"), &names);
    refused(
        folder.path(),
        &[
            "w: `layers.0` and 39 more are in consolidated.safetensors and in model.safetensors: \
             where these are two checkpoints, open one of them by name",
        ],
    );
}

#[test]
fn broken_shards_are_named_together() {
    let folder = shards();
    for name in ["model-1.safetensors", "model-2.safetensors"] {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).expect("the shard");
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("a writable folder");
    }
    refused(
        folder.path(),
        &[
            "w/model-1.safetensors: `a` ends at byte",
            "w/model-2.safetensors: `b` ends at byte",
            "the file was cut",
        ],
    );
}

#[test]
fn folders_without_a_checkpoint() {
    let folder = folder();
    refused(
        folder.path(),
        &[
            "folder holds no `*.safetensors`",
            "name the folder of the weights",
        ],
    );
    refused(&folder.path().join("absent.safetensors"), &["No such file"]);
    index(folder.path(), &[]);
    fs::write(folder.path().join("other.safetensors.index.json"), "{}").expect("a writable folder");
    refused(
        folder.path(),
        &["several indices", "open one of them by name"],
    );
}

/// 80 B parameters: 512 experts in 48 layers, three matrices of six quantized parts each.
#[test]
fn half_a_million_tensors_are_opened() {
    const COUNT: u64 = 442_368;
    let folder = folder();
    let path = folder.path().join("many.safetensors");
    let name = |i: u64| {
        let (layer, expert, part) = (i / 9216, i / 18 % 512, i % 18);
        format!("model.layers.{layer}.mlp.experts.{expert}.proj_{part}.weight")
    };
    let entries = (0..COUNT).map(|i| {
        let (name, start, end) = (name(i), i * 90_112, (i + 1) * 90_112);
        format!(r#""{name}":{{"dtype":"BF16","shape":[22,2048],"data_offsets":[{start},{end}]}}"#)
    });
    let json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    let mut file = File::create(&path).expect("a writable folder");
    file.write_all(&header(&json, 0)).expect("a header");
    let data = 8 + json.len() as u64;
    file.set_len(data + COUNT * 90_112).expect("a sparse file");
    let checkpoint = Checkpoint::open(&path).expect("a sparse file of 40 GB");
    assert_eq!(checkpoint.len(), COUNT as usize);
    let last = checkpoint.get(&name(COUNT - 1)).expect("the last tensor");
    assert_eq!(last.range().end, data + COUNT * 90_112);
}
