//! A size that was edited by hand is an error with line and field, or changes nothing.

use std::path::{Path, PathBuf};

use pycandle_build::{Config, generate, raw};
use serde_json::Value;

/// Every committed manifest.
fn manifests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["tests/models", "tests/ops", "tests/bench/manifests"];
    let files = folders.iter().flat_map(|folder| {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    let is_manifest = |path: &PathBuf| path.to_string_lossy().ends_with("_manifest.json");
    let mut files: Vec<PathBuf> = files.filter(is_manifest).collect();
    files.sort();
    files
}

#[test]
fn recorded_shapes_do_not_contradict_each_other() {
    for path in manifests() {
        if let Err(report) = raw::read(&path) {
            panic!("{}: {report}", path.display());
        }
    }
}

/// Byte ranges of the integers in shapes, with their line.
fn sizes(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("\"shape\": [") {
        let start = at + "\"shape\": [".len();
        let mut depth = 1;
        let mut number = None;
        for (i, byte) in text.bytes().enumerate().skip(start) {
            match byte {
                b'0'..=b'9' if number.is_none() => {
                    let before = text.as_bytes()[i - 1];
                    number = (!before.is_ascii_alphanumeric() && before != b'_').then_some(i);
                }
                b'0'..=b'9' => {}
                _ => found.extend(number.take().map(|start| (start, i))),
            }
            depth += i32::from(byte == b'[') - i32::from(byte == b']');
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The generated source, without the hash of the manifest.
fn source(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.json");
    std::fs::write(&path, text).unwrap();
    let generated = generate(&Config::new(&path)).ok()?;
    let lines = generated.source.lines();
    let lines = lines.filter(|line| !line.contains("MANIFEST: &str"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Ops that give the same shape for several shapes of what they read.
const FREE: &[&str] = &[
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "all",
    "amax",
    "amin",
    "aminmax",
    "any",
    "argmax",
    "argmin",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "bucketize",
    "conv1d",
    "conv2d",
    "conv3d",
    "diagonal",
    "einsum",
    "embedding",
    "embedding_bag",
    "gather",
    "grid_sampler",
    "im2col",
    "index",
    "index_fill",
    "index_select",
    "kthvalue",
    "linalg_vector_norm",
    "logsumexp",
    "masked_scatter",
    "max",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "mean",
    "median",
    "min",
    "new_empty",
    "new_full",
    "new_ones",
    "new_zeros",
    "prod",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "searchsorted",
    "select",
    "slice",
    "std",
    "std_mean",
    "sum",
    "take",
    "take_along_dim",
    "topk",
    "type_as",
    "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
    "upsample_bilinear2d",
    "_upsample_bilinear2d_aa",
    "upsample_linear1d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    "upsample_trilinear3d",
    "var",
    "var_mean",
];

/// Whether nothing fixes a size: what a tensor is read by is free in it, or it is 1 and broadcasts.
fn is_free(manifest: &Value, line: &str, size: usize) -> bool {
    let Some(name) = line
        .split('"')
        .nth(3)
        .filter(|_| line.contains("{\"name\": \""))
    else {
        return false;
    };
    let of = |key: &str| serde_json::json!({ key: name });
    let reads = |arg: &Value| ["v", "param", "const"].iter().any(|key| *arg == of(key));
    let nodes = manifest["nodes"].as_array().into_iter().flatten();
    let mut readers = nodes.filter(|node| {
        let mut args = node["args"]
            .as_object()
            .into_iter()
            .flat_map(|args| args.values());
        args.any(|arg| reads(arg) || arg.as_array().is_some_and(|list| list.iter().any(reads)))
    });
    readers.all(|node| {
        let op = node["op"].as_str().unwrap_or_default();
        size == 1 || op.split('.').nth(1).is_some_and(|op| FREE.contains(&op))
    })
}

/// Edits in one manifest at most; a small one is edited everywhere.
const EDITS: usize = 25;

#[test]
fn an_edited_size_is_one_error_or_changes_nothing() {
    let (mut edits, mut refused) = (0, 0);
    let mut unnoticed = Vec::new();
    for path in manifests() {
        let text = std::fs::read_to_string(&path).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let mut original = None;
        let all = sizes(&text);
        let step = all.len().div_ceil(EDITS).max(1);
        for (i, (start, end)) in all.into_iter().step_by(step).enumerate() {
            let size: usize = text[start..end].parse().unwrap();
            let other = if i % 2 == 0 { size + 1 } else { 2 * size + 3 };
            let edited = format!("{}{other}{}", &text[..start], &text[end..]);
            let line = text[..start].matches('\n').count();
            let shown = text.lines().nth(line).unwrap_or_default().trim();
            edits += 1;
            match raw::parse("m.json", &edited) {
                Err(report) => {
                    let report = report.to_string();
                    assert!(report.contains("m.json:"), "{report}");
                    refused += 1;
                }
                Ok(_) => {
                    let same = is_free(&manifest, shown, size)
                        || source(&edited) == *original.get_or_insert_with(|| source(&text));
                    if !same {
                        unnoticed.push(format!(
                            "{}:{}: {size} as {other} in {shown}",
                            path.display(),
                            line + 1,
                        ));
                    }
                }
            }
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
    assert!(
        refused * 10 > edits * 9,
        "{refused} of {edits} edits are errors"
    );
}

const LLAMA: &str = include_str!("../../tests/models/llama_manifest.json");
const MLP: &str = include_str!("../../tests/models/mlp_manifest.json");

/// What is said of the model with one text in place of another.
fn said(manifest: &str, old: &str, new: &str) -> String {
    assert!(manifest.contains(old), "{old}");
    match raw::parse("m.json", &manifest.replacen(old, new, 1)) {
        Ok(_) => String::new(),
        Err(report) => report.to_string(),
    }
}

#[test]
fn a_contradiction_is_said_once_with_line_field_and_both_shapes() {
    let weight = r#""up.weight", "kind": "parameter", "dtype": "float32", "shape": [16, "#;
    let report = said(MLP, &format!("{weight}6]"), &format!("{weight}7]"));
    assert!(report.contains("m.json:36: nodes[0].args: "), "{report}");
    assert!(
        report.contains("[16, 7]: their last dimensions are not one"),
        "{report}"
    );
    assert_eq!(report.matches("nodes[").count(), 1, "{report}");

    // What follows is not said to be wrong as well.
    let gelu = r#"[{"name": "gelu", "dtype": "float32", "shape": ["batch", "rows", "#;
    let report = said(MLP, &format!("{gelu}16]"), &format!("{gelu}\"rows\"]"));
    assert!(
        report.contains("m.json:37: nodes[1].out[0].shape: "),
        "{report}"
    );
    assert!(
        report
            .contains("the op gives [7, 11, 16], not [7, 11, 11], when batch is 7 and rows is 11"),
        "{report}"
    );
    assert_eq!(report.matches("nodes[").count(), 1, "{report}");
}

#[test]
fn views_are_held_against_what_they_ask_for() {
    let size = r#""size": [{"sym": "batch"}, {"sym": "sequence"}, -1, "#;
    let report = said(LLAMA, &format!("{size}8]"), &format!("{size}16]"));
    assert!(
        report.contains("the op gives [7, 11, 2, 16], not [7, 11, 4, 8]"),
        "{report}"
    );
    let report = said(LLAMA, &format!("{size}8]"), &format!("{size}5]"));
    assert!(report.contains("cannot be viewed as"), "{report}");
    let transposed = r#""dim0": 1, "dim1": 2}, "out": [{"name": "transpose", "dtype": "float32", "shape": ["batch", "#;
    let report = said(
        LLAMA,
        &format!(r#"{transposed}4, "sequence""#),
        &format!(r#"{transposed}"sequence", 4"#),
    );
    assert!(
        report.contains("the op gives [7, 4, 11, 8], not [7, 11, 4, 8]"),
        "{report}"
    );
}

#[test]
fn sizes_are_put_in_that_meet_the_conditions() {
    let sized = include_str!("../../tests/models/sized_manifest.json");
    let shape = r#""shape": ["batch", "queries", 4]"#;
    let report = said(sized, shape, r#""shape": ["batch", "queries", 5]"#);
    assert!(report.contains("queries is "), "{report}");
}
