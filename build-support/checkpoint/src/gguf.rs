//! The header of a GGUF file, version 2 or 3, bytes in, checked [`Header`] out.
//!
//! Layout (little-endian): magic, u32 version, u64 tensors, u64 metadata; the metadata as key, u32
//! type, value; per tensor its name, u32 rank, u64 sizes (innermost first), u32 type, u64 offset
//! from the start of the data, which is aligned to `general.alignment`.
//! Every length is checked against what is left of the file before anything is allocated for it.

use std::fmt::Arguments;
use std::io::{BufReader, Read, Seek};

use crate::dtype::Dtype;
use crate::header::{CUT, Header, Value, mended};

/// Longest header that is read, in bytes; a vocabulary of half a million takes 20 MB.
const MAX_HEADER: u64 = 1 << 30;
/// Longest text that is kept, in bytes.
const MAX_TEXT: u64 = 1 << 16;
/// Longest name of a tensor or a metadata key, in bytes.
const MAX_NAME: u64 = 1 << 12;
/// Highest rank of a tensor.
const MAX_RANK: u32 = 8;
/// Longest array that is looked into: one entry for each layer.
const MAX_LAYERS: u64 = 1 << 12;
/// Arrays of arrays deeper than this are no metadata.
const MAX_DEPTH: u32 = 4;
/// Alignment of the data where the file names none.
const ALIGNMENT: u64 = 32;
/// Problems that are collected; a file with more is not a GGUF file at all.
const MAX_PROBLEMS: usize = 20;
/// What is said of bytes between tensors and behind them, where there is more than aligns the next.
const NOBODYS: &str = "belong to no tensor: the number of tensors at byte 8 may be wrong";
/// What mends a header that nobody can read.
const AGAIN: &str = "download the file again, or convert the model again";

/// Reads and checks the header; the problems found are sentences without the file's name.
pub(crate) fn read(file: impl Read + Seek, file_len: u64) -> Result<Header, Vec<String>> {
    let mut reader = Reader {
        inner: BufReader::with_capacity(1 << 20, file),
        at: 0,
        len: file_len,
    };
    let mut parsed = Parsed::default();
    let header = match parsed.read(&mut reader) {
        Ok(()) => parsed.check(reader.at, file_len),
        Err(problem) => {
            parsed.problems.push(problem);
            Err(parsed.problems)
        }
    };
    header.map_err(|problems| mended(problems, AGAIN))
}

/// The header before offsets are checked; offsets count from the start of the data.
#[derive(Default)]
struct Parsed {
    header: Header,
    alignment: Option<u64>,
    problems: Vec<String>,
}

impl Parsed {
    fn read(&mut self, from: &mut Reader<impl Read + Seek>) -> Result<(), String> {
        if from.bytes::<4>(format_args!("the magic"))? != *b"GGUF" {
            return Err("file does not start with `GGUF` at byte 0".into());
        }
        match from.u32(format_args!("the version"))? {
            2 | 3 => {}
            version if (2..=3).contains(&version.swap_bytes()) => {
                let text = "file is big-endian by its version at byte 4, which llama.cpp's \
                            `gguf_convert_endian.py` mends";
                return Err(text.into());
            }
            version => {
                return Err(format!(
                    "GGUF version at byte 4 is {version}, versions 2 and 3 are read"
                ));
            }
        }
        // A tensor takes at least 24 bytes of the header, a metadata entry at least 13.
        let tensors = from.count(format_args!("the number of tensors"), 24)?;
        let metadata = from.count(format_args!("the number of metadata entries"), 13)?;
        for _ in 0..metadata {
            self.entry(from)?;
        }
        for _ in 0..tensors {
            self.tensor(from)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &mut Reader<impl Read + Seek>) -> Result<(), String> {
        let at = from.at;
        let key = from.text(format_args!("a metadata key"), MAX_NAME)?;
        let kind = from.u32(format_args!("the type of `{key}`"))?;
        let value = from.value(&key, kind, 0)?;
        if key == "general.alignment" {
            let power = |n: &usize| n.is_power_of_two() && *n <= 1 << 20;
            match value.as_usize().filter(power) {
                Some(alignment) => self.alignment = Some(alignment as u64),
                None => self.problem(format!(
                    "`{key}` at byte {at} is no power of two up to 1048576"
                ))?,
            }
        }
        if self.header.metadata.contains_key(&key) {
            return self.problem(format!("metadata `{key}` at byte {at} is listed twice"));
        }
        self.header.metadata.insert(key, value);
        Ok(())
    }

    /// Notes a problem; fails with the last one that is noted.
    fn problem(&mut self, problem: String) -> Result<(), String> {
        if self.problems.len() + 1 >= MAX_PROBLEMS {
            return Err(problem);
        }
        self.problems.push(problem);
        Ok(())
    }

    fn tensor(&mut self, from: &mut Reader<impl Read + Seek>) -> Result<(), String> {
        let at = from.at;
        let name = from.text(format_args!("the name of a tensor"), MAX_NAME)?;
        let rank = from.u32(format_args!("the rank of `{name}`"))?;
        if rank > MAX_RANK {
            return Err(format!(
                "`{name}` at byte {at} has {rank} dimensions, at most {MAX_RANK} are read"
            ));
        }
        let mut shape = [0; MAX_RANK as usize];
        let shape = &mut shape[..rank as usize];
        for dim in shape.iter_mut().rev() {
            let size = from.u64(format_args!("a size of `{name}`"))?;
            *dim = usize::try_from(size).map_err(|_| {
                format!(
                    "`{name}` at byte {at} has a size of {size}, which this machine cannot count"
                )
            })?;
        }
        let code = from.u32(format_args!("the type of `{name}`"))?;
        let start = from.u64(format_args!("the offset of `{name}`"))?;
        let dtype = Dtype::from_gguf(code)
            .ok_or_else(|| format!("`{name}` at byte {at} has the unknown type {code}"))?;
        let bytes = dtype.size(shape);
        let bytes = bytes.map_err(|problem| format!("`{name}` at byte {at}: {problem}"))?;
        start.checked_add(bytes).ok_or_else(|| {
            format!(
                "`{name}` at byte {at} ends {bytes} bytes after {start}, which 64 bits cannot count"
            )
        })?;
        let entries = &mut self.header.entries;
        match entries.insert(&name, (dtype, shape), start, bytes) {
            Ok(()) => Ok(()),
            Err(why) => self.problem(format!("`{name}` at byte {at}{why}")),
        }
    }

    /// Every tensor lies within the data, aligned, and on no other.
    fn check(mut self, header_end: u64, file_len: u64) -> Result<Header, Vec<String>> {
        let alignment = self.alignment.unwrap_or(ALIGNMENT);
        let data = header_end.next_multiple_of(alignment);
        let entries = &self.header.entries;
        let place = |number| {
            let range = entries.range(number);
            (range.start, range.end, entries.name(number))
        };
        let mut order: Vec<(u64, u64, &str)> = entries.numbers().map(place).collect();
        order.sort_unstable();
        let mut last: Option<(u64, &str)> = None;
        let mut problems = std::mem::take(&mut self.problems);
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
                    "`{name}` ends at byte {file_end}, the file at byte {file_len}: {CUT}"
                ));
            }
            // A header that counts a tensor less ends earlier, which moves all that it does list.
            let gap = start.saturating_sub(last.map_or(0, |(end, _)| end));
            if problems.is_empty() && gap >= alignment {
                problems.push(format!(
                    "{gap} bytes before `{name}`, up to byte {byte}, {NOBODYS}"
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
        let end = data.saturating_add(last.map_or(0, |(end, _)| end));
        let behind = file_len.saturating_sub(end);
        if problems.is_empty() && behind >= alignment {
            problems.push(format!("{behind} bytes from byte {end} on {NOBODYS}"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.header.entries.move_by(data);
        Ok(self.header)
    }
}

/// Reads little-endian values and knows where it is.
struct Reader<R> {
    inner: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Goes `bytes` further, if the file and a header can be so long; gives where it was.
    fn advance(&mut self, bytes: u64, what: Arguments) -> Result<u64, String> {
        let (at, len) = (self.at, self.len);
        if bytes > len.saturating_sub(at) {
            return Err(format!(
                "file ends at byte {len}, {what} at byte {at} takes {bytes} bytes: {CUT}"
            ));
        }
        self.at += bytes;
        if self.at > MAX_HEADER {
            return Err(format!(
                "header is longer than {MAX_HEADER} bytes, with {what} at byte {at}"
            ));
        }
        Ok(at)
    }

    fn bytes<const N: usize>(&mut self, what: Arguments) -> Result<[u8; N], String> {
        let at = self.advance(N as u64, what)?;
        let mut bytes = [0; N];
        let read = self.inner.read_exact(&mut bytes);
        read.map_err(|err| format!("{what} at byte {at}: {err}"))?;
        Ok(bytes)
    }

    fn u32(&mut self, what: Arguments) -> Result<u32, String> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: Arguments) -> Result<u64, String> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A number of things that take at least `least` bytes each of what follows.
    fn count(&mut self, what: Arguments, least: u64) -> Result<u64, String> {
        let at = self.at;
        let count = self.u64(what)?;
        let left = self.len.saturating_sub(self.at);
        if count > left / least {
            return Err(format!(
                "{what} at byte {at} is {count}, but the {left} bytes that follow hold at most {}",
                left / least
            ));
        }
        Ok(count)
    }

    fn text(&mut self, what: Arguments, longest: u64) -> Result<String, String> {
        let at = self.at;
        let len = self.count(format_args!("the length of {what}"), 1)?;
        if len > longest {
            return Err(format!(
                "{what} at byte {at} has {len} bytes, at most {longest} are read"
            ));
        }
        self.utf8(len, what)
    }

    fn utf8(&mut self, len: u64, what: Arguments) -> Result<String, String> {
        let at = self.advance(len, what)?;
        let mut bytes = vec![0; len as usize];
        let read = self.inner.read_exact(&mut bytes);
        read.map_err(|err| format!("{what} at byte {at}: {err}"))?;
        String::from_utf8(bytes).map_err(|err| {
            let at = at + err.utf8_error().valid_up_to() as u64;
            format!("{what} is not UTF-8 at byte {at}")
        })
    }

    fn skip(&mut self, bytes: u64, what: Arguments) -> Result<(), String> {
        let at = self.advance(bytes, what)?;
        // No longer than a header, so it fits.
        let skipped = self.inner.seek_relative(bytes as i64);
        skipped.map_err(|err| format!("{what} at byte {at}: {err}"))
    }

    fn value(&mut self, key: &str, kind: u32, depth: u32) -> Result<Value, String> {
        let at = self.at;
        let what = format_args!("the value of `{key}`");
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.bytes(what)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes(what)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes(what)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes(what)?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.bytes(what)?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes(what)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes(what)?).into()),
            7 => match self.bytes::<1>(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("`{key}` at byte {at} is the boolean {other}")),
            },
            8 => self.long_text(key)?,
            9 => self.array(key, depth)?,
            10 => Value::Integer(u64::from_le_bytes(self.bytes(what)?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes(what)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes(what)?)),
            _ => return Err(format!("`{key}` at byte {at} has the unknown type {kind}")),
        })
    }

    /// Text; that of a long one (a chat template, a licence) is not kept.
    fn long_text(&mut self, key: &str) -> Result<Value, String> {
        let what = format_args!("the text of `{key}`");
        let len = self.count(format_args!("the length of {what}"), 1)?;
        if len > MAX_TEXT {
            self.skip(len, what)?;
            return Ok(Value::Text(String::new()));
        }
        self.utf8(len, what).map(Value::Text)
    }

    fn array(&mut self, key: &str, depth: u32) -> Result<Value, String> {
        let at = self.at;
        let kind = self.u32(format_args!("the type of the array `{key}`"))?;
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => 0,
            9 if depth < MAX_DEPTH => 0,
            9 => {
                return Err(format!(
                    "`{key}` at byte {at} is an array in {depth} others: too deep"
                ));
            }
            _ => {
                return Err(format!(
                    "`{key}` at byte {at} is an array of the unknown type {kind}"
                ));
            }
        };
        // An inner text takes at least 8 bytes, an inner array 12.
        let what = format_args!("the number of elements of `{key}`");
        let least = match kind {
            8 => 8,
            9 => 12,
            _ => width,
        };
        let len = self.count(what, least)?;
        let what = format_args!("the elements of `{key}`");
        match kind {
            8 => {
                for _ in 0..len {
                    let bytes = self.count(format_args!("the length of a text of `{key}`"), 1)?;
                    self.skip(bytes, what)?;
                }
            }
            9 => {
                for _ in 0..len {
                    self.array(key, depth + 1)?;
                }
            }
            0..=5 | 10 | 11 if (1..=MAX_LAYERS).contains(&len) => {
                let first = self.value(key, kind, depth)?;
                let mut same = true;
                for _ in 1..len {
                    same &= self.value(key, kind, depth)? == first;
                }
                if same {
                    return Ok(first);
                }
            }
            _ => self.skip(len * width, what)?,
        }
        Ok(Value::Array(len))
    }
}
