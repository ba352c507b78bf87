//! The op table against the goldens recorded from PyTorch, and against `docs/OPS.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pycandle_build::{Config, documentation, generate, supported};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The recorded models of a folder that have a golden: name and the ops of the trace.
fn recorded(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix("_manifest.json") else {
            continue;
        };
        if !folder.join(format!("{name}_trace.safetensors")).exists() {
            continue;
        }
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = manifest["nodes"].as_array().unwrap().iter();
        let ops = nodes.map(|n| n["op"].as_str().unwrap().to_owned());
        found.insert(name.to_owned(), ops.collect());
    }
    found
}

/// What the model computes between its inputs and its output, on one line.
fn computed(source: &str) -> String {
    let start = source.find("pub fn forward_probed").unwrap();
    let body = &source[start..];
    let end = ["p.record", "Ok("]
        .iter()
        .filter_map(|e| body.find(e))
        .min();
    let body = &body[body.find("{\n").unwrap() + 2..end.unwrap()];
    let statements = body
        .split(';')
        .map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "));
    let own = statements.filter(|s| !s.contains("bind::") && !s.is_empty());
    let all = own.collect::<Vec<_>>().join("; ").replace('?', "");
    let all = all
        .replace("( ", "(")
        .replace(", )", ")")
        .replace(" .", ".");
    match all.strip_prefix("let ").and_then(|s| s.split_once(" = ")) {
        Some((_, value)) if !all.contains(';') => value.to_owned(),
        _ => all,
    }
}

#[test]
fn every_overload_has_a_golden() {
    let mut seen = BTreeSet::new();
    for set in ["ops", "models"] {
        seen.extend(
            recorded(&root().join("tests").join(set))
                .into_values()
                .flatten(),
        );
    }
    let bare: Vec<_> = supported().filter(|(_, op)| !seen.contains(*op)).collect();
    assert!(
        bare.is_empty(),
        "no golden recorded from PyTorch (add a case to recorder/fixtures/ops_*.py): {bare:#?}"
    );
}

#[test]
fn every_golden_generates_and_the_list_is_current() {
    let folder = root().join("tests/ops");
    let mut becomes: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut refused = Vec::new();
    for (name, ops) in recorded(&folder) {
        let config = Config::new(format!("{name}_manifest.json"))
            .root(&folder)
            .name("Model");
        let code = match generate(&config) {
            Ok(generated) => computed(&generated.source),
            Err(report) => {
                refused.push(format!("{name}: {report}"));
                continue;
            }
        };
        // What is left of an operator that came apart shows the row of no other well.
        for op in ops.iter().filter(|_| !name.starts_with("apart_")) {
            let best = becomes.get(op).is_none_or(|(n, _)| ops.len() < *n);
            if best {
                becomes.insert(op.clone(), (ops.len(), code.clone()));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    let becomes = becomes
        .into_iter()
        .map(|(op, (_, code))| (op, code))
        .collect();
    let text = documentation(&becomes);
    let file = root().join("docs/OPS.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "docs/OPS.md is not what the op table says: run with BLESS=1 and commit it"
    );
}
