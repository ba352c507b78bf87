//! The models to verify: which files belong together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pycandle_build::manifest::Data;
use pycandle_build::raw;

/// A model, and the files that it is verified with.
pub struct Found {
    /// File stem of the manifest.
    pub name: String,
    /// The manifest.
    pub manifest: PathBuf,
    /// The checkpoint.
    pub weights: PathBuf,
    /// Files of goldens by case; the first case has no name.
    pub goldens: Vec<(String, PathBuf)>,
    /// Why the model cannot be verified.
    pub problem: Option<String>,
}

const MANIFEST: &str = "_manifest.json";

/// One model whose files are named one by one.
pub fn one(manifest: &Path, weights: &Path, goldens: &[PathBuf]) -> Result<Vec<Found>, String> {
    let name = file_name(manifest);
    let name = name
        .strip_suffix(MANIFEST)
        .or_else(|| name.strip_suffix(".json"))
        .unwrap_or(&name);
    if let Some(absent) = goldens
        .iter()
        .map(PathBuf::as_path)
        .chain([manifest, weights])
        .find(|p| !p.exists())
    {
        return Err(format!("no file at `{}`", absent.display()));
    }
    let goldens = goldens.iter().map(|golden| {
        let file = file_name(golden);
        let case = file.strip_suffix(".safetensors").unwrap_or(&file);
        (
            case.rsplit_once("_trace.")
                .map_or("", |(_, case)| case)
                .to_owned(),
            golden.clone(),
        )
    });
    Ok(vec![Found {
        name: name.to_owned(),
        manifest: manifest.to_owned(),
        weights: weights.to_owned(),
        goldens: goldens.collect(),
        problem: None,
    }])
}

/// Every model of a folder, by name.
pub fn in_folder(folder: &Path) -> Result<Vec<Found>, String> {
    let unreadable =
        |error: std::io::Error| format!("cannot read the folder `{}`: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        files.push(
            entry
                .map_err(unreadable)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    files.sort();
    let models: Vec<_> = files
        .iter()
        .filter_map(|file| file.strip_suffix(MANIFEST))
        .map(|name| model(folder, name, &files))
        .collect();
    match models.is_empty() {
        true => Err(format!(
            "no `<name>{MANIFEST}` in the folder `{}`",
            folder.display()
        )),
        false => Ok(models),
    }
}

fn model(folder: &Path, name: &str, files: &[String]) -> Found {
    let candidates = [
        format!("{name}.safetensors"),
        format!("{name}.safetensors.index.json"),
        name.to_owned(),
    ];
    let weights = candidates
        .iter()
        .find(|candidate| files.contains(candidate));
    let prefix = format!("{name}_trace.");
    let goldens: Vec<_> = files
        .iter()
        .filter_map(|file| {
            let rest = file.strip_prefix(&prefix)?;
            let case = rest
                .strip_suffix(".safetensors")
                .or((rest == "safetensors").then_some(""))?;
            Some((case.to_owned(), folder.join(file)))
        })
        .collect();
    let problem = match (weights, goldens.is_empty()) {
        (None, _) => Some(format!("no weights: `{name}.safetensors` is absent")),
        (_, true) => Some(format!("no goldens: `{name}_trace.safetensors` is absent")),
        _ => None,
    };
    Found {
        name: name.to_owned(),
        manifest: folder.join(format!("{name}{MANIFEST}")),
        weights: folder.join(weights.unwrap_or(&candidates[0])),
        goldens,
        problem,
    }
}

/// The files beside a manifest that hold its larger constants.
pub fn side_files(manifest: &Path) -> Vec<PathBuf> {
    let constants = raw::read(manifest)
        .map(|manifest| manifest.constants)
        .unwrap_or_default();
    let names: BTreeSet<_> = constants
        .into_iter()
        .filter_map(|constant| match constant.data {
            Data::File(name) => Some(name),
            _ => None,
        })
        .collect();
    names
        .into_iter()
        .map(|name| manifest.with_file_name(name))
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_belong_together_are_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in [
            "a_manifest.json",
            "a.safetensors",
            "a_trace.safetensors",
            "a_trace.long.safetensors",
            "b_manifest.json",
            "b.safetensors",
        ] {
            std::fs::write(folder.path().join(file), "").expect("write");
        }
        let models = in_folder(folder.path()).expect("two models");
        let cases: Vec<_> = models[0].goldens.iter().map(|(case, _)| &**case).collect();
        assert_eq!((&*models[0].name, cases), ("a", vec!["long", ""]));
        assert!(models[0].problem.is_none());
        assert_eq!(
            models[1].problem.as_deref(),
            Some("no goldens: `b_trace.safetensors` is absent")
        );
    }
}
