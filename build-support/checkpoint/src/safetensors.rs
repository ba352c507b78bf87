//! The header of a safetensors file, bytes in, checked [`Header`] out.
//!
//! Layout: u64 little-endian N, N bytes of JSON, data.
//! Half a million tensors are an ordinary input, whose JSON takes as much memory as all that is known
//! by it: it is read in pieces, and as a whole only where something is wrong, to say what and where.

mod pieces;

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::dtype::Dtype;
use crate::entries::{TWICE, Text};
use crate::header::{CUT, Header, Key, KeyProblem, Value, json_problem, mended};
use pieces::Pieces;

/// The format's own limit for the length of the JSON, in bytes.
const MAX_JSON: u64 = 100_000_000;
/// More dimensions than any tensor has; keeps the shape list small on hostile input.
const MAX_RANK: usize = 64;
/// Holes and overlaps that are looked up by name; each lookup goes through all tensors.
const MAX_PROBLEMS: usize = 20;
/// What mends a header that nobody can read.
const AGAIN: &str = "download the file again, or save it again with safetensors";

/// Reads and checks the header; the problems found are sentences without the file's name.
pub(crate) fn read(file: &mut (impl Read + Seek), file_len: u64) -> Result<Header, Vec<String>> {
    let len = json_len(file, file_len).map_err(|problem| vec![problem])?;
    if let Some(header) = parse_pieces(file.take(len), len, file_len) {
        return Ok(header);
    }
    let mut json = vec![0; len as usize];
    let read = file.seek(SeekFrom::Start(8));
    let read = read.and_then(|_| file.read_exact(&mut json));
    read.map_err(|err| vec![err.to_string()])?;
    parse(&json, file_len).map_err(|problems| mended(problems, AGAIN))
}

/// Checks a header's JSON piece by piece; `None` where anything is wrong with it, or may be.
fn parse_pieces(json: impl Read, len: u64, file_len: u64) -> Option<Header> {
    let mut raw = Raw::default();
    let mut pieces = Pieces::new(json);
    let (mut count, mut is_empty) = (0, false);
    while let Some(piece) = pieces.next()? {
        let mut de = serde_json::Deserializer::from_slice(piece);
        let keys = HeaderSeed(&mut raw).deserialize(&mut de).ok()?;
        de.end().ok()?;
        count += 1;
        is_empty |= keys == 0;
    }
    // Of several pieces, one without a key is what stands beside a comma too many.
    let is_sound = raw.problems.is_empty() && (count == 1 || !is_empty);
    is_sound.then(|| raw.check("", len, file_len).ok())?
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
        .and_then(|_| de.end())
        .map_err(|err| vec![format!("header is {}", json_problem(text, 8, &err))])?;
    raw.check(text, text.len() as u64, file_len)
}

/// The length of the JSON, with which the file starts.
fn json_len(file: &mut impl Read, file_len: u64) -> Result<u64, String> {
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
    Ok(len)
}

/// What the JSON says, before offsets are checked.
#[derive(Default)]
struct Raw {
    header: Header,
    has_metadata: bool,
    /// The shape of the tensor that is being read.
    dims: Vec<usize>,
    problems: Vec<KeyProblem>,
}

impl Raw {
    fn problem(&mut self, key: Key, name: &str, text: String) {
        let name = name.to_owned();
        self.problems.push(KeyProblem { key, name, text });
    }

    /// The header, where nothing is wrong; what is is looked up in the JSON.
    fn check(mut self, json: &str, len: u64, file_len: u64) -> Result<Header, Vec<String>> {
        let data_start = 8 + len;
        let problems = match self.problems.is_empty() {
            true => self.layout_problems(file_len - data_start, data_start),
            false => KeyProblem::sentences(self.problems, json, 8),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        self.header.entries.move_by(data_start);
        Ok(self.header)
    }

    /// What keeps the tensors from filling the data exactly, without a hole and without an overlap.
    fn layout_problems(&self, data_len: u64, data_start: u64) -> Vec<String> {
        let mut problems = Vec::new();
        let entries = &self.header.entries;
        let range = |&number: &u32| (entries.range(number).start, entries.range(number).end);
        let mut order: Vec<u32> = entries.numbers().collect();
        // Most files list their tensors in the order of the data.
        if !order.is_sorted_by_key(range) {
            order.sort_unstable_by_key(range);
        }
        let mut at = 0;
        let mut last = None;
        for (start, end) in order.iter().map(range) {
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
        let entries = &self.header.entries;
        let numbers = entries.numbers();
        let numbers = numbers.filter(|&number| entries.range(number) == (start..end));
        let names = numbers.map(|number| entries.name(number));
        let name = match twin == Some((start, end)) {
            true => names.max(),
            false => names.min(),
        };
        name.unwrap_or_default().to_string()
    }
}

/// What a header says of one tensor beside its name and shape.
struct Entry {
    dtype: Dtype,
    start: u64,
    end: u64,
}

/// dtype × shape, which is the number of bytes.
fn check_size(entry: &Entry, shape: &[usize]) -> Result<u64, String> {
    let Entry { dtype, start, end } = *entry;
    if start > end {
        return Err(format!("data_offsets [{start}, {end}] run backwards"));
    }
    match dtype.size(shape)? {
        bytes if bytes == end - start => Ok(bytes),
        bytes => Err(format!(
            "{dtype} {shape:?} takes {bytes} bytes, data_offsets [{start}, {end}] hold {}",
            end - start
        )),
    }
}

/// Reads an object of tensors; gives the number of its keys.
struct HeaderSeed<'a>(&'a mut Raw);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<usize, D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let Self(raw) = self;
        let mut keys = 0;
        while let Some(Text(name)) = map.next_key()? {
            let key = Key {
                outer: keys,
                inner: None,
            };
            keys += 1;
            if name == "__metadata__" {
                if raw.has_metadata {
                    raw.problem(key, &name, TWICE.to_owned());
                }
                raw.has_metadata = true;
                map.next_value_seed(MetadataSeed(raw, key.outer))?;
                continue;
            }
            let entry = map.next_value_seed(EntrySeed {
                dims: &mut raw.dims,
                name: &name,
            })?;
            let bytes = check_size(&entry, &raw.dims).unwrap_or_else(|problem| {
                raw.problem(key, &name, format!(": {problem}"));
                0
            });
            let kind = (entry.dtype, &*raw.dims);
            if let Err(why) = raw.header.entries.insert(&name, kind, entry.start, bytes) {
                raw.problem(key, &name, why.to_owned());
            }
        }
        Ok(keys)
    }
}

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
        self.dims.clear();
        let twice = |field| de::Error::custom(format!("`{}` has {field} twice", self.name));
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Dtype if dtype.is_none() => {
                    let Text(name) = map.next_value()?;
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
        let dtype = dtype.ok_or_else(|| absent("dtype"))?;
        shape.ok_or_else(|| absent("shape"))?;
        Ok(Entry { dtype, start, end })
    }
}

struct ShapeSeed<'a>(&'a mut Vec<usize>);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(dim) = seq.next_element()? {
            if self.0.len() == MAX_RANK {
                let text = format!("a shape has more than {MAX_RANK} dimensions");
                return Err(de::Error::custom(text));
            }
            self.0.push(dim);
        }
        Ok(())
    }
}
