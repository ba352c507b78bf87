//! What is there of a checkpoint whose weights are absent: a config and an index are small, and
//! often committed. They have to say what the lock says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pycandle_checkpoint::{Error, config_at, open_file};

use super::read::Lock;
use super::{facts, names};
use crate::raw::json::Entries;

/// Longest index that is read, in bytes.
const LONGEST: u64 = 400_000_000;

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// In what it differs from the lock.
    pub differences: Vec<String>,
    /// The files that were read.
    pub read: Vec<PathBuf>,
}

/// Holds the config and the index of the checkpoint at `weights` against its lock.
///
/// # Errors
/// When one of them is there and cannot be read.
pub(super) fn beside(lock: &Lock, weights: &Path, shown: &Path) -> Result<Beside, Error> {
    let mut beside = Beside::default();
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    let is_index = weights.extension().is_some_and(|ext| ext == "json");
    // The lock of a folder that is not there says nothing of the files beside the folder.
    if !weights.is_dir() && !is_index && !lock.facts.files.contains_key(&*name) {
        return Ok(beside);
    }
    let config_shown = facts::config_beside(weights, shown);
    let config = facts::config_beside(weights, weights);
    if let Some(text) = config_at(&config, &config_shown)? {
        let config_on_disk = facts::kept_of(&text, &config_shown)?;
        let differences = lock.facts.config_differences(&config_on_disk);
        beside.differences.extend(differences);
        beside.read.push(config);
    }
    let index = match is_index {
        true => weights.exists().then(|| (weights.into(), shown.into())),
        false => in_folder(weights).map(|name| (weights.join(&name), shown.join(name))),
    };
    if let Some((path, shown)) = index {
        beside
            .differences
            .extend(index_differences(lock, &path, &shown)?);
        beside.read.push(path);
    }
    Ok(beside)
}

/// The first index in a folder.
fn in_folder(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name.ends_with(".safetensors.index.json"))
        .min()
}

/// An index may leave tensors of its files out, but it names no other files and tensors than those
/// that were locked.
fn index_differences(lock: &Lock, path: &Path, shown: &Path) -> Result<Vec<String>, Error> {
    let map = read(path, shown)?;
    let mut lines = Vec::new();
    let (mut files, mut unknown) = (BTreeMap::<&str, u64>::new(), Vec::new());
    for (name, file) in &map {
        *files.entry(file).or_default() += 1;
        if lock.checkpoint.get(name).is_none() {
            unknown.push((
                &**name,
                format!("absent in the lock, the index puts it into {file}"),
            ));
        }
    }
    for (file, tensors) in &files {
        match lock.facts.files.get(*file) {
            None => lines.push(format!(
                "file {file}: absent in the lock, the index names it"
            )),
            Some(locked) if *tensors > locked.tensors => lines.push(format!(
                "file {file}: with {} tensors in the lock, with {tensors} in the index",
                locked.tensors
            )),
            Some(_) => {}
        }
    }
    let absent = lock
        .facts
        .files
        .keys()
        .filter(|file| !files.contains_key(&***file));
    lines.extend(absent.map(|file| format!("file {file}: in the lock, absent in the index")));
    let unknown = unknown.iter().map(|(name, said)| (*name, said));
    let unknown = names::patterns(unknown).into_iter();
    lines.extend(unknown.map(|(name, said)| format!("{name}: {said}")));
    Ok(lines)
}

/// Tensor name → file.
fn read(path: &Path, shown: &Path) -> Result<BTreeMap<String, String>, Error> {
    #[derive(serde::Deserialize)]
    struct Index<'a> {
        #[serde(borrow)]
        weight_map: Entries<'a, String>,
    }
    let fail = |problem: String| Error::file(shown, vec![problem]);
    let io = |error: std::io::Error| fail(error.to_string());
    let file = open_file(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    if len > LONGEST {
        return Err(fail(format!(
            "index has {len} bytes, at most {LONGEST} are read"
        )));
    }
    let text = std::io::read_to_string(file).map_err(io)?;
    let index: Index<'_> =
        serde_json::from_str(&text).map_err(|error| fail(format!("index is no index: {error}")))?;
    let mut map = BTreeMap::new();
    for (name, file) in index.weight_map.0 {
        if let Some(first) = map.insert(name.to_string(), file) {
            return Err(fail(format!(
                "index lists `{}` twice, in `{first}` first",
                &*name
            )));
        }
    }
    Ok(map)
}
