//! Which files a checkpoint consists of: one file, an index, or a folder of shards.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{self, MapAccess, Visitor};

use crate::{Error, Result};

/// Longest index that is read, in bytes; half a million keys take 60 MB.
const MAX_INDEX: u64 = 400_000_000;

/// The files of a checkpoint, and what an index says is in them.
pub(crate) struct Files {
    pub paths: Vec<PathBuf>,
    pub index: Option<Index>,
}

/// A checked `*.safetensors.index.json`: tensor name → shard.
pub(crate) struct Index {
    pub path: PathBuf,
    /// Tensor name → number of the shard in [`Files::paths`].
    pub shard_of: BTreeMap<String, usize>,
}

/// Finds the files; opens none but the index.
pub(crate) fn find(path: &Path) -> Result<Files> {
    let meta = std::fs::metadata(path).map_err(|err| Error::io(path, err))?;
    if meta.is_dir() {
        return find_in_folder(path);
    }
    if path.extension().is_some_and(|ext| ext == "json") {
        return from_index(path);
    }
    Ok(Files {
        paths: vec![path.to_path_buf()],
        index: None,
    })
}

fn find_in_folder(folder: &Path) -> Result<Files> {
    let mut shards = Vec::new();
    let mut indices = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|err| Error::io(folder, err))? {
        let path = entry.map_err(|err| Error::io(folder, err))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        match name {
            Some(name) if name.ends_with(".safetensors.index.json") => indices.push(path),
            Some(name) if name.ends_with(".safetensors") => shards.push(path),
            _ => {}
        }
    }
    indices.sort();
    shards.sort();
    match &indices[..] {
        [] if shards.is_empty() => {
            let text = "folder holds no `*.safetensors` and no `*.safetensors.index.json`";
            Err(Error::file(folder, vec![text.into()]))
        }
        [] => Ok(Files {
            paths: shards,
            index: None,
        }),
        [index] => from_index(index),
        [first, second, ..] => {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_os_string();
            let text = format!(
                "folder holds several indices ({}, {}): open one of them by name",
                name(first).display(),
                name(second).display()
            );
            Err(Error::file(folder, vec![text]))
        }
    }
}

#[derive(serde::Deserialize)]
struct RawIndex {
    weight_map: RawMap,
}

/// `weight_map` with its duplicates, which a plain map would swallow.
struct RawMap(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for RawMap {
    fn deserialize<D: de::Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = RawMap;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of file names by tensor name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMap, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(RawMap(pairs))
            }
        }
        de.deserialize_map(Pairs)
    }
}

fn from_index(path: &Path) -> Result<Files> {
    let len = std::fs::metadata(path)
        .map_err(|err| Error::io(path, err))?
        .len();
    if len > MAX_INDEX {
        let text = format!("index has {len} bytes, at most {MAX_INDEX} are read");
        return Err(Error::file(path, vec![text]));
    }
    let text = std::fs::read(path).map_err(|err| Error::io(path, err))?;
    let raw: RawIndex = serde_json::from_slice(&text)
        .map_err(|err| Error::file(path, vec![format!("index is not valid: {err}")]))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    resolve(folder, raw.weight_map.0)
        .map(|(paths, shard_of)| Files {
            paths,
            index: Some(Index {
                path: path.to_path_buf(),
                shard_of,
            }),
        })
        .map_err(|problems| Error::file(path, problems))
}

type Resolved = (Vec<PathBuf>, BTreeMap<String, usize>);

/// Turns file names into paths inside `folder`; everything wrong is reported together.
fn resolve(folder: &Path, pairs: Vec<(String, String)>) -> Result<Resolved, Vec<String>> {
    let mut problems = Vec::new();
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, file) in &pairs {
        *files.entry(file.as_str()).or_default() += 1;
    }
    let mut number = BTreeMap::new();
    let mut paths = Vec::new();
    for (file, keys) in files {
        if !is_inside(file) {
            problems.push(format!(
                "index names the file `{file}`, which is not inside the folder"
            ));
            continue;
        }
        let path = folder.join(file);
        if !path.is_file() {
            problems.push(format!(
                "index names the file `{file}` for {keys} tensors, but there is none"
            ));
        }
        number.insert(file.to_string(), paths.len());
        paths.push(path);
    }
    let mut shard_of = BTreeMap::new();
    for (name, file) in pairs {
        let Some(&shard) = number.get(&file) else {
            continue;
        };
        if let Some(first) = shard_of.insert(name.clone(), shard) {
            problems.push(format!(
                "index lists `{name}` twice, in `{}` and `{file}`",
                paths[first].file_name().unwrap_or_default().display()
            ));
        }
    }
    if problems.is_empty() {
        Ok((paths, shard_of))
    } else {
        Err(problems)
    }
}

/// A relative path that never leaves its folder.
fn is_inside(file: &str) -> bool {
    let mut parts = Path::new(file).components().peekable();
    // A backslash or a drive letter would mean something else on another system.
    parts.peek().is_some()
        && !file.contains(['\\', ':', '\0'])
        && parts.all(|part| matches!(part, Component::Normal(_)))
}
