//! Manifests and checkpoints that were cut, flipped or made up: errors, never panics.

use std::path::Path;

use allocation_counter::measure;
use proptest::prelude::*;
use proptest::sample::Index;
use pycandle_build::{Config, checkpoint, raw};
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../tests/ui/fixtures/tiny_manifest.json");
/// A causal model with a cache: long, with expressions, constants and states.
const LLAMA: &str = include_str!("../../tests/models/llama_manifest.json");
const WEIGHTS: &[u8] = include_bytes!("../../tests/ui/fixtures/good.safetensors");

/// Values that stand where others are expected.
const INTRUDERS: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e308",
    "18446744073709551615",
    "9223372036854775807",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[[]]",
    "{\"v\":\"x\"}",
    "{\"add\":[]}",
    "{\"full\":0}",
    "\"\\u0000\"",
    "\"batch\"",
];

/// Reads a manifest and generates what it describes, in memory that its length accounts for.
fn read_manifest(text: &str) -> bool {
    let parsed = held("reading", 4, text, || raw::parse("m.json", text).map(drop));
    match parsed {
        Ok(_) => held("generating", 64, text, || generate(text))
            .map_err(|report| said(&report))
            .is_ok(),
        Err(report) => {
            said(&report.to_string());
            false
        }
    }
}

/// What `f` gives, which holds at most so many bytes for each of `text`, and 256 KiB.
fn held<T>(what: &str, times: u64, text: &str, f: impl FnOnce() -> T) -> T {
    let mut given = None;
    let most = measure(|| given = Some(f())).bytes_max;
    assert!(
        most <= times * text.len() as u64 + (1 << 18),
        "{what} takes {most} bytes:\n{text}"
    );
    given.expect("what `f` gave")
}

/// Something is said, and not that the generator is at fault.
fn said(report: &str) {
    assert!(!report.is_empty());
    assert!(!report.contains("please report this"), "{report}");
}

fn generate(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("m.json");
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    let generated = pycandle_build::generate(&Config::new(path));
    generated.map(drop).map_err(|report| report.to_string())
}

fn open_weights(bytes: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("m.safetensors");
    std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    let manifest = raw::parse("m.json", MANIFEST).map_err(|report| report.to_string())?;
    let config = Config::new("m.json").weights(&path);
    checkpoint::check(&manifest, &config)
        .map(drop)
        .map_err(|report| report.to_string())
}

#[test]
fn the_originals_are_fine() {
    assert!(read_manifest(MANIFEST));
    assert_eq!(open_weights(WEIGHTS), Ok(()));
}

#[test]
fn a_header_that_lies_about_its_length_allocates_nothing() {
    for length in [
        u64::MAX,
        1 << 40,
        100_000_001,
        100_000_000,
        WEIGHTS.len() as u64,
    ] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(&WEIGHTS[8..]);
        let most = measure(|| assert!(open_weights(&bytes).is_err())).bytes_max;
        assert!(most < 1 << 17, "{most} bytes for a length of {length}");
    }
}

/// Byte ranges of the values in a JSON text, roughly: what stands between separators.
fn values(text: &str) -> Vec<(usize, usize)> {
    let mut values = Vec::new();
    let mut start = 0;
    for (i, byte) in text.bytes().enumerate() {
        if b",:[]{}\n".contains(&byte) {
            if !text[start..i].trim().is_empty() {
                values.push((start, i));
            }
            start = i + 1;
        }
    }
    values
}

/// One recorded manifest per operator and variant.
fn operators() -> &'static [Value] {
    static ALL: std::sync::OnceLock<Vec<Value>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ops");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with("_manifest.json"))
            .collect();
        files.sort();
        let read = |path| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        files.iter().map(read).collect()
    })
}

const DTYPES: &[&str] = &[
    "bool", "uint8", "int8", "int32", "int64", "bfloat16", "float32", "float64",
];
const NUMBERS: &[i64] = &[
    i64::MIN,
    i64::MIN + 1,
    -2,
    -1,
    0,
    1,
    2,
    7,
    (1 << 53) + 1,
    i64::MAX / 8,
    i64::MAX,
];

/// Pointers to what [`edit`] changes: numbers, dtypes and lists below one of the top-level lists.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value| places(value, &format!("{path}/{name}"), found);
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(i, item)| below(&i.to_string(), item));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name, value)),
        _ => {}
    }
    let changes = match value {
        Value::String(text) => DTYPES.contains(&&**text),
        Value::Object(_) => false,
        _ => true,
    };
    let lists = ["/inputs/", "/parameters/", "/constants/", "/nodes/"];
    if changes && lists.iter().any(|list| path.starts_with(list)) && !path.ends_with("/call") {
        found.push(path.to_owned());
    }
}

/// Puts something of the same kind at a place, or makes a list shorter, longer or empty.
fn edit(value: &mut Value, how: Index) {
    let number = json!(NUMBERS[how.index(NUMBERS.len())]);
    match value {
        Value::String(text) => *text = DTYPES[how.index(DTYPES.len())].to_owned(),
        Value::Array(items) => match how.index(5) {
            0 => items.clear(),
            1 => drop(items.pop()),
            2 => items.extend(items.last().cloned()),
            3 => items.push(number),
            _ => items.reverse(),
        },
        other => *other = number,
    }
}

/// A manifest of `tests/ops` with one thing changed, and what is said of it.
#[test]
fn operators_name_the_argument_that_is_wrong() {
    let cases = [
        (
            "group_norm",
            "/inputs/0/shape",
            json!([4]),
            "no dimension 1",
        ),
        (
            "index_tensor",
            "/inputs/1/dtype",
            json!("uint8"),
            "a mask is [2, 2] over [3, 4]",
        ),
        (
            "index_tensor_negative",
            "/inputs/1/dtype",
            json!("uint8"),
            "with a mask",
        ),
        (
            "repeat",
            "/nodes/0/args/repeats/0",
            json!(-1),
            "cannot be negative",
        ),
        (
            "scatter_value",
            "/nodes/0/args/value",
            json!((1_i64 << 53) + 1),
            "exactly",
        ),
        (
            "select_int",
            "/nodes/0/args/index",
            json!(i64::MIN),
            "out of range",
        ),
        (
            "slice_tensor",
            "/nodes/0/out/0/shape",
            json!([2]),
            "the op gives",
        ),
        (
            "split_tensor",
            "/nodes/0/out/1/shape",
            json!([]),
            "the op gives",
        ),
        ("topk", "/nodes/0/args/k", json!(-1), "cannot be negative"),
        (
            "upsample_nearest2d_vec",
            "/inputs/0/shape",
            json!([1]),
            "batch of images",
        ),
    ];
    for (name, place, value, expected) in cases {
        let named = |m: &&Value| m["model"]["name"] == name;
        let mut manifest = operators().iter().find(named).unwrap().clone();
        *manifest.pointer_mut(place).unwrap() = value;
        let error = generate(&manifest.to_string()).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// The manifests stay well-formed, so that what is wrong with them is for the op table to find.
    #[test]
    fn operators_with_other_arguments_do_not_panic(
        which in any::<Index>(), edits in prop::collection::vec((any::<Index>(), any::<Index>()), 1..4)
    ) {
        let mut manifest = which.get(operators()).clone();
        for (place, how) in edits {
            let mut found = Vec::new();
            places(&manifest, "", &mut found);
            if let Some(value) = manifest.pointer_mut(&found[place.index(found.len())]) {
                edit(value, how);
            }
        }
        read_manifest(&manifest.to_string());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_manifests_do_not_panic(flips in prop::collection::vec((any::<Index>(), 0u8..8), 1..8)) {
        let mut bytes = MANIFEST.as_bytes().to_vec();
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        read_manifest(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn manifests_with_foreign_values_do_not_panic(
        swaps in prop::collection::vec((any::<Index>(), prop::sample::select(INTRUDERS)), 1..4)
    ) {
        for manifest in [MANIFEST, LLAMA] {
            let mut text = manifest.to_owned();
            for (place, intruder) in &swaps {
                let values = values(&text);
                let (start, end) = values[place.index(values.len())];
                text.replace_range(start..end, intruder);
            }
            read_manifest(&text);
        }
    }

    #[test]
    fn manifests_with_lines_moved_or_lost_do_not_panic(
        from in any::<Index>(), to in any::<Index>(), keep in any::<bool>()
    ) {
        for manifest in [MANIFEST, LLAMA] {
            let mut lines: Vec<_> = manifest.lines().collect();
            let line = lines.remove(from.index(lines.len()));
            if keep {
                lines.insert(to.index(lines.len()), line);
            }
            read_manifest(&lines.join("\n"));
        }
    }

    #[test]
    fn flipped_weights_do_not_panic(flips in prop::collection::vec((any::<Index>(), 0u8..8), 1..8)) {
        let mut bytes = WEIGHTS.to_vec();
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        let _ = open_weights(&bytes);
    }

    #[test]
    fn cut_weights_are_errors(end in 0..WEIGHTS.len()) {
        prop_assert!(open_weights(&WEIGHTS[..end]).is_err());
    }
}
