//! Which files a checkpoint consists of: one file, an index, or a folder of shards.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{self, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::header::json_problem;

/// Longest index that is read, in bytes; half a million keys take 60 MB.
const MAX_INDEX: u64 = 400_000_000;

/// A file: where it is, and its path for messages, as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub path: PathBuf,
    pub shown: PathBuf,
}

impl Place {
    fn join(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
            shown: self.shown.join(name),
        }
    }

    fn parent(&self) -> Self {
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("")).to_path_buf();
        Self {
            path: folder(&self.path),
            shown: folder(&self.shown),
        }
    }
}

/// The files of a checkpoint, and what an index says is in them.
pub(crate) struct Files {
    pub shards: Vec<Place>,
    pub index: Option<Index>,
}

/// A checked `*.safetensors.index.json`: tensor name → shard.
pub(crate) struct Index {
    pub place: Place,
    /// Tensor name → number of the shard in [`Files::shards`].
    pub shard_of: BTreeMap<String, usize>,
}

/// Finds the files; opens none but the index.
pub(crate) fn find(place: Place) -> Result<Files> {
    let meta = std::fs::metadata(&place.path).map_err(|err| Error::io(&place.shown, &err))?;
    if meta.is_dir() {
        return find_in_folder(&place);
    }
    if place.path.extension().is_some_and(|ext| ext == "json") {
        return from_index(place);
    }
    Ok(Files {
        shards: vec![place],
        index: None,
    })
}

fn find_in_folder(folder: &Place) -> Result<Files> {
    let fail = |err| Error::io(&folder.shown, &err);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder.path).map_err(fail)? {
        // A name that is not text ends like none of ours.
        names.extend(entry.map_err(fail)?.file_name().into_string().ok());
    }
    names.sort();
    let ending =
        |end: &str| -> Vec<&String> { names.iter().filter(|name| name.ends_with(end)).collect() };
    let shards = match &ending(".safetensors.index.json")[..] {
        [index] => return from_index(folder.join(index)),
        [] => [ending(".safetensors"), ending(".gguf")],
        [first, second, ..] => {
            let text = format!(
                "folder holds several indices ({first}, {second}): open one of them by name"
            );
            return Err(Error::file(&folder.shown, vec![text]));
        }
    };
    match shards.into_iter().find(|shards| !shards.is_empty()) {
        Some(shards) => Ok(Files {
            shards: shards.into_iter().map(|name| folder.join(name)).collect(),
            index: None,
        }),
        None => {
            let text = "folder holds no `*.safetensors`, no `*.safetensors.index.json` and no \
                        `*.gguf`";
            Err(Error::file(&folder.shown, vec![text.into()]))
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

fn from_index(place: Place) -> Result<Files> {
    let fail = |text| Error::file(&place.shown, vec![text]);
    let io = |err: std::io::Error| Error::io(&place.shown, &err);
    let len = std::fs::metadata(&place.path).map_err(io)?.len();
    if len > MAX_INDEX {
        return Err(fail(format!(
            "index has {len} bytes, at most {MAX_INDEX} are read"
        )));
    }
    let text = std::fs::read(&place.path).map_err(io)?;
    let text = std::str::from_utf8(&text)
        .map_err(|err| fail(format!("index is not UTF-8 at byte {}", err.valid_up_to())))?;
    let raw: RawIndex = serde_json::from_str(text)
        .map_err(|err| fail(format!("index is {}", json_problem(text, 0, &err))))?;
    resolve(&place.parent(), raw.weight_map.0)
        .map(|(shards, shard_of)| Files {
            shards,
            index: Some(Index {
                place: place.clone(),
                shard_of,
            }),
        })
        .map_err(|problems| Error::file(&place.shown, problems))
}

type Resolved = (Vec<Place>, BTreeMap<String, usize>);

/// Turns file names into paths inside `folder`; everything wrong is reported together.
fn resolve(folder: &Place, pairs: Vec<(String, String)>) -> Result<Resolved, Vec<String>> {
    let mut problems = Vec::new();
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, file) in &pairs {
        *files.entry(file.as_str()).or_default() += 1;
    }
    let mut number = BTreeMap::new();
    let mut shards: Vec<Place> = Vec::new();
    for (file, keys) in files {
        if !is_inside(file) {
            problems.push(format!(
                "index names the file `{file}`, which is not inside the folder"
            ));
            continue;
        }
        let place = folder.join(file);
        if !place.path.is_file() {
            problems.push(format!(
                "index names the file `{file}` for {keys} tensors, but there is none"
            ));
        }
        number.insert(file.to_string(), shards.len());
        shards.push(place);
    }
    let mut shard_of = BTreeMap::new();
    for (name, file) in pairs {
        let Some(&shard) = number.get(&file) else {
            continue;
        };
        if let Some(first) = shard_of.insert(name.clone(), shard) {
            problems.push(format!(
                "index lists `{name}` twice, in `{}` and `{file}`",
                shards[first].path.file_name().unwrap_or_default().display()
            ));
        }
    }
    if problems.is_empty() {
        Ok((shards, shard_of))
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
