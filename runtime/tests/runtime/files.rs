//! One file, an index, a folder: which files are opened, and what is wrong with them.

use std::fs;
use std::path::Path;

use pycandle::{DType, Device, Weights};

use crate::{folder, save};

fn index(dir: &Path, entries: &[(&str, &str)]) {
    let entries: Vec<String> = entries
        .iter()
        .map(|(k, v)| format!("{k:?}:{v:?}"))
        .collect();
    let json = format!(
        r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#,
        entries.join(",")
    );
    fs::write(dir.join("model.safetensors.index.json"), json).expect("a writable folder");
}

fn refuse(path: &Path, expected: &[&str]) {
    let text = Weights::open(path)
        .expect_err("something to refuse")
        .to_string();
    for expected in expected {
        assert!(text.contains(expected), "`{expected}` is not in: {text}");
    }
}

fn shards(dir: &Path) {
    save(&dir.join("model-1.safetensors"), &[("a", &[1], &[1.])]);
    save(&dir.join("model-2.safetensors"), &[("b", &[1], &[2.])]);
}

fn values(weights: &Weights) -> Vec<(String, f32)> {
    let scope = weights.scope(DType::F32, &Device::Cpu);
    let value = |name: &str| {
        let tensor = scope.param(name, 1).and_then(|param| param.tensor());
        tensor
            .expect("a tensor")
            .to_vec1::<f32>()
            .expect("a vector")[0]
    };
    let names = weights.names();
    names
        .iter()
        .map(|name| (name.to_string(), value(name)))
        .collect()
}

#[test]
fn a_folder_its_index_and_its_shards_are_the_same_checkpoint() {
    let dir = folder();
    shards(dir.path());
    let expected = [("a".to_string(), 1.), ("b".to_string(), 2.)];
    assert_eq!(
        values(&Weights::open(dir.path()).expect("shards")),
        expected
    );
    index(
        dir.path(),
        &[("a", "model-1.safetensors"), ("b", "model-2.safetensors")],
    );
    // A file that the index does not name is not part of the checkpoint.
    save(
        &dir.path().join("optimizer.safetensors"),
        &[("a", &[1], &[9.])],
    );
    assert_eq!(
        values(&Weights::open(dir.path()).expect("an index")),
        expected
    );
    let file = dir.path().join("model.safetensors.index.json");
    assert_eq!(values(&Weights::open(file).expect("an index")), expected);
}

#[test]
fn shards_in_a_subfolder_of_the_index() {
    let dir = folder();
    fs::create_dir(dir.path().join("parts")).expect("a folder");
    save(
        &dir.path().join("parts/x.safetensors"),
        &[("a", &[1], &[1.])],
    );
    index(dir.path(), &[("a", "parts/x.safetensors")]);
    assert_eq!(Weights::open(dir.path()).expect("an index").names(), ["a"]);
}

#[test]
fn missing_shards_are_reported_together() {
    let dir = folder();
    shards(dir.path());
    index(
        dir.path(),
        &[
            ("a", "model-1.safetensors"),
            ("b", "no.safetensors"),
            ("c", "nor.safetensors"),
        ],
    );
    refuse(
        dir.path(),
        &[
            "model.safetensors.index.json: 2 problems",
            "`no.safetensors` for 1 tensors",
            "`nor.safetensors`",
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
        let dir = folder();
        index(dir.path(), &[("a", file)]);
        refuse(dir.path(), &["is not inside the folder"]);
    }
}

#[test]
fn index_and_shards_disagree() {
    let dir = folder();
    shards(dir.path());
    index(
        dir.path(),
        &[("a", "model-2.safetensors"), ("b", "model-2.safetensors")],
    );
    refuse(
        dir.path(),
        &[
            "`a` is not in ",
            "model-2.safetensors, where the index puts it",
        ],
    );
    index(
        dir.path(),
        &[("a", "model-1.safetensors"), ("a", "model-2.safetensors")],
    );
    refuse(dir.path(), &["index lists `a` twice"]);
    save(
        &dir.path().join("model-2.safetensors"),
        &[("a", &[1], &[1.]), ("b", &[1], &[2.])],
    );
    index(
        dir.path(),
        &[("a", "model-1.safetensors"), ("b", "model-2.safetensors")],
    );
    refuse(
        dir.path(),
        &[
            "`a` is in two shards",
            "model-1.safetensors",
            "model-2.safetensors",
        ],
    );
}

#[test]
fn a_broken_shard_is_named() {
    let dir = folder();
    shards(dir.path());
    let path = dir.path().join("model-2.safetensors");
    let bytes = fs::read(&path).expect("the shard");
    fs::write(&path, &bytes[..bytes.len() - 1]).expect("a writable folder");
    refuse(
        dir.path(),
        &[
            "model-2.safetensors",
            "`b` ends at byte",
            "the file was cut",
        ],
    );
}

#[test]
fn an_index_that_is_not_one() {
    let dir = folder();
    let path = dir.path().join("model.safetensors.index.json");
    for text in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
        "\u{0}",
    ] {
        fs::write(&path, text).expect("a writable folder");
        refuse(
            dir.path(),
            &["model.safetensors.index.json", "index is not valid"],
        );
    }
}

#[test]
fn folders_without_a_checkpoint() {
    let dir = folder();
    refuse(dir.path(), &["folder holds no `*.safetensors`"]);
    refuse(
        &dir.path().join("absent.safetensors"),
        &["absent.safetensors: No such file"],
    );
    index(dir.path(), &[]);
    fs::write(dir.path().join("other.safetensors.index.json"), "{}").expect("a writable folder");
    refuse(dir.path(), &["several indices", "open one of them by name"]);
}

#[test]
fn half_a_million_tensors() {
    let dir = folder();
    let path = dir.path().join("many.safetensors");
    let count = 442_368;
    let entries: Vec<String> = (0..count)
        .map(|i| {
            let (start, end) = (i * 90_112, (i + 1) * 90_112);
            format!(
                r#""model.layers.{}.mlp.experts.{}.proj_{}.weight":{{"dtype":"BF16","shape":[22,2048],"data_offsets":[{start},{end}]}}"#,
                i / 9216, i / 18 % 512, i % 18
            )
        })
        .collect();
    crate::write(&path, &format!("{{{}}}", entries.join(",")), &[]);
    let file = fs::File::options()
        .write(true)
        .open(&path)
        .expect("the file");
    let header = file.metadata().expect("metadata").len();
    file.set_len(header + count * 90_112)
        .expect("a sparse file");
    let start = std::time::Instant::now();
    let weights = Weights::open(&path).expect("a sparse file of 40 GB");
    let elapsed = start.elapsed();
    assert_eq!(weights.len(), count as usize);
    // A loaded machine may take longer than the second that it takes alone at most.
    assert!(elapsed.as_secs_f64() < 5.0, "opening took {elapsed:?}");
    println!("opened {count} tensors in {elapsed:?}");
}
