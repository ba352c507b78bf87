//! Generates the model in the folder that `GENERATE_MODEL` names, by default the small random Llama
//! of the tests.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=GENERATE_MODEL");
    let folder = std::env::var_os("GENERATE_MODEL").map(PathBuf::from);
    let manifest = match folder {
        None => Ok(PathBuf::from("../../tests/models/llama_manifest.json")),
        Some(folder) => only_manifest(&folder),
    };
    match manifest {
        Ok(manifest) => pycandle_build::Builder::new()
            .manifest(manifest)
            .name("Model")
            .compile("model"),
        Err(error) => println!("cargo::error={error}"),
    }
}

/// The one manifest of a folder.
fn only_manifest(folder: &Path) -> Result<PathBuf, String> {
    let shown = folder.display();
    let entries =
        std::fs::read_dir(folder).map_err(|err| format!("GENERATE_MODEL={shown}: {err}"))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with("_manifest.json"))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(manifest), true) => Ok(std::path::absolute(&manifest).unwrap_or(manifest)),
        (None, _) => Err(format!(
            "GENERATE_MODEL={shown}: no `*_manifest.json`; record one with `python -m pycandle record`"
        )),
        (Some(_), false) => Err(format!(
            "GENERATE_MODEL={shown}: more than one `*_manifest.json`"
        )),
    }
}
