//! The header of a safetensors file, bytes in, checked [`Header`] out.
//!
//! Layout: u64 little-endian N, N bytes of JSON, data.
//! Half a million tensors are an ordinary input: names go into the map as they are read, shapes into
//! one shared list, and nothing else is allocated per tensor.

use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::io::Read;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::dtype::Dtype;
use crate::header::{CUT, Entry, Header, Key, KeyProblem, Value, json_problem, mended};

/// The format's own limit for the length of the JSON, in bytes.
const MAX_JSON: u64 = 100_000_000;
/// More dimensions than any tensor has; keeps the shape list small on hostile input.
const MAX_RANK: usize = 64;
/// Holes and overlaps that are looked up by name; each lookup goes through all tensors.
const MAX_PROBLEMS: usize = 20;
/// What mends a header that nobody can read.
const AGAIN: &str = "download the file again, or save it again with safetensors";

/// Reads and checks the header; the problems found are sentences without the file's name.
pub(crate) fn read(file: &mut impl Read, file_len: u64) -> Result<Header, Vec<String>> {
    let json = read_json(file, file_len).map_err(|problem| vec![problem])?;
    parse(&json, file_len).map_err(|problems| mended(problems, AGAIN))
}

/// Checks a header's JSON against the length of the file that it came from.
fn parse(json: &[u8], file_len: u64) -> Result<Header, Vec<String>> {
    let mut raw = Raw::default();
    let text = std::str::from_utf8(json).map_err(|err| {
        vec![format!(
            "header is not UTF-8 at byte {}",
            8 + err.valid_up_to()
        )]
    })?;
    if !text.starts_with('{') {
        return Err(vec!["header does not start with `{` at byte 8".into()]);
    }
    let mut de = serde_json::Deserializer::from_str(text);
    HeaderSeed(&mut raw)
        .deserialize(&mut de)
        .and_then(|()| de.end())
        .map_err(|err| vec![format!("header is {}", json_problem(text, 8, &err))])?;
    raw.check(text, file_len)
}

fn read_json(file: &mut impl Read, file_len: u64) -> Result<Vec<u8>, String> {
    if file_len < 8 {
        return Err(format!(
            "file ends at byte {file_len}, the length of the header at byte 0 takes 8 bytes: {CUT}"
        ));
    }
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)
        .map_err(|err| err.to_string())?;
    let len = u64::from_le_bytes(prefix);
    if len > file_len - 8 {
        return Err(format!(
            "header length at byte 0 is {len}, but only {} bytes follow: {CUT}, or it is not \
             safetensors",
            file_len - 8
        ));
    }
    if len > MAX_JSON {
        return Err(format!(
            "header length at byte 0 is {len}, the format allows {MAX_JSON}: the file is not \
             safetensors, or has to be split into shards"
        ));
    }
    let mut json = vec![0; len as usize];
    file.read_exact(&mut json).map_err(|err| err.to_string())?;
    Ok(json)
}

/// What the JSON says, before offsets are checked.
#[derive(Default)]
struct Raw {
    header: Header,
    /// Offsets in the order of the JSON, which is that of the data in most files.
    ranges: Vec<(u64, u64)>,
    problems: Vec<KeyProblem>,
}

impl Raw {
    fn problem(&mut self, key: Key, name: &str, text: String) {
        let name = name.to_owned();
        self.problems.push(KeyProblem { key, name, text });
    }

    fn check(mut self, json: &str, file_len: u64) -> Result<Header, Vec<String>> {
        let data_start = 8 + json.len() as u64;
        let problems = match self.problems.is_empty() {
            true => self.layout_problems(file_len - data_start, data_start),
            false => KeyProblem::sentences(self.problems, json, 8),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        for entry in self.header.entries.values_mut() {
            entry.start += data_start;
            entry.end += data_start;
        }
        Ok(self.header)
    }

    /// What keeps the tensors from filling the data exactly, without a hole and without an overlap.
    fn layout_problems(&mut self, data_len: u64, data_start: u64) -> Vec<String> {
        let mut problems = Vec::new();
        let mut ranges = std::mem::take(&mut self.ranges);
        ranges.sort_unstable();
        let mut at = 0;
        let mut last = None;
        for (start, end) in ranges {
            if end > data_len || start != at {
                let name = self.name_at(start, end, last);
                let before = match last {
                    Some((start, end)) => format!("`{}`", self.name_at(start, end, None)),
                    None => "the header".into(),
                };
                let byte = data_start.saturating_add(start);
                problems.push(if end > data_len {
                    let (end, len) = (data_start.saturating_add(end), data_start + data_len);
                    format!("`{name}` ends at byte {end}, the file at byte {len}: {CUT}")
                } else if start < at {
                    format!("`{name}` overlaps {before} at byte {byte}")
                } else {
                    let from = data_start + at;
                    format!(
                        "bytes {from} to {byte} between {before} and `{name}` belong to no tensor"
                    )
                });
                if end > data_len || problems.len() > MAX_PROBLEMS {
                    return problems;
                }
            }
            (at, last) = (at.max(end), Some((start, end)));
        }
        if at < data_len && problems.is_empty() {
            let from = data_start + at;
            let to = data_start + data_len;
            problems.push(format!(
                "bytes {from} to {to} after the last tensor belong to no tensor"
            ));
        }
        problems
    }

    /// The name of the tensor at these offsets; the last by name where `twin` lies there too.
    fn name_at(&self, start: u64, end: u64, twin: Option<(u64, u64)>) -> String {
        let entries = self.header.entries.iter();
        let names = entries.filter(|(_, entry)| (entry.start, entry.end) == (start, end));
        let names = names.map(|(name, _)| &**name);
        let name = match twin == Some((start, end)) {
            true => names.max(),
            false => names.min(),
        };
        name.unwrap_or_default().to_string()
    }
}

/// dtype × shape is the number of bytes.
fn check_size(entry: &Entry, dims: &[usize]) -> Result<(), String> {
    let (dtype, shape) = (entry.dtype, entry.shape(dims));
    let (start, end) = (entry.start, entry.end);
    if start > end {
        return Err(format!("data_offsets [{start}, {end}] run backwards"));
    }
    match dtype.size(shape)? {
        bytes if bytes == end - start => Ok(()),
        bytes => Err(format!(
            "{dtype} {shape:?} takes {bytes} bytes, data_offsets [{start}, {end}] hold {}",
            end - start
        )),
    }
}

struct HeaderSeed<'a>(&'a mut Raw);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut metadata_seen = false;
        for outer in 0.. {
            let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? else {
                break;
            };
            let key = Key { outer, inner: None };
            if name == "__metadata__" {
                if metadata_seen {
                    self.0.problem(key, &name, TWICE.to_owned());
                }
                metadata_seen = true;
                map.next_value_seed(MetadataSeed(self.0, outer))?;
                continue;
            }
            let entry = map.next_value_seed(EntrySeed {
                dims: &mut self.0.header.dims,
                name: &name,
            })?;
            if let Err(problem) = check_size(&entry, &self.0.header.dims) {
                self.0.problem(key, &name, format!(": {problem}"));
            }
            self.0.ranges.push((entry.start, entry.end));
            match self.0.header.entries.entry(name.into()) {
                Slot::Vacant(slot) => {
                    slot.insert(entry);
                }
                Slot::Occupied(slot) => {
                    let name = slot.key().to_string();
                    self.0.problem(key, &name, TWICE.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// What is said of the second entry of a name.
const TWICE: &str = " is listed twice";

/// `__metadata__`, whose duplicates a plain map would swallow.
struct MetadataSeed<'a>(&'a mut Raw, usize);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of text by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for inner in 0.. {
            let Some((name, value)) = map.next_entry::<String, String>()? else {
                break;
            };
            if self.0.header.metadata.contains_key(&name) {
                let inner = Some(inner);
                let key = Key {
                    outer: self.1,
                    inner,
                };
                let text = format!("{TWICE} in `__metadata__`");
                self.0.problem(key, &name, text);
            }
            self.0.header.metadata.insert(name, Value::Text(value));
        }
        Ok(())
    }
}

struct EntrySeed<'a> {
    dims: &'a mut Vec<usize>,
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for EntrySeed<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Entry, D::Error> {
        de.deserialize_map(self)
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    Dtype,
    Shape,
    DataOffsets,
}

impl<'de> Visitor<'de> for EntrySeed<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "dtype, shape and data_offsets of `{}`", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None::<(u64, u64)>);
        let twice = |field| de::Error::custom(format!("`{}` has {field} twice", self.name));
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Dtype if dtype.is_none() => {
                    let name = map.next_value::<std::borrow::Cow<'de, str>>()?;
                    let known = Dtype::from_name(&name).filter(|dtype| !dtype.is_quantized());
                    let unknown = || {
                        let known = Dtype::plain().map(Dtype::name).collect::<Vec<_>>();
                        de::Error::custom(format!(
                            "`{}` has the unknown dtype `{name}`, known are {}",
                            self.name,
                            known.join(", ")
                        ))
                    };
                    dtype = Some(known.ok_or_else(unknown)?);
                }
                Field::Shape if shape.is_none() => {
                    shape = Some(map.next_value_seed(ShapeSeed(self.dims))?)
                }
                Field::DataOffsets if offsets.is_none() => offsets = Some(map.next_value()?),
                Field::Dtype => return Err(twice("dtype")),
                Field::Shape => return Err(twice("shape")),
                Field::DataOffsets => return Err(twice("data_offsets")),
            }
        }
        let absent = |field| de::Error::custom(format!("`{}` has no {field}", self.name));
        let (start, end) = offsets.ok_or_else(|| absent("data_offsets"))?;
        Ok(Entry {
            dtype: dtype.ok_or_else(|| absent("dtype"))?,
            shape: shape.ok_or_else(|| absent("shape"))?,
            start,
            end,
        })
    }
}

struct ShapeSeed<'a>(&'a mut Vec<usize>);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = (u32, u8);

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = (u32, u8);

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // The JSON is at most 100 MB, so its numbers can be counted in 32 bits.
        let start = self.0.len() as u32;
        let mut rank = 0;
        while let Some(dim) = seq.next_element()? {
            if rank == MAX_RANK {
                let text = format!("a shape has more than {MAX_RANK} dimensions");
                return Err(de::Error::custom(text));
            }
            self.0.push(dim);
            rank += 1;
        }
        Ok((start, rank as u8))
    }
}
