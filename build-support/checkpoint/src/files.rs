//! Which files a checkpoint consists of: one file, an index, or a folder of shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::{self, Deserialize, IgnoredAny, MapAccess, Visitor};

use crate::entries::{Text, Texts};
use crate::error::{Error, Result};
use crate::foreign;
use crate::header::{CUT, Key, KeyProblem, json_problem, mended};

/// Longest index that is read, in bytes; half a million keys take 60 MB.
const MAX_INDEX: u64 = 400_000_000;
/// What mends an index that nobody can read.
const AGAIN: &str = "download the index again, or save the checkpoint again";

/// A file: where it is, and its path for messages, as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub path: PathBuf,
    pub shown: PathBuf,
}

impl Place {
    pub fn join(&self, name: &str) -> Self {
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
    /// Names of tensors, and of each the number of its shard in [`Files::shards`].
    pub names: Texts,
    pub shard_of: Vec<u32>,
}

/// What is said of a pipe, a socket or a device.
const NO_FILE: &str = "is neither a file nor a folder";

/// Opens a file to read it; a pipe, a socket and a device are refused, since of a pipe that nobody
/// writes to, opening alone never ends.
///
/// ```
/// let file = pycandle_checkpoint::open_file("no/such/config.json".as_ref());
/// assert_eq!(file.map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::NotFound));
/// ```
///
/// # Errors
/// When there is no such file, when it cannot be opened, and when it is neither a file nor a folder.
pub fn open_file(path: &Path) -> io::Result<File> {
    let meta = std::fs::metadata(path)?;
    match meta.is_file() || meta.is_dir() {
        true => File::open(path),
        false => Err(io::Error::other(NO_FILE)),
    }
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
    if !meta.is_file() {
        return Err(Error::file(&place.shown, vec![NO_FILE.to_owned()]));
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
    let fail = |text| Err(Error::file(&folder.shown, vec![text]));
    let shards = match &ending(".safetensors.index.json")[..] {
        [index] => return from_index(folder.join(index)),
        [] => [ending(".safetensors"), ending(".gguf")],
        [first, second, ..] => {
            return fail(format!(
                "folder holds several indices ({first}, {second}): open one of them by name"
            ));
        }
    };
    let Some(shards) = shards.into_iter().find(|shards| !shards.is_empty()) else {
        let text = foreign::pickled_in(folder, &names).unwrap_or_else(|| {
            "folder holds no `*.safetensors`, no `*.safetensors.index.json` and no `*.gguf`: name \
             the folder of the weights, or download them into this one"
                .into()
        });
        return fail(text);
    };
    if let Some(text) = gaps(&shards) {
        return fail(text);
    }
    Ok(Files {
        shards: shards.into_iter().map(|name| folder.join(name)).collect(),
        index: None,
    })
}

/// What is said of shards `<stem>-00001-of-00003.<ending>` of which some are not there.
fn gaps(names: &[&String]) -> Option<String> {
    let mut series: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for name in names {
        if let Some((number, all)) = numbered(name) {
            series.entry(all).or_default().insert(number);
        }
    }
    series.into_iter().find_map(|((stem, count, ending), there)| {
        let (width, number) = (count.len(), count.parse::<u64>().ok()?);
        let absent = |n: &u64| !there.contains(n);
        let named = |n: u64| format!("`{stem}-{n:0width$}-of-{count}.{ending}`");
        let first: Vec<_> = (1..=number).filter(absent).take(3).map(named).collect();
        let there = there.iter().filter(|n| (1..=number).contains(*n)).count() as u64;
        let rest = (number - there).saturating_sub(first.len() as u64);
        let first = (!first.is_empty()).then(|| first.join(", "))?;
        let (more, are) = match number - there {
            1 => (String::new(), "is"),
            _ if rest == 0 => (String::new(), "are"),
            _ => (format!(" and {rest} more"), "are"),
        };
        Some(format!(
            "{first}{more} {are} not there, by the names of the shards that are: download the rest of \
             the checkpoint into this folder"
        ))
    })
}

/// The number of the shard `<stem>-00001-of-00003.<ending>`; stem, count and ending.
fn numbered(name: &str) -> Option<(u64, (&str, &str, &str))> {
    let (start, end) = name.rsplit_once("-of-")?;
    let (stem, number) = start.rsplit_once('-')?;
    let (count, ending) = end.split_once('.')?;
    Some((number.parse().ok()?, (stem, count, ending)))
}

/// Number and count of a file that is one shard of several, by its name.
pub(crate) fn one_of_several(file: &Path) -> Option<(u64, u64)> {
    let (number, (_, count, _)) = numbered(file.file_name()?.to_str()?)?;
    let count = count.parse().ok()?;
    (count > 1).then_some((number, count))
}

/// Tensor and file of every entry of `weight_map`, and the number of that key in its object.
struct RawIndex<'a> {
    outer: usize,
    pairs: Vec<(Text<'a>, Text<'a>)>,
}

impl<'de> Deserialize<'de> for RawIndex<'de> {
    fn deserialize<D: de::Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = RawIndex<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with `weight_map`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawIndex<'de>, A::Error> {
                let mut index = None;
                for outer in 0.. {
                    let Some(Text(key)) = map.next_key()? else {
                        break;
                    };
                    if key != "weight_map" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if index.is_some() {
                        return Err(de::Error::duplicate_field("weight_map"));
                    }
                    let Pairs(pairs) = map.next_value()?;
                    index = Some(RawIndex { outer, pairs });
                }
                index.ok_or_else(|| de::Error::missing_field("weight_map"))
            }
        }
        de.deserialize_map(Whole)
    }
}

/// An object with its duplicates, which a plain map would swallow.
struct Pairs<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: de::Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of file names by tensor name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        de.deserialize_map(All)
    }
}

fn from_index(place: Place) -> Result<Files> {
    let fail = |problems| Error::file(&place.shown, problems);
    if place
        .path
        .to_string_lossy()
        .ends_with(foreign::PICKLED_INDEX)
    {
        return Err(fail(vec![foreign::pickled_index(&place)]));
    }
    let (shards, names, shard_of) = read_index(&place).map_err(fail)?;
    let index = Some(Index {
        place,
        names,
        shard_of,
    });
    Ok(Files { shards, index })
}

fn read_index(place: &Place) -> Result<Resolved, Vec<String>> {
    let io = |err: std::io::Error| vec![err.to_string()];
    let mut file = open_file(&place.path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    if len > MAX_INDEX {
        return Err(vec![format!(
            "index ends at byte {len}, at most {MAX_INDEX} bytes are read"
        )]);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(io)?;
    let broken = |problem: String| mended(vec![format!("index is {problem}")], AGAIN);
    let text = std::str::from_utf8(&text)
        .map_err(|err| broken(format!("not UTF-8 at byte {}", err.valid_up_to())))?;
    let raw: RawIndex = serde_json::from_str(text).map_err(|err| match err.is_eof() {
        true => broken(format!("not whole, it ends at byte {len}: {CUT}")),
        false => match foreign::known_json(text) {
            Some(what) => vec![what.to_owned()],
            None => broken(json_problem(text, 0, &err)),
        },
    })?;
    resolve(&place.parent(), raw).map_err(|problems| KeyProblem::sentences(problems, text, 0))
}

type Resolved = (Vec<Place>, Texts, Vec<u32>);

/// Turns file names into paths inside `folder`; everything wrong is reported together.
fn resolve(folder: &Place, index: RawIndex<'_>) -> Result<Resolved, Vec<KeyProblem>> {
    let RawIndex { outer, pairs } = index;
    let mut problems = Vec::new();
    let mut problem = |number: usize, text| {
        problems.push(KeyProblem {
            key: Key {
                outer,
                inner: Some(number),
            },
            name: pairs[number].0.0.to_string(),
            text,
        });
    };
    // The first tensor of every file, and how many there are.
    let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (number, (_, Text(file))) in pairs.iter().enumerate() {
        files.entry(file).or_insert((number, 0)).1 += 1;
    }
    let mut numbers = BTreeMap::new();
    let mut shards: Vec<Place> = Vec::new();
    for (file, (first, keys)) in files {
        let are = match keys - 1 {
            0 => " is".to_owned(),
            n => format!(" and {n} more are"),
        };
        if !is_inside(file) {
            let text =
                format!("{are} in the file `{file}`, which is not inside the folder: {AGAIN}");
            problem(first, text);
            continue;
        }
        let place = folder.join(file);
        if !place.path.is_file() {
            let text = format!(
                "{are} in the file `{file}`, which is not there: download it into the folder of the \
                 index"
            );
            problem(first, text);
        }
        // An index of 400 MB lists no more than 32 bits count.
        numbers.insert(file, shards.len() as u32);
        shards.push(place);
    }
    let (mut names, mut shard_of) = (Texts::default(), Vec::with_capacity(pairs.len()));
    for (number, (Text(name), Text(file))) in pairs.iter().enumerate() {
        let Some(&shard) = numbers.get(&**file) else {
            continue;
        };
        if names.add(name).is_ok() {
            shard_of.push(shard);
            continue;
        }
        let first = names
            .find(name)
            .map_or(shard, |name| shard_of[name as usize]);
        let first = shards[first as usize].path.file_name().unwrap_or_default();
        let first = first.display();
        let text = format!(" is listed twice, in `{first}` and in `{file}`: {AGAIN}");
        problem(number, text);
    }
    match problems.is_empty() {
        true => Ok((shards, names, shard_of)),
        false => Err(problems),
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
