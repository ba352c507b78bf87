//! Locks that were written, read back, edited, merged badly and made up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

mod headers;
mod origin;
mod properties;

/// A header and nothing behind it but zeros.
fn safetensors(header: &str) -> Vec<u8> {
    let end = |text: &str| {
        text.rsplit("data_offsets\":[")
            .next()?
            .split([',', ']'])
            .nth(1)?
            .parse()
            .ok()
    };
    let data = end(header).unwrap_or(0);
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &vec![0; data],
    ]
    .concat()
}

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"l.0.w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"l.1.w":{"dtype":"F32","shape":[2,3],"data_offsets":[24,48]},"head":{"dtype":"BF16","shape":[4],"data_offsets":[48,56]}}"#;
const CONFIG: &str = r#"{"num_hidden_layers": 2, "eps": 1e-05, "limit": [0.0, Infinity], "_name_or_path": "/home/me/model", "rope": {"theta": 10000.0, "kind": "linear"}}"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("m.safetensors", &safetensors(HEADER));
        folder.write("config.json", CONFIG.as_bytes());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("a file");
    }

    fn text(&self) -> String {
        text(&self.path("m.safetensors"), Path::new("m.safetensors")).expect("a lock")
    }

    fn lock(&self) -> String {
        let text = self.text();
        self.write("m.safetensors.lock.json", text.as_bytes());
        text
    }

    fn open(&self) -> Result<Opened, String> {
        open(&self.path("m.safetensors"), Path::new("m.safetensors")).map_err(|r| r.to_string())
    }

    #[track_caller]
    fn refuses(&self, expected: &str) {
        let error = self.open().expect_err("an error");
        assert!(
            error.contains(expected),
            "expected `{expected}` in\n{error}"
        );
        assert!(
            error.contains("cargo pycandle lock --weights m.safetensors"),
            "{error}"
        );
        assert!(
            !error.contains(self.0.path().to_str().expect("text")),
            "{error}"
        );
    }
}

#[test]
fn a_lock_is_short_and_the_same_every_time() {
    let folder = Folder::new();
    let text = folder.lock();
    assert_eq!(text, folder.text());
    let sha256 = text.split('"').nth(5).expect("a hash");
    let expected = r#"{
  "pycandle_lock": 1,
  "sha256": "HASH",
  "format": "safetensors",
  "files": {
    "m.safetensors": {"bytes": SIZE, "header": "HEADER", "tensors": 3}
  },
  "metadata": {
    "format": "pt"
  },
  "config": {
    "eps": 1e-5,
    "limit": [0.0, null],
    "num_hidden_layers": 2,
    "rope": {"kind": "linear", "theta": 10000.0}
  },
  "weights": {
    "head": "BF16 [4]",
    "l.{0,1}.w": "F32 [2, 3]"
  }
}
"#;
    let size = safetensors(HEADER).len().to_string();
    let header = text
        .split('"')
        .find(|part| part.len() == 64 && *part != sha256);
    let expected = expected.replace("HASH", sha256).replace("SIZE", &size);
    assert_eq!(text, expected.replace("HEADER", header.expect("a hash")));
}

#[test]
fn a_lock_says_what_the_files_say() {
    let folder = Folder::new();
    folder.lock();
    let from_files = folder.open().expect("files and lock");
    assert!(!from_files.checkpoint.is_snapshot());
    assert_eq!(
        from_files.read,
        ["m.safetensors.lock.json", "m.safetensors", "config.json"].map(|name| folder.path(name))
    );
    std::fs::remove_file(folder.path("m.safetensors")).expect("removed");
    std::fs::remove_file(folder.path("config.json")).expect("removed");
    let opened = folder.open().expect("the lock");
    assert_eq!(opened.read, [folder.path("m.safetensors.lock.json")]);
    assert_eq!(opened.lock.as_ref(), opened.read.first());
    let checkpoint = opened.checkpoint;
    assert!(checkpoint.is_snapshot());
    assert_eq!(checkpoint.shown(), Path::new("m.safetensors.lock.json"));
    assert_eq!(checkpoint.len(), from_files.checkpoint.len());
    for tensor in from_files.checkpoint.iter() {
        let same = checkpoint.get(tensor.name()).expect("the tensor");
        assert_eq!(
            (same.dtype(), same.shape()),
            (tensor.dtype(), tensor.shape())
        );
        assert_eq!(same.bytes(), tensor.bytes());
    }
    let format = checkpoint
        .metadata("format")
        .and_then(|value| value.as_text());
    assert_eq!(format, Some("pt"));
    let config = checkpoint.config().expect("text").expect("a config");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["rope"]["theta"], 10000.0);
}

#[test]
fn a_lock_that_does_not_describe_the_weights_is_an_error() {
    let folder = Folder::new();
    folder.lock();
    let longer = HEADER.replace("[2,3]", "[3,2]");
    folder.write("m.safetensors", &safetensors(&longer));
    folder.refuses("l.{0,1}.w: F32 [2, 3] in the lock, F32 [3, 2] on disk");
    folder.write(
        "m.safetensors",
        &safetensors(&HEADER.replace("l.1.w", "l.2.w")),
    );
    folder.refuses("l.1.w: F32 [2, 3] in the lock, absent on disk");
    folder.refuses("l.2.w: absent in the lock, F32 [2, 3] on disk");
    folder.write("m.safetensors", &safetensors(HEADER));
    folder.open().expect("agree again");
    folder.write("config.json", CONFIG.replace("\": 2,", "\": 3,").as_bytes());
    folder.refuses("config.json num_hidden_layers: 2 in the lock, 3 on disk");
    std::fs::remove_file(folder.path("config.json")).expect("removed");
    folder.refuses("config.json: absent on disk");
}

/// Configs and indices are small and often committed, where the weights are not.
#[test]
fn what_is_there_without_the_weights_has_to_agree_with_the_lock() {
    let folder = Folder::new();
    folder.lock();
    std::fs::remove_file(folder.path("m.safetensors")).expect("removed");
    let opened = folder.open().expect("they agree");
    let read = ["m.safetensors.lock.json", "config.json"].map(|name| folder.path(name));
    assert_eq!(opened.read, read);
    folder.write("config.json", CONFIG.replace("1e-05", "1e-06").as_bytes());
    folder.refuses("config.json eps: 1e-5 in the lock, 1e-6 on disk");
    folder.write("config.json", CONFIG.replace("10000.0", "5.0").as_bytes());
    folder.refuses("config.json rope.theta: 10000.0 in the lock, 5.0 on disk");
    folder.refuses("lock it again, where the weights are: cargo pycandle lock --weights");
    folder.write("config.json", b"{");
    let error = folder.open().expect_err("no JSON");
    assert!(
        error.contains("cannot use the checkpoint: config.json: is not JSON"),
        "{error}"
    );
    std::fs::remove_file(folder.path("config.json")).expect("removed");
    folder.open().expect("the lock");

    // A folder of shards, of which only the index is there.
    let folder = Folder::new();
    let shown = Path::new("w");
    let inner = folder.path("w");
    std::fs::create_dir(&inner).expect("a folder");
    let one = |name: &str| {
        format!("{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}}}")
    };
    let index = inner.join("m.safetensors.index.json");
    let map = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    let shards = [("1.safetensors", "a"), ("2.safetensors", "b")];
    for (file, name) in shards {
        std::fs::write(inner.join(file), safetensors(&one(name))).expect("a file");
    }
    std::fs::write(&index, map).expect("a file");
    for (weights, shown) in [
        (&inner, shown),
        (&index, Path::new("w/m.safetensors.index.json")),
    ] {
        let lock = path_of(weights).expect("a path");
        std::fs::write(&lock, text(weights, shown).expect("a lock")).expect("a file");
    }
    for (file, _) in shards {
        std::fs::remove_file(inner.join(file)).expect("removed");
    }
    let cases = [
        (map.to_owned(), None),
        (
            map.replace("\"b\"", "\"c\""),
            Some("c: absent in the lock, the index puts it into 2.safetensors"),
        ),
        (
            map.replace("2.safe", "3.safe"),
            Some("file 3.safetensors: absent in the lock, the index names it"),
        ),
        (
            map.replace("2.safe", "1.safe"),
            Some("file 2.safetensors: in the lock, absent in the index"),
        ),
        (
            map.replace("2.safe", "1.safe"),
            Some("file 1.safetensors: with 1 tensors in the lock, with 2 in the index"),
        ),
        (map.replace("\"b\"", "\"a\""), Some("lists `a` twice")),
        (
            "[".to_owned(),
            Some("cannot use the checkpoint: w/m.safetensors.index.json: index is"),
        ),
    ];
    for (text, expected) in cases {
        std::fs::write(&index, &text).expect("a file");
        for (weights, shown) in [
            (&inner, shown),
            (&index, Path::new("w/m.safetensors.index.json")),
        ] {
            let opened = open(weights, shown).map_err(|report| report.to_string());
            match (opened, expected) {
                (Ok(opened), None) => assert!(opened.read.contains(&index), "{:?}", opened.read),
                (Err(error), Some(expected)) => assert!(error.contains(expected), "{error}"),
                (opened, expected) => panic!("{text}: {expected:?}, {opened:?}"),
            }
        }
    }
    // The lock of a folder that is not there says nothing of what lies beside the folder.
    std::fs::remove_dir_all(&inner).expect("removed");
    folder.write("config.json", b"{");
    open(&inner, shown).expect("the lock");
}

#[test]
fn an_error_names_the_config_where_it_is() {
    let folder = Folder::new();
    let inner = folder.path("w");
    std::fs::create_dir(&inner).expect("a folder");
    std::fs::copy(folder.path("m.safetensors"), inner.join("m.safetensors")).expect("copied");
    std::fs::write(inner.join("config.json"), "7").expect("a file");
    let error = text(&inner, Path::new("c/w"))
        .expect_err("no object")
        .to_string();
    assert!(
        error.contains("c/w/config.json: is no JSON object"),
        "{error}"
    );
    folder.write("config.json", b"7");
    let error = text(&folder.path("m.safetensors"), Path::new("c/m.safetensors"));
    let error = error.expect_err("no object").to_string();
    assert!(
        error.contains("c/config.json: is no JSON object"),
        "{error}"
    );
}

/// A path or a table within a part of a config takes nothing else of that part with it.
#[test]
fn a_lock_leaves_out_entries_and_not_what_they_are_in() {
    let labels: BTreeMap<String, String> = (0..300).map(|i| (i.to_string(), "x".into())).collect();
    let config = serde_json::json!({
        "model_type": "llava",
        "text_config": {"model_type": "llama", "_name_or_path": "/home/me/llama", "hidden_size": 8},
        "vision_config": {"id2label": labels, "image_size": 9},
        "auto_map": {"a": ["b", "/home/me"]},
    });
    let kept = facts::kept_of(&config.to_string(), Path::new("c")).expect("an object");
    let expected = serde_json::json!({
        "auto_map": {},
        "model_type": "llava",
        "text_config": {"hidden_size": 8, "model_type": "llama"},
        "vision_config": {"image_size": 9},
    });
    assert_eq!(serde_json::json!(kept), expected);
}

#[test]
fn weights_can_be_absent_in_several_ways() {
    let folder = Folder::new();
    let weights = folder.path("m.safetensors");
    std::fs::remove_file(&weights).expect("removed");
    folder.refuses("no checkpoint at `m.safetensors`, and no lock `m.safetensors.lock.json`");
    folder.write("m.safetensors", &safetensors(HEADER));
    folder.lock();
    let size = safetensors(HEADER).len();
    let pointer = |size| format!("version https://git-lfs/spec/v1\noid sha256:00\nsize {size}\n");
    folder.write("m.safetensors", pointer(size).as_bytes());
    assert!(folder.open().expect("the lock").checkpoint.is_snapshot());
    folder.write("m.safetensors", pointer(size + 1).as_bytes());
    folder.refuses("bytes in Git LFS");
    folder.refuses("lock it again, once `git lfs pull` has fetched it: cargo pycandle lock");
    std::fs::remove_file(folder.path("m.safetensors.lock.json")).expect("removed");
    folder.refuses("what Git LFS keeps in place of the weights");
}

#[test]
fn folders_and_indices_have_a_lock_beside_them() {
    let folder = Folder::new();
    let inner = folder.path("w");
    std::fs::create_dir(&inner).expect("a folder");
    let copy = |name: &str| std::fs::copy(folder.path("m.safetensors"), inner.join(name));
    copy("a.safetensors").expect("copied");
    let shown = Path::new("w/");
    let lock = folder.path("w.lock.json");
    std::fs::write(&lock, text(&inner, shown).expect("a lock")).expect("written");
    std::fs::remove_file(inner.join("a.safetensors")).expect("removed");
    std::fs::write(inner.join("tokenizer.json"), "{}").expect("written");
    assert!(
        open(&inner, shown)
            .expect("the lock")
            .checkpoint
            .is_snapshot()
    );
    // Other weights are not absent ones: they are opened, and differ.
    copy("b.safetensors").expect("copied");
    let error = open(&inner, shown).expect_err("another file").to_string();
    assert!(error.contains("file a.safetensors:"), "{error}");
    assert!(
        error.contains("file b.safetensors: absent in the lock"),
        "{error}"
    );
    std::fs::remove_file(inner.join("b.safetensors")).expect("removed");
    // A partial download is not an absent checkpoint.
    let index = r#"{"weight_map": {"head": "a.safetensors", "l.0.w": "b.safetensors"}}"#;
    let index_path = inner.join("m.safetensors.index.json");
    std::fs::write(&index_path, index).expect("written");
    assert_eq!(absent(&index_path), Some(Absent::Nothing));
    copy("b.safetensors").expect("copied");
    assert_eq!(absent(&index_path), None);
}

/// What stands in place of weights is said, not only that they are absent.
#[test]
fn no_weights_are_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = |file: &str| format!(r#"{{"weight_map": {{"a": "{file}"}}}}"#);
    let check = |name: &str, bytes: &[u8], open: &str, expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let shown = Path::new("w").join(open);
        let error = super::open(&folder.path().join(open), &shown).expect_err("no weights");
        let error = error.to_string();
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
        std::fs::remove_file(&path).expect("removed");
    };
    let json = "m.safetensors.index.json";
    check(
        json,
        index("a.safetensors").as_bytes(),
        json,
        "`a` at byte 16 is in the file `a.safetensors`, which is not there: download it",
    );
    check(
        json,
        index("../../no/such").as_bytes(),
        json,
        "`a` at byte 16 is in the file `../../no/such`, which is not inside the folder",
    );
    check(
        "m.bin",
        b"\x80\x02}q\0.",
        "",
        "run `python -m pycandle unpickle w/m.bin --out w/m.safetensors`",
    );
}

#[test]
fn edits_and_bad_merges_are_found() {
    let folder = Folder::new();
    let text = folder.lock();
    std::fs::remove_file(folder.path("m.safetensors")).expect("removed");
    let cases: &[(&str, &str, &str)] = &[
        ("BF16 [4]", "BF16 [5]", "line 3: sha256: does not belong"),
        (
            "BF16 [4]",
            "BF17 [4]",
            "line 18: weights.head: `BF17` is no dtype",
        ),
        (
            "BF16 [4]",
            "BF16 4",
            "line 18: weights.head: `BF16 4` is no dtype with a shape",
        ),
        (
            "\"BF16 [4]\"",
            "7",
            "line 18: weights.head: invalid type: integer `7`",
        ),
        (
            "l.{0,1}.w",
            "l.{0..1000000000}.w",
            "makes it 1000000002 tensors, the files hold 3",
        ),
        (
            "l.{0,1}.w",
            "l.0.w",
            "line 17: weights: has 2 tensors, the files hold 3",
        ),
        (
            "l.{0,1}.w",
            "l.{0,1.w",
            "line 19: weights.l.{0,1.w: has a lone brace",
        ),
        (
            "\"head\"",
            "\"l.0.w\"",
            "line 19: weights.l.{0,1}.w: `l.0.w` is listed twice",
        ),
        (
            "\"eps\"",
            "\"rope\"",
            "line 15: config.rope: is listed twice",
        ),
        (
            "\"pt\"",
            "{}",
            "line 9: metadata.format: is no value of a file's metadata",
        ),
        (
            "\"format\": \"safetensors\"",
            "\"format\": \"zip\"",
            "is neither `safetensors` nor",
        ),
        (
            "\"pycandle_lock\": 1",
            "\"pycandle_lock\": 2",
            "has version 2, this pycandle reads 1: it was written by a newer one",
        ),
        (
            "  \"pycandle_lock\": 1,\n",
            "",
            "line 1: pycandle_lock: the field is missing",
        ),
        (
            "  \"files\": {",
            "<<<<<<< ours\n  \"files\": {",
            "in the middle of a merge conflict",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "sha256: does not belong",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        folder.write(
            "m.safetensors.lock.json",
            text.replacen(from, to, 1).as_bytes(),
        );
        folder.refuses(expected);
    }
    folder.write("m.safetensors.lock.json", &text.as_bytes()[..200]);
    folder.refuses("the file is cut short");
    folder.write("m.safetensors.lock.json", b"{\"a\": \"\xff\"}");
    folder.refuses("line 1: is not UTF-8 text");
    folder.write("m.safetensors.lock.json", b"\n[1, 0]");
    folder.refuses("line 2: expected a JSON object, found an array");
    // Another layout says the same.
    folder.write(
        "m.safetensors.lock.json",
        text.replace('\n', "\r\n").as_bytes(),
    );
    folder.open().expect("a lock");
}
