//! What there is to check: models that source names, and locks that no model names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use pycandle_build::{Config, lock};

use super::tokens::{self, Named};

/// Longer source is generated, and names no model.
const LONGEST_SOURCE: u64 = 4 << 20;

/// One thing to check.
pub struct Subject {
    /// The source that names it, and its struct.
    at: Option<String>,
    /// The model; `None` when there is a checkpoint only.
    pub config: Option<Config>,
    manifest: Option<PathBuf>,
    weights: Option<PathBuf>,
}

impl Subject {
    /// A model, and the checkpoint that has to fit.
    pub fn model(at: Option<String>, config: Config, weights: Option<PathBuf>) -> Self {
        let manifest = Some(config.manifest_path());
        let config = match &weights {
            Some(weights) => config.weights(weights),
            None => config,
        };
        Self {
            at,
            config: Some(config),
            manifest,
            weights,
        }
    }

    /// A checkpoint and its lock.
    pub fn weights(weights: PathBuf) -> Self {
        Self {
            at: None,
            config: None,
            manifest: None,
            weights: Some(weights),
        }
    }

    /// The checkpoint.
    pub fn place(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// Where it is named, and what it consists of.
    pub fn name(&self) -> String {
        let paths = self.manifest.iter().chain(&self.weights);
        let paths: Vec<_> = paths.map(|path| slashed(&plain(path))).collect();
        match &self.at {
            Some(at) => format!("{at}: {}", paths.join(" + ")),
            None => paths.join(" + "),
        }
    }
}

/// Everything to check, and what could not be told.
#[derive(Default)]
pub struct Found {
    pub subjects: Vec<Subject>,
    /// What source names in a way that cannot be told, in sentences.
    pub skipped: Vec<String>,
}

impl Found {
    /// One subject alone.
    pub fn one(subject: Subject) -> Self {
        Self {
            subjects: vec![subject],
            skipped: Vec::new(),
        }
    }
}

/// Everything in a folder and below it, but in hidden folders and those of built or fetched files.
///
/// # Errors
/// A sentence when a folder or a source cannot be read.
pub fn below(folder: &Path) -> Result<Found, String> {
    let (mut found, mut locks) = (Found::default(), Vec::new());
    visit(folder, folder, &mut found, &mut locks)?;
    let named = found.subjects.iter().filter_map(Subject::place);
    let named: BTreeSet<PathBuf> = named.filter_map(lock::path_of).map(resolved).collect();
    let alone = locks
        .into_iter()
        .filter(|path| !named.contains(&resolved(path.clone())));
    let weights = alone.filter_map(|path| lock::weights_of(&path));
    found.subjects.extend(weights.map(Subject::weights));
    Ok(found)
}

fn visit(
    folder: &Path,
    package: &Path,
    found: &mut Found,
    locks: &mut Vec<PathBuf>,
) -> Result<(), String> {
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let fail =
        |path: &Path, error: std::io::Error| format!("cannot read `{}`: {error}", slashed(path));
    let package = if here.join("Cargo.toml").is_file() {
        folder
    } else {
        package
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(here).map_err(|error| fail(here, error))? {
        let entry = entry.map_err(|error| fail(here, error))?;
        let kind = entry.file_type().map_err(|error| fail(here, error))?;
        entries.extend(
            entry
                .file_name()
                .into_string()
                .ok()
                .map(|name| (name, kind)),
        );
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = folder.join(&name);
        let skipped = name.starts_with('.') || matches!(&*name, "target" | "node_modules");
        if kind.is_dir() && !skipped {
            visit(&path, package, found, locks)?;
        } else if name.ends_with(".rs")
            && std::fs::metadata(&path).is_ok_and(|f| f.len() <= LONGEST_SOURCE)
        {
            let source = std::fs::read(&path).map_err(|error| fail(&path, error))?;
            named(&path, &String::from_utf8_lossy(&source), package, found);
        } else if name.ends_with(".lock.json")
            && std::fs::read(&path)
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains("\"pycandle_lock\""))
        {
            locks.push(path);
        }
    }
    Ok(())
}

/// Adds the models that a source names.
fn named(path: &Path, source: &str, package: &Path, found: &mut Found) {
    let is_script = path.file_name().is_some_and(|name| name == "build.rs");
    let may_name =
        source.contains("pycandle_model") || is_script && source.contains("pycandle_build");
    if !may_name {
        return;
    }
    for model in tokens::models(source, package) {
        match model {
            Named::Model(name, config, weights) => {
                let name = name.map_or(String::new(), |name| format!(" ({name})"));
                let at = Some(slashed(path) + &name);
                found.subjects.push(Subject::model(at, *config, weights));
            }
            Named::Unclear(why) => found.skipped.push(format!(
                "{}: {why}: check it with `cargo pycandle check --manifest M --weights W`",
                slashed(path)
            )),
        }
    }
}

/// The path without the folders that a `..` behind them leaves again.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        let leaves = matches!(plain.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::ParentDir if leaves => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn resolved(path: PathBuf) -> PathBuf {
    std::fs::canonicalize(&path).unwrap_or(path)
}

/// Paths in results use `/` on every system.
fn slashed(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}
