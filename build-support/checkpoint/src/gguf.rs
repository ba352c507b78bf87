//! The header of a GGUF file, version 2 or 3, bytes in, checked [`Header`] out.
//!
//! Layout (little-endian): magic, u32 version, u64 tensors, u64 metadata; the metadata as key, u32
//! type, value; per tensor its name, u32 rank, u64 sizes (innermost first), u32 type, u64 offset
//! from the start of the data, which is aligned to `general.alignment`.
//! Every length is checked against what is left of the file before anything is allocated for it.

use std::collections::hash_map::Entry as Slot;
use std::io::{BufReader, Read};

use crate::dtype::Dtype;
use crate::header::{Entry, Header, Value};

/// Longest text that is kept, in bytes.
const MAX_TEXT: u64 = 1 << 16;
/// Longest name of a tensor or a metadata key, in bytes.
const MAX_NAME: u64 = 1 << 12;
/// Highest rank of a tensor.
const MAX_RANK: u32 = 8;
/// Arrays of arrays deeper than this are no metadata.
const MAX_DEPTH: u32 = 4;
/// Alignment of the data where the file names none.
const ALIGNMENT: u64 = 32;
/// Problems that are collected; a file with more is not a GGUF file at all.
const MAX_PROBLEMS: usize = 20;

/// Reads and checks the header; the problems found are sentences without the file's name.
pub(crate) fn read(file: impl Read, file_len: u64) -> Result<Header, Vec<String>> {
    let mut reader = Reader {
        inner: BufReader::with_capacity(1 << 20, file),
        at: 0,
        len: file_len,
    };
    let parsed = Parsed::read(&mut reader);
    let (raw, end) = (parsed.map_err(|problem| vec![problem])?, reader.at);
    raw.check(end, file_len)
}

/// The header before offsets are checked; offsets count from the start of the data.
struct Parsed {
    header: Header,
    /// Names that are listed a second time.
    problems: Vec<String>,
}

impl Parsed {
    fn read(from: &mut Reader<impl Read>) -> Result<Self, String> {
        let magic = from.bytes::<4>("magic")?;
        if magic != *b"GGUF" {
            return Err("file does not start with `GGUF`".into());
        }
        let version = from.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(format!(
                "GGUF version at byte 4 is {version}, versions 2 and 3 are read"
            ));
        }
        // A tensor takes at least 24 bytes of the header, a metadata entry at least 13.
        let tensors = from.count("number of tensors", 24)?;
        let metadata = from.count("number of metadata entries", 13)?;
        let mut parsed = Self {
            header: Header::default(),
            problems: Vec::new(),
        };
        for _ in 0..metadata {
            let at = from.at;
            let key = from.text("a metadata key", MAX_NAME)?;
            let kind = from.u32(&key)?;
            let value = from.value(&key, kind, 0)?;
            if parsed.header.metadata.insert(key.clone(), value).is_some() {
                parsed.problem(format!("metadata `{key}` is listed twice, at byte {at}"));
            }
        }
        for _ in 0..tensors {
            parsed.tensor(from)?;
        }
        Ok(parsed)
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn tensor(&mut self, from: &mut Reader<impl Read>) -> Result<(), String> {
        let at = from.at;
        let name = from.text("the name of a tensor", MAX_NAME)?;
        let rank = from.u32(&name)?;
        if rank > MAX_RANK {
            return Err(format!(
                "`{name}` at byte {at} has {rank} dimensions, at most {MAX_RANK} are read"
            ));
        }
        let mut shape = [0; MAX_RANK as usize];
        let shape = &mut shape[..rank as usize];
        for dim in shape.iter_mut().rev() {
            let size = from.u64(&name)?;
            *dim = usize::try_from(size)
                .map_err(|_| format!("`{name}` at byte {at} has a size of {size}"))?;
        }
        let code = from.u32(&name)?;
        let start = from.u64(&name)?;
        let dtype = Dtype::from_gguf(code)
            .ok_or_else(|| format!("`{name}` at byte {at} has the unknown type {code}"))?;
        let bytes = dtype.bytes(shape).ok_or_else(|| {
            format!("`{name}` at byte {at}: {dtype} {shape:?} is no whole number of blocks")
        })?;
        let end = start
            .checked_add(bytes)
            .ok_or_else(|| format!("`{name}` at byte {at} has the offset {start}"))?;
        let dims = &mut self.header.dims;
        // A size takes 8 bytes of the header, which is shorter than 2^35 bytes.
        let first = u32::try_from(dims.len()).map_err(|_| "too many tensors".to_string())?;
        dims.extend_from_slice(shape);
        let entry = Entry {
            dtype,
            shape: (first, rank as u8),
            start,
            end,
        };
        match self.header.entries.entry(name.into()) {
            Slot::Vacant(slot) => {
                slot.insert(entry);
            }
            Slot::Occupied(slot) => {
                let text = format!("`{}` is listed twice, at byte {at}", slot.key());
                self.problem(text);
            }
        }
        Ok(())
    }

    /// Every tensor lies within the data, aligned, and on no other.
    fn check(mut self, header_end: u64, file_len: u64) -> Result<Header, Vec<String>> {
        let alignment = match self.header.metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(value) => match value.as_usize() {
                Some(n) if n.is_power_of_two() && n <= 1 << 20 => n as u64,
                _ => {
                    let text = "`general.alignment` is no power of two up to 2^20";
                    return Err(vec![text.into()]);
                }
            },
        };
        let data = header_end.next_multiple_of(alignment);
        let mut order: Vec<(u64, u64, &str)> = Vec::with_capacity(self.header.entries.len());
        for (name, entry) in &self.header.entries {
            order.push((entry.start, entry.end, name));
        }
        order.sort_unstable();
        let mut last: Option<(u64, &str)> = None;
        let mut problems = Vec::new();
        for (start, end, name) in order {
            let byte = data.saturating_add(start);
            let file_end = data.saturating_add(end);
            if start % alignment != 0 {
                problems.push(format!(
                    "`{name}` starts at byte {byte}, no multiple of the alignment {alignment}"
                ));
            }
            if file_end > file_len {
                problems.push(format!(
                    "`{name}` ends at byte {file_end}, the file at byte {file_len}: the file was \
                     cut"
                ));
            }
            if let Some((_, before)) = last.filter(|&(end, _)| start < end) {
                problems.push(format!("`{name}` overlaps `{before}` at byte {byte}"));
            }
            if problems.len() >= MAX_PROBLEMS {
                break;
            }
            if last.is_none_or(|(before, _)| end > before) {
                last = Some((end, name));
            }
        }
        for problem in problems {
            self.problem(problem);
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        for entry in self.header.entries.values_mut() {
            entry.start += data;
            entry.end += data;
        }
        Ok(self.header)
    }
}

/// Reads little-endian values and knows where it is.
struct Reader<R> {
    inner: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read> Reader<R> {
    fn left(&self) -> u64 {
        self.len.saturating_sub(self.at)
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        let at = self.at;
        self.inner.read_exact(&mut bytes).map_err(|err| {
            format!(
                "file ends at byte {}, {what} is at byte {at}: {err}",
                self.len
            )
        })?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A number of things that take at least `least` bytes each of what follows.
    fn count(&mut self, what: &str, least: u64) -> Result<u64, String> {
        let at = self.at;
        let count = self.u64(what)?;
        if count > self.left() / least {
            return Err(format!(
                "{what} at byte {at} is {count}, but only {} bytes follow",
                self.left()
            ));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str, longest: u64) -> Result<String, String> {
        let at = self.at;
        let len = self.count(what, 1)?;
        if len > longest {
            return Err(format!("{what} at byte {at} has {len} bytes"));
        }
        let mut bytes = vec![0; len as usize];
        self.inner
            .read_exact(&mut bytes)
            .map_err(|err| format!("{what} at byte {at}: {err}"))?;
        self.at += len;
        String::from_utf8(bytes).map_err(|_| format!("{what} at byte {at} is not UTF-8"))
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<(), String> {
        let at = self.at;
        let skipped = std::io::copy(&mut self.inner.by_ref().take(bytes), &mut std::io::sink())
            .map_err(|err| format!("{what} at byte {at}: {err}"))?;
        self.at += skipped;
        if skipped == bytes {
            return Ok(());
        }
        Err(format!(
            "file ends at byte {}, within {what} at byte {at}",
            self.len
        ))
    }

    fn value(&mut self, key: &str, kind: u32, depth: u32) -> Result<Value, String> {
        let at = self.at;
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.bytes(key)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes(key)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes(key)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes(key)?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.bytes(key)?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes(key)?).into()),
            7 => match self.bytes::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("`{key}` at byte {at} is the boolean {other}")),
            },
            8 => self.long_text(key)?,
            9 => self.array(key, depth)?,
            10 => Value::Integer(u64::from_le_bytes(self.bytes(key)?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes(key)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes(key)?)),
            _ => return Err(format!("`{key}` at byte {at} has the unknown type {kind}")),
        })
    }

    /// Text; that of a long one (a chat template, a licence) is not kept.
    fn long_text(&mut self, key: &str) -> Result<Value, String> {
        let at = self.at;
        let len = self.count(key, 1)?;
        if len > MAX_TEXT {
            self.skip(len, key)?;
            return Ok(Value::Text(String::new()));
        }
        let mut bytes = vec![0; len as usize];
        self.inner
            .read_exact(&mut bytes)
            .map_err(|err| format!("`{key}` at byte {at}: {err}"))?;
        self.at += len;
        let text = String::from_utf8(bytes);
        text.map(Value::Text)
            .map_err(|_| format!("`{key}` at byte {at} is not UTF-8"))
    }

    fn array(&mut self, key: &str, depth: u32) -> Result<Value, String> {
        let at = self.at;
        let kind = self.u32(key)?;
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => 0,
            9 if depth < MAX_DEPTH => 0,
            _ => return Err(format!("`{key}` at byte {at} is an array of type {kind}")),
        };
        // An inner text takes at least 8 bytes, an inner array 12.
        let len = self.count(key, if width == 0 { 8 } else { width })?;
        match kind {
            8 => {
                for _ in 0..len {
                    let bytes = self.count(key, 1)?;
                    self.skip(bytes, key)?;
                }
            }
            9 => {
                for _ in 0..len {
                    self.array(key, depth + 1)?;
                }
            }
            _ => self.skip(len * width, key)?,
        }
        Ok(Value::Array(len))
    }
}
