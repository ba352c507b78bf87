//! The text of a lock, which may be cut, merged badly or made up, → what it says.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use pycandle_checkpoint::{Checkpoint, Dtype, Origin, Snapshot, open_file};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::facts::{self, Facts, File};
use super::names::Pattern;
use super::{VERSION, write};
use crate::raw::json::Entries;
use crate::raw::locate::{self, Lines};

/// Longest lock that is read, in bytes.
const LONGEST: u64 = 1 << 28;
/// Most tensors that are read, and how long all their names may be.
const MOST_TENSORS: u64 = 1 << 23;
const LONGEST_NAMES: u64 = 1 << 30;

/// A lock that was read and is whole.
#[derive(Debug)]
pub(crate) struct Lock {
    pub facts: Facts,
    /// What the lock describes, without files.
    pub checkpoint: Checkpoint,
}

/// Reads the lock at `path`; the problems found are sentences that begin with line and field.
pub(super) fn read(path: &Path, shown: &Path) -> Result<Lock, Vec<String>> {
    let fail = |error: std::io::Error| vec![format!("cannot be read: {error}")];
    let mut file = open_file(path).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    if len > LONGEST {
        return Err(vec![format!("has {len} bytes, at most {LONGEST} are read")]);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fail)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|&b| b == b'\n').count();
        vec![format!("line {line}: is not UTF-8 text")]
    })?;
    parse(text, path, shown)
}

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow)]
    pycandle_lock: Option<&'a RawValue>,
    #[serde(borrow)]
    sha256: Option<&'a RawValue>,
    #[serde(borrow)]
    format: Option<&'a RawValue>,
    #[serde(borrow)]
    files: Option<&'a RawValue>,
    #[serde(borrow)]
    origin: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    weights: Option<&'a RawValue>,
}

/// Checks the text of a lock.
pub(super) fn parse(text: &str, path: &Path, shown: &Path) -> Result<Lock, Vec<String>> {
    let mut source = Source {
        text,
        lines: Lines::new(text),
        problems: Vec::new(),
    };
    if let Some(at) = conflict(text) {
        let line = source.lines.at(at);
        return Err(vec![format!(
            "line {line}: is in the middle of a merge conflict"
        )]);
    }
    if let Some((at, problem)) = locate::no_object(text) {
        return Err(vec![format!("line {}: {problem}", source.lines.at(at))]);
    }
    let top: Top<'_> = match serde_json::from_str(text) {
        Ok(top) => top,
        Err(error) => {
            source.syntax(0, text, &error, "");
            return Err(source.problems);
        }
    };
    let version = source.field::<u64>("pycandle_lock", top.pycandle_lock);
    if let Some(version) = version.filter(|&version| version != VERSION) {
        let text = format!(
            "the lock has version {version}, this pycandle reads {VERSION}: it was written by {}",
            if version > VERSION {
                "a newer one"
            } else {
                "an older one"
            }
        );
        source.problem(top.pycandle_lock, "pycandle_lock", &text);
        return Err(source.problems);
    }
    let mut snapshot = Snapshot::default();
    let sha256 = source.field::<String>("sha256", top.sha256);
    let facts = source.facts(&top);
    facts.put_into(&mut snapshot);
    source.weights(top.weights, &facts, &mut snapshot);
    if !source.problems.is_empty() {
        return Err(source.problems);
    }
    let checkpoint = snapshot.into_checkpoint(path, shown);
    let actual = write::sha256(&facts, &checkpoint);
    if sha256.as_ref() != Some(&actual) {
        let text = "does not belong to the rest of the lock: something in it was edited or merged";
        source.problem(top.sha256, "sha256", text);
        return Err(source.problems);
    }
    Ok(Lock { facts, checkpoint })
}

/// Where Git left a conflict; in JSON no line begins so.
fn conflict(text: &str) -> Option<usize> {
    let marks = ["<<<<<<< ", "=======", ">>>>>>> ", "||||||| "];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if marks.iter().any(|mark| line.starts_with(mark)) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

struct Source<'a> {
    text: &'a str,
    lines: Lines<'a>,
    problems: Vec<String>,
}

impl<'a> Source<'a> {
    fn problem(&mut self, at: Option<&RawValue>, field: &str, problem: &str) {
        let line = at.map_or(1, |raw| self.lines.of(raw.get()));
        self.problems
            .push(format!("line {line}: {field}: {problem}"));
    }

    /// An error of the parser within `part`, which begins at `start`.
    fn syntax(&mut self, start: usize, part: &str, error: &serde_json::Error, field: &str) {
        let offset = locate::error_offset(part, error);
        let line = self.lines.at(start + offset);
        let field = field.to_owned() + &locate::path_to(part, offset);
        let field = match field.trim_start_matches('.') {
            "" => String::new(),
            field => format!("{field}: "),
        };
        self.problems
            .push(format!("line {line}: {field}{}", locate::plain(error)));
    }

    fn field<T: Deserialize<'a>>(&mut self, name: &str, raw: Option<&'a RawValue>) -> Option<T> {
        let Some(raw) = raw else {
            self.problems
                .push(format!("line 1: {name}: the field is missing"));
            return None;
        };
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(error) => {
                let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
                self.syntax(start, raw.get(), &error, name);
                None
            }
        }
    }

    /// The entries of an object, of which none comes twice.
    fn entries(&mut self, name: &str, raw: Option<&'a RawValue>) -> BTreeMap<String, &'a RawValue> {
        let entries = self.field::<Entries<'a, &'a RawValue>>(name, raw);
        let mut map = BTreeMap::new();
        for (key, value) in entries.into_iter().flat_map(|entries| entries.0) {
            if map.contains_key(&*key) {
                self.problem(Some(value), &format!("{name}.{}", &*key), "is listed twice");
            }
            map.insert(key.to_string(), value);
        }
        map
    }

    fn facts(&mut self, top: &Top<'a>) -> Facts {
        let mut facts = Facts::default();
        let format = self.field::<String>("format", top.format);
        match format.as_deref() {
            Some("gguf") => facts.is_gguf = true,
            Some("safetensors") | None => {}
            Some(_) => self.problem(top.format, "format", "is neither `safetensors` nor `gguf`"),
        }
        for (name, raw) in self.entries("files", top.files) {
            let field = format!("files.{name}");
            let file = self.entries(&field, Some(raw));
            let mut number = |key: &str| {
                let number = self.field::<u64>(&format!("{field}.{key}"), file.get(key).copied());
                number.unwrap_or(0)
            };
            let (bytes, tensors) = (number("bytes"), number("tensors"));
            let header = self.field(&format!("{field}.header"), file.get("header").copied());
            facts
                .headers
                .extend(header.map(|hash| (name.clone(), hash)));
            facts.files.insert(name, File { bytes, tensors });
        }
        if top.origin.is_some() {
            let origin = self.entries("origin", top.origin);
            let repository = origin.get("repository").copied();
            let repository = repository.and_then(|raw| self.field("origin.repository", Some(raw)));
            let commit = self.field("origin.commit", origin.get("commit").copied());
            facts.origin = commit.map(|commit| Origin { repository, commit });
        }
        for (key, raw) in self.entries("metadata", top.metadata) {
            let field = format!("metadata.{key}");
            let value = self.field::<Value>(&field, Some(raw)).unwrap_or_default();
            if facts::metadata(&value).is_none() {
                self.problem(Some(raw), &field, "is no value of a file's metadata");
            }
            facts.metadata.insert(key, value);
        }
        if top.config.is_some() {
            let mut config = BTreeMap::new();
            for (key, raw) in self.entries("config", top.config) {
                let value = self.field::<Value>(&format!("config.{key}"), Some(raw));
                config.insert(key, value.unwrap_or_default());
            }
            facts.config = Some(config);
        }
        facts
    }

    fn weights(&mut self, raw: Option<&'a RawValue>, facts: &Facts, snapshot: &mut Snapshot) {
        let tensors = facts.files.values().map(|file| file.tensors);
        let expected = tensors.fold(0u64, u64::saturating_add);
        let (mut count, mut names) = (0u64, 0u64);
        for (key, raw) in self.entries("weights", raw) {
            let field = format!("weights.{key}");
            let Some(text) = self.field::<String>(&field, Some(raw)) else {
                continue;
            };
            let parsed = Pattern::parse(&key).and_then(|pattern| Ok((pattern, tensor(&text)?)));
            let (pattern, (dtype, shape)) = match parsed {
                Ok(parsed) => parsed,
                Err(problem) => {
                    self.problem(Some(raw), &field, &problem);
                    continue;
                }
            };
            // Counted before anything is made of them: a few bytes can stand for billions.
            let more = pattern.count().unwrap_or(u64::MAX);
            count = count.saturating_add(more);
            names = names.saturating_add(more.saturating_mul(key.len() as u64 + 16));
            if count > expected.min(MOST_TENSORS) || names > LONGEST_NAMES {
                let text = format!("makes it {count} tensors, the files hold {expected}");
                return self.problem(Some(raw), &field, &text);
            }
            let added = pattern.expand(|name| snapshot.tensor(name, dtype, &shape));
            if let Err(problem) = added {
                self.problem(Some(raw), &field, &problem);
            }
        }
        if count < expected && self.problems.is_empty() {
            let text = format!("has {count} tensors, the files hold {expected}");
            self.problem(raw, "weights", &text);
        }
    }
}

/// `BF16 [4096, 4096]`.
fn tensor(text: &str) -> Result<(Dtype, Vec<usize>), String> {
    let wrong = || format!("`{text}` is no dtype with a shape, as `BF16 [32, 64]`");
    let (dtype, shape) = text.split_once(' ').ok_or_else(wrong)?;
    let dtype = Dtype::from_name(dtype).ok_or_else(|| format!("`{dtype}` is no dtype"))?;
    let shape = serde_json::from_str(shape).map_err(|_| wrong())?;
    Ok((dtype, shape))
}
