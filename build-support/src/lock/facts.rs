//! What a lock says besides the tensors: files, metadata, and the configuration beside the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pycandle_checkpoint::{
    Checkpoint, Error, Origin, Shard, Snapshot, Value as Metadata, config_facts,
};
use serde_json::Value;

use super::write::sorted;

/// Longer text is no fact that a model depends on: a chat template, a licence.
const LONGEST_TEXT: usize = 200;
/// Longer lists, and larger objects, are tables, such as the names of a thousand classes.
const LONGEST_LIST: usize = 1024;
const LARGEST_OBJECT: usize = 256;
/// Objects in objects deeper than this are left out.
const DEEPEST: usize = 6;

/// A file of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct File {
    /// Its size.
    pub bytes: u64,
    /// Number of tensors in it.
    pub tensors: u64,
}

/// Everything in a lock but the tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub is_gguf: bool,
    /// By path from the folder of the weights.
    pub files: BTreeMap<String, File>,
    /// Hashes of the files' headers, which only a lock has.
    pub headers: BTreeMap<String, String>,
    /// The commit that it is of, where the hub's cache says so.
    pub origin: Option<Origin>,
    /// Of the files' headers; GGUF keeps the architecture there.
    pub metadata: BTreeMap<String, Value>,
    /// `config.json` beside the weights, without what no model depends on.
    pub config: Option<BTreeMap<String, Value>>,
}

impl Facts {
    /// The facts of a checkpoint that has files.
    ///
    /// # Errors
    /// When a file's size cannot be read, or `config.json` is there and is no JSON object.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let shards = checkpoint.shards();
        let mut tensors = vec![0; shards.len()];
        for tensor in checkpoint.iter() {
            tensors[tensor.shard()] += 1;
        }
        let mut files = BTreeMap::new();
        for (shard, tensors) in shards.iter().zip(tensors) {
            let bytes = match shard.file().map(std::fs::File::metadata).transpose() {
                Ok(metadata) => metadata.map_or(0, |metadata| metadata.len()),
                Err(error) => return Err(Error::file(shard.shown(), vec![error.to_string()])),
            };
            files.insert(name(checkpoint, shard), File { bytes, tensors });
        }
        let metadata = checkpoint.all_metadata().into_iter();
        let metadata = metadata.filter_map(|(key, value)| Some((key.to_owned(), json(value)?)));
        Ok(Self {
            is_gguf: checkpoint.is_gguf(),
            files,
            headers: BTreeMap::new(),
            origin: checkpoint.origin(),
            metadata: metadata.collect(),
            config: config(checkpoint)?,
        })
    }

    /// The hash of a file's header; none is an empty one.
    pub fn header(&self, file: &str) -> &str {
        self.headers.get(file).map_or("", |hash| hash)
    }

    /// Tells a snapshot what these facts are.
    pub fn put_into(&self, snapshot: &mut Snapshot) {
        snapshot.gguf(self.is_gguf);
        if let Some(origin) = &self.origin {
            snapshot.origin(origin.clone());
        }
        for (key, value) in &self.metadata {
            if let Some(value) = metadata(value) {
                snapshot.metadata(key, value);
            }
        }
        if let Some(config) = &self.config {
            let config: serde_json::Map<_, _> = config.clone().into_iter().collect();
            snapshot.config(&Value::Object(config).to_string());
        }
    }

    /// In what the checkpoint (`other`) differs from these facts of a lock.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is_gguf != other.is_gguf {
            let name = |is_gguf| if is_gguf { "GGUF" } else { "safetensors" };
            lines.push(format!(
                "format: {} in the lock, {} on disk",
                name(self.is_gguf),
                name(other.is_gguf)
            ));
        }
        // A copy out of the cache does not say where it is from.
        if let (Some(a), Some(b)) = (&self.origin, &other.origin)
            && a != b
        {
            lines.push(format!("origin: {a} in the lock, {b} on disk"));
        }
        let shown = |file: Option<&File>| match file {
            Some(File { bytes, tensors: 1 }) => format!("{bytes} bytes with 1 tensor"),
            Some(File { bytes, tensors }) => format!("{bytes} bytes with {tensors} tensors"),
            None => "absent".to_owned(),
        };
        each(&self.files, &other.files, |name, a, b| {
            lines.push(format!(
                "file {name}: {} in the lock, {} on disk",
                shown(a),
                shown(b)
            ));
        });
        let shown = |value: Option<&Value>| value.map_or("absent".to_owned(), sorted);
        each(&self.metadata, &other.metadata, |name, a, b| {
            lines.push(format!(
                "metadata {name}: {} in the lock, {} on disk",
                shown(a),
                shown(b)
            ));
        });
        match (&self.config, &other.config) {
            (Some(_), None) => {
                lines.push("config.json: absent on disk, the lock was written with one".to_owned())
            }
            (_, None) => {}
            (_, Some(config)) => lines.extend(self.config_differences(config)),
        }
        lines
    }

    /// In what a config on disk differs from that of the lock.
    pub fn config_differences(&self, on_disk: &BTreeMap<String, Value>) -> Vec<String> {
        let Some(locked) = &self.config else {
            return vec!["config.json: on disk, the lock was written without one".to_owned()];
        };
        let mut lines = Vec::new();
        nested(locked, on_disk, "", &mut lines);
        lines
    }
}

/// The path of a file from the folder of the weights.
pub(super) fn name(checkpoint: &Checkpoint, shard: &Shard) -> String {
    let path = shard.path().strip_prefix(checkpoint.folder());
    // Paths in a lock use `/` on every system.
    let path = path.unwrap_or(shard.path()).to_string_lossy();
    path.replace('\\', "/")
}

/// A line for each setting that differs, also within parts of the config.
fn nested(
    locked: &BTreeMap<String, Value>,
    on_disk: &BTreeMap<String, Value>,
    within: &str,
    lines: &mut Vec<String>,
) {
    let shown = |value: Option<&Value>| value.map_or("absent".to_owned(), sorted);
    let map = |value: &serde_json::Map<String, Value>| value.clone().into_iter().collect();
    each(locked, on_disk, |key, a, b| match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            nested(&map(a), &map(b), &format!("{within}{key}."), lines);
        }
        (a, b) => {
            let (a, b) = (shown(a), shown(b));
            lines.push(format!(
                "config.json {within}{key}: {a} in the lock, {b} on disk"
            ));
        }
    });
}

/// Calls `found` for each key whose values differ.
pub(super) fn each<V: PartialEq>(
    a: &BTreeMap<String, V>,
    b: &BTreeMap<String, V>,
    mut found: impl FnMut(&str, Option<&V>, Option<&V>),
) {
    for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let pair = (a.get(key), b.get(key));
        if pair.0 != pair.1 {
            found(key, pair.0, pair.1);
        }
    }
}

/// What a lock keeps of the config beside a checkpoint.
///
/// # Errors
/// When it is there and cannot be read, or is no JSON object.
pub(super) fn config(checkpoint: &Checkpoint) -> Result<Option<BTreeMap<String, Value>>, Error> {
    match checkpoint.config()? {
        Some(text) => {
            let (_, shown) = checkpoint.config_path();
            Ok(Some(kept_of(&text, &shown)?))
        }
        None => Ok(None),
    }
}

/// Where the config of a checkpoint at this path is, as errors call it.
pub(super) fn config_beside(path: &Path, shown: &Path) -> PathBuf {
    match path.is_dir() {
        true => shown.join("config.json"),
        false => shown.with_file_name("config.json"),
    }
}

/// What a lock keeps of a config: everything but what differs between machines or is a table. The
/// facts that are compared are always among it.
pub(super) fn kept_of(text: &str, place: &Path) -> Result<BTreeMap<String, Value>, Error> {
    let fail = |problem: String| Error::file(place, vec![problem]);
    let config = match serde_json::from_str(text) {
        Ok(config @ Value::Object(_)) => config,
        Ok(_) => return Err(fail("is no JSON object".into())),
        Err(error) => return Err(fail(format!("is not JSON: {error}"))),
    };
    let facts = config_facts(text);
    let is_same = |kept: &Value| config_facts(&kept.to_string()) == facts;
    let alone = || serde_json::from_str(facts.as_ref()?).ok().filter(is_same);
    let kept = kept(config.clone(), 0).filter(is_same).or_else(alone);
    match kept.unwrap_or(config) {
        Value::Object(kept) => Ok(kept.into_iter().collect()),
        _ => Ok(BTreeMap::new()),
    }
}

/// The value without those entries of its objects that are not kept.
fn kept(value: Value, depth: usize) -> Option<Value> {
    match value {
        Value::Object(entries) if depth < DEEPEST && entries.len() <= LARGEST_OBJECT => {
            let entries = entries.into_iter();
            let kept = entries.filter_map(|(key, value)| Some((key, kept(value, depth + 1)?)));
            Some(Value::Object(kept.collect()))
        }
        value => is_kept(&value, depth).then_some(value),
    }
}

/// Whether a model may depend on it, and it is the same on every machine.
fn is_kept(value: &Value, depth: usize) -> bool {
    match value {
        Value::String(text) => is_kept_text(text),
        // Without one of its items a list would be another.
        Value::Array(items) => {
            items.len() <= LONGEST_LIST && items.iter().all(|item| is_kept(item, depth + 1))
        }
        Value::Object(entries) => {
            depth < DEEPEST
                && entries.len() <= LARGEST_OBJECT
                && entries.values().all(|value| is_kept(value, depth + 1))
        }
        _ => true,
    }
}

/// No long text, and no path of the machine that wrote the file.
fn is_kept_text(text: &str) -> bool {
    let drive = text.as_bytes().get(1) == Some(&b':');
    text.len() <= LONGEST_TEXT && !text.starts_with(['/', '\\', '~']) && !drive
}

/// A value of a header's metadata as JSON; an array is its length in a list.
fn json(value: &Metadata) -> Option<Value> {
    match value {
        Metadata::Text(text) => is_kept_text(text).then(|| text.as_str().into()),
        Metadata::Integer(value) => match u64::try_from(*value) {
            Ok(value) => Some(value.into()),
            Err(_) => i64::try_from(*value).ok().map(Value::from),
        },
        Metadata::Float(value) => serde_json::Number::from_f64(*value).map(Value::Number),
        Metadata::Bool(value) => Some((*value).into()),
        Metadata::Array(len) => Some(vec![*len].into()),
        _ => None,
    }
}

/// The inverse of [`json`]; `None` for what it never returns.
pub(super) fn metadata(value: &Value) -> Option<Metadata> {
    match value {
        Value::String(text) => Some(Metadata::Text(text.clone())),
        Value::Bool(value) => Some(Metadata::Bool(*value)),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), ..) => Some(Metadata::Integer(value.into())),
            (None, Some(value), _) => Some(Metadata::Integer(value.into())),
            (None, None, Some(value)) => Some(Metadata::Float(value)),
            _ => None,
        },
        Value::Array(items) => match &items[..] {
            [len] => len.as_u64().map(Metadata::Array),
            _ => None,
        },
        _ => None,
    }
}
