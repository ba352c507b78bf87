//! Locks that were written, read back, edited, merged badly and made up.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

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
    "m.safetensors": {"bytes": SIZE, "tensors": 3}
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
    assert_eq!(
        text,
        expected.replace("HASH", sha256).replace("SIZE", &size)
    );
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
    assert_eq!(
        absent(&index_path),
        Some(Absent::Nothing(vec![
            "a.safetensors".to_owned(),
            "b.safetensors".to_owned()
        ]))
    );
    copy("b.safetensors").expect("copied");
    assert_eq!(absent(&index_path), None);
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
    // Another layout says the same.
    folder.write(
        "m.safetensors.lock.json",
        text.replace('\n', "\r\n").as_bytes(),
    );
    folder.open().expect("a lock");
}

fn tensor_text() -> impl Strategy<Value = (String, Vec<u16>)> {
    let name = "([a-z{}é]|[0-9]{1,2})(\\.([a-z]|[0-9]{1,2})){0,3}";
    (name, prop::collection::vec(0u16..4, 0..3))
}

proptest! {
    #[test]
    fn what_is_locked_is_read_back(tensors in prop::collection::hash_map(".{0,5}", 0u16..4, 0..5),
                                   more in prop::collection::btree_map("[a-z]", 0u8..1, 0..2),
                                   pairs in prop::collection::vec(tensor_text(), 0..30)) {
        let mut snapshot = pycandle_checkpoint::Snapshot::default();
        let mut count = 0;
        let odd = tensors.into_iter().map(|(name, dim)| (name, vec![dim]));
        for (name, shape) in odd.chain(pairs) {
            let shape: Vec<usize> = shape.into_iter().map(usize::from).collect();
            count += u64::from(snapshot.tensor(&name, pycandle_checkpoint::Dtype::F16, &shape).is_ok());
        }
        let place = Path::new("m");
        let checkpoint = snapshot.into_checkpoint(place, place);
        let mut facts = Facts::default();
        facts.files.insert("m".into(), facts::File { bytes: 1, tensors: count });
        facts.metadata = more.into_iter().map(|(key, value)| (key, value.into())).collect();
        let text = write::text(&facts, &checkpoint);
        let lock = read::parse(&text, place, place).map_err(|e| TestCaseError::fail(e.join("\n")))?;
        prop_assert_eq!(write::text(&lock.facts, &lock.checkpoint), text);
        prop_assert_eq!(lock.facts, facts);
    }

    #[test]
    fn no_text_panics_the_reader(cuts in prop::collection::vec((any::<Index>(), any::<Index>(), ".{0,6}"), 1..4)) {
        let text = r#"{"pycandle_lock": 1, "sha256": "00", "format": "gguf", "files": {"m": {"bytes": 9, "tensors": 4}}, "metadata": {"a": 1.5, "b": [3]}, "config": {"c": {"d": [1]}}, "weights": {"a.{0..2}.{{b": "Q4_K [2, 256]", "h": "F32 []"}}"#;
        let mut bytes = text.as_bytes().to_vec();
        for (start, len, with) in cuts {
            let start = start.index(bytes.len() + 1);
            let end = start + len.index(bytes.len() - start + 1).min(8);
            bytes.splice(start..end, with.into_bytes());
        }
        let place = Path::new("m.lock.json");
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let problems = read::parse(text, place, place).err().unwrap_or_default();
            prop_assert!(!problems.is_empty(), "the hash cannot fit: {}", text);
            prop_assert!(problems.iter().all(|problem| problem.starts_with("line ")), "{:?}", problems);
        }
    }
}

/// 80 billion parameters of experts: 512 of them in 48 layers, 3 matrices each, in 6 parts.
#[test]
fn a_lock_of_half_a_million_tensors_is_a_screen_of_text() {
    use pycandle_checkpoint::{Dtype, Snapshot};
    let mut snapshot = Snapshot::default();
    let parts = [
        "",
        ".absmax",
        ".nested_absmax",
        ".nested_quant_map",
        ".quant_map",
        ".quant_state",
    ];
    for layer in 0..48 {
        for expert in 0..512 {
            for matrix in ["gate", "up", "down"] {
                for (i, part) in parts.iter().enumerate() {
                    let name =
                        format!("m.layers.{layer}.mlp.experts.{expert}.{matrix}.weight{part}");
                    snapshot
                        .tensor(&name, Dtype::U8, &[i + 1])
                        .expect("a tensor");
                }
            }
        }
    }
    let place = Path::new("m");
    let checkpoint = snapshot.into_checkpoint(place, place);
    let mut facts = Facts::default();
    let file = facts::File {
        bytes: 1,
        tensors: 442_368,
    };
    facts.files.insert("m".into(), file);
    let text = write::text(&facts, &checkpoint);
    assert_eq!(text.lines().count(), 11 + 18, "{text}");
    let lock = read::parse(&text, place, place).expect("a lock");
    assert_eq!(lock.checkpoint.len(), 442_368);
    assert_eq!(write::text(&lock.facts, &lock.checkpoint), text);
}
