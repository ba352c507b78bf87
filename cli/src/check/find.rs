//! What there is to check: models that source names, and locks that no model names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use pycandle_build::{Config, lock};

use super::tokens::{self, Named};

/// Longer source is generated, and not looked through.
const LONGEST_SOURCE: usize = 4 << 20;

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
    /// Models that source names in a way that cannot be told, in sentences.
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
    visit(folder, &Package::at(folder), &mut found, &mut locks)?;
    let named = found.subjects.iter().filter_map(Subject::place);
    let named: BTreeSet<PathBuf> = named.filter_map(lock::path_of).map(resolved).collect();
    let alone = locks
        .into_iter()
        .filter(|path| !named.contains(&resolved(path.clone())));
    let weights = alone.filter_map(|path| lock::weights_of(&path));
    found.subjects.extend(weights.map(Subject::weights));
    Ok(found)
}

/// The package that a source belongs to.
#[derive(Clone)]
struct Package {
    root: PathBuf,
    /// Its build script.
    script: PathBuf,
}

impl Package {
    /// The package whose `Cargo.toml` is in this folder; its build script has the usual name where
    /// that says nothing else.
    fn at(root: &Path) -> Self {
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
        let lines = manifest.lines().map(str::trim);
        let package = lines.skip_while(|line| *line != "[package]").skip(1);
        let mut keys = package.take_while(|line| !line.starts_with('['));
        let script = keys.find_map(|line| {
            let value = line.strip_prefix("build")?.trim_start().strip_prefix('=')?;
            let quote = value.trim_start().chars().next()?;
            let text = value.trim_start().strip_prefix(['"', '\''])?;
            Some(text.split_once(quote)?.0.to_owned())
        });
        Self {
            root: root.to_path_buf(),
            script: root.join(script.as_deref().unwrap_or("build.rs")),
        }
    }
}

fn visit(
    folder: &Path,
    package: &Package,
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
    let own = here.join("Cargo.toml").is_file();
    let own = own.then(|| Package::at(folder));
    let package = own.as_ref().unwrap_or(package);
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
        } else if name.ends_with(".rs") {
            let source = std::fs::read(&path).map_err(|error| fail(&path, error))?;
            named(&path, &String::from_utf8_lossy(&source), package, found);
        } else if name.ends_with(".lock.json") && is_lock(&path) {
            locks.push(path);
        }
    }
    Ok(())
}

/// Whether it is a lock of ours, perhaps a spoiled one: by what is in it, by the weights that its
/// name says, or because nothing else can be told. Other tools have files that end so too.
fn is_lock(path: &Path) -> bool {
    let weights = lock::weights_of(path).unwrap_or_default();
    let weights = weights.to_string_lossy();
    let endings = [".safetensors", ".safetensors.index.json", ".gguf"];
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.trim().is_empty()
        || text.contains("\"pycandle_lock\"")
        || endings.iter().any(|ending| weights.ends_with(ending))
}

/// Adds the models that a source names.
fn named(path: &Path, source: &str, package: &Package, found: &mut Found) {
    let has_attribute = source.contains("pycandle_model");
    let is_script = *path == package.script && source.contains("pycandle_build");
    if !has_attribute && !is_script {
        return;
    }
    let mut models = Vec::new();
    if source.len() > LONGEST_SOURCE {
        let why = format!("has more than {LONGEST_SOURCE} bytes, and was not looked through");
        models.push(Named::Unclear(why));
    } else {
        if has_attribute {
            models.extend(tokens::attributes(source, &package.root));
        }
        if is_script {
            models.extend(tokens::builders(source, &package.root));
        }
    }
    for model in models {
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
