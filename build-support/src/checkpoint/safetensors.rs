//! Headers of safetensors files, read strictly: the files may be cut, edited or hostile.
//!
//! Reads eight bytes and the header of each file, never the data.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{Headers, Tensor};
use crate::report::{At, Error, Report};

/// The limit of the format for a header.
const MAX_HEADER: u64 = 100_000_000;

/// Reads a file, an index or a folder.
pub(super) fn open(path: &Path, shown: &Path) -> Result<Headers, Report> {
    let whole = |message: String| Report::from(Error::checkpoint(At::default(), message, vec![]));
    if path.is_dir() {
        return folder(path, shown);
    }
    if !path.exists() {
        return Err(whole(format!("no checkpoint at `{}`", shown.display())));
    }
    let name = file_name(path);
    if name.ends_with(".json") {
        return index(path, shown);
    }
    if !name.ends_with(".safetensors") {
        return Err(whole(format!(
            "`{}` is not a safetensors file, an index of such files or a folder with them",
            shown.display()
        )));
    }
    shards(vec![(path.to_owned(), shown.to_owned())], shown)
}

fn folder(path: &Path, shown: &Path) -> Result<Headers, Report> {
    let whole = |message: String| Report::from(Error::checkpoint(At::default(), message, vec![]));
    let unreadable = |error| {
        whole(format!(
            "cannot read the folder `{}`: {error}",
            shown.display()
        ))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        names.push(
            entry
                .map_err(unreadable)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    let indexes: Vec<_> = names
        .iter()
        .filter(|n| n.ends_with(".safetensors.index.json"))
        .collect();
    match &*indexes {
        [name] => return index(&path.join(name), &shown.join(name)),
        [] => {}
        several => {
            let list = several
                .iter()
                .map(|n| format!("`{n}`"))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(whole(format!(
                "`{}` holds several indexes, name one of {list}",
                shown.display()
            )));
        }
    }
    let files: Vec<_> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors"))
        .map(|name| (path.join(name), shown.join(name)))
        .collect();
    match files.is_empty() {
        true => Err(whole(format!(
            "no safetensors file in the folder `{}`",
            shown.display()
        ))),
        false => shards(files, shown),
    }
}

/// Reads shards that no index lists; a tensor in two of them is an error.
fn shards(files: Vec<(PathBuf, PathBuf)>, shown: &Path) -> Result<Headers, Report> {
    let mut report = Report::new();
    let mut headers = Headers {
        place: show(shown),
        shards: files.len(),
        ..Headers::default()
    };
    let mut owner: BTreeMap<String, usize> = BTreeMap::new();
    for (i, (file, shown)) in files.iter().enumerate() {
        match header(file) {
            Err(message) => report.push(damaged(shown, &message)),
            Ok(tensors) => {
                for (name, tensor) in tensors {
                    if let Some(first) = owner.insert(name.clone(), i) {
                        let message = format!("`{name}` is also in `{}`", files[first].1.display());
                        report.push(damaged(shown, &message));
                    }
                    headers.tensors.insert(name, tensor);
                }
            }
        }
    }
    headers.files = files.into_iter().map(|(file, _)| file).collect();
    report.into_result(headers)
}

#[derive(Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

/// Reads the shards that an index names, and of each the tensors that the index puts there.
fn index(path: &Path, shown: &Path) -> Result<Headers, Report> {
    let text =
        std::fs::read(path).map_err(|error| Report::from(damaged(shown, &error.to_string())))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| Report::from(damaged(shown, &format!("not an index: {error}"))))?;
    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map.0 {
        by_file.entry(file).or_default().push(tensor);
    }
    let mut report = Report::new();
    let mut headers = Headers {
        place: show(shown),
        shards: by_file.len(),
        ..Headers::default()
    };
    headers.files.push(path.to_owned());
    for (file, names) in by_file {
        if Path::new(&file).components().count() != 1 || file_name(Path::new(&file)) != file {
            report.push(damaged(
                shown,
                &format!("`{file}` is not the name of a file beside the index"),
            ));
            continue;
        }
        let (path, shown_file) = (path.with_file_name(&file), shown.with_file_name(&file));
        if !path.exists() {
            let first = names.first().map_or("", String::as_str);
            let message =
                format!("the index names `{file}`, which is absent: `{first}` should be in it");
            report.push(damaged(shown, &message));
            continue;
        }
        let mut tensors = match header(&path) {
            Ok(tensors) => tensors,
            Err(message) => {
                report.push(damaged(&shown_file, &message));
                continue;
            }
        };
        for name in names {
            match tensors.remove(&name) {
                Some(tensor) => drop(headers.tensors.insert(name, tensor)),
                None => {
                    let message =
                        format!("the index puts `{name}` in `{file}`, which does not hold it");
                    report.push(damaged(shown, &message));
                }
            }
        }
        headers.files.push(path);
    }
    report.into_result(headers)
}

fn damaged(shown: &Path, message: &str) -> Error {
    Error::checkpoint(
        At::default(),
        format!(
            "cannot use the checkpoint file `{}`: {message}",
            shown.display()
        ),
        vec![],
    )
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The tensors of one file.
fn header(path: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the file is cut short".to_owned(),
        _ => error.to_string(),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(unreadable)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER {
        return Err(format!(
            "the header claims {size} bytes, the format allows {MAX_HEADER}: not a safetensors file"
        ));
    }
    let data = length.checked_sub(8 + size).ok_or_else(|| {
        format!("the header claims {size} bytes, the file has {} after it begins: the file is cut short", length.saturating_sub(8))
    })?;
    let mut text = vec![0; usize::try_from(size).map_err(|error| error.to_string())?];
    file.read_exact(&mut text).map_err(unreadable)?;
    parse(&text, data)
}

/// Checks a header against the number of bytes that follow it.
fn parse(text: &[u8], data: u64) -> Result<BTreeMap<String, Tensor>, String> {
    if text.first() != Some(&b'{') {
        return Err("the header does not begin with `{`: not a safetensors file".to_owned());
    }
    let entries: Unique<Entry> =
        serde_json::from_slice(text).map_err(|error| format!("the header is damaged: {error}"))?;
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::with_capacity(entries.0.len());
    for (name, entry) in entries.0 {
        let Entry::Tensor(info) = entry else { continue };
        let (start, end) = info.data_offsets;
        let bytes = end
            .checked_sub(start)
            .ok_or_else(|| format!("`{name}` ends before it begins"))?;
        let bits = bits(&info.dtype)
            .ok_or_else(|| format!("`{name}` has the unknown dtype `{}`", info.dtype))?;
        let claimed = info
            .shape
            .iter()
            .try_fold(bits, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?))
            .filter(|bits| bits % 8 == 0)
            .ok_or_else(|| format!("`{name}` has an impossible shape"))?;
        if claimed / 8 != bytes {
            return Err(format!(
                "`{name}` takes {} bytes by its shape, {bytes} by its offsets",
                claimed / 8
            ));
        }
        ranges.push((start, end, name.clone()));
        tensors.insert(
            name,
            Tensor {
                dtype: info.dtype,
                shape: info.shape,
                bytes,
            },
        );
    }
    ranges.sort();
    let mut next = 0;
    for (start, end, name) in ranges {
        if start != next {
            let what = if start < next {
                "overlaps the tensor before it"
            } else {
                "leaves a gap before it"
            };
            return Err(format!("`{name}` {what}"));
        }
        next = end;
    }
    match next {
        next if next > data => Err(format!(
            "the tensors take {next} bytes, the file has {data}: the file is cut short"
        )),
        next if next < data => Err(format!("{} bytes belong to no tensor", data - next)),
        _ => Ok(tensors),
    }
}

/// Bits of one element.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// An object without double keys, in file order.
struct Unique<T>(Vec<(String, T)>);

impl<'de, T: FromKey<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(std::marker::PhantomData<T>);
        impl<'de, T: FromKey<'de>> Visitor<'de> for V<T> {
            type Value = Unique<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(de::Error::custom(format!("`{key}` occurs twice")));
                    }
                    let value = T::next(&key, &mut map)?;
                    entries.push((key, value));
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(V(std::marker::PhantomData))
    }
}

/// A value whose form depends on its key.
trait FromKey<'de>: Sized {
    fn next<A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error>;
}

impl<'de> FromKey<'de> for String {
    fn next<A: MapAccess<'de>>(_: &str, map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }
}

enum Entry {
    Metadata,
    Tensor(Info),
}

impl<'de> FromKey<'de> for Entry {
    fn next<A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error> {
        if key == "__metadata__" {
            map.next_value::<Unique<String>>()?;
            return Ok(Self::Metadata);
        }
        map.next_value().map(Self::Tensor)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Paths in messages use `/` on every system.
fn show(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}

#[cfg(test)]
mod tests;
