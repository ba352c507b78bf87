//! Keys that would fit under another prefix, and the rename that mends them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;

use super::found::{Finder, Found};
use super::mismatch::{Class, Finding, Line, Rename};
use super::names::number;
use super::{Expected, Need};
use crate::text::is_hidden;

/// Missing needs that are compared with every key to see what the prefixes may be.
const SAMPLES: usize = 16;
/// Missing needs on which a pair of prefixes is tried.
const TRIED: usize = 512;
/// Prefixes that are tried for one sample.
const CANDIDATES: usize = 16;
/// First segments that a rename lists, where it must not touch every key.
const HEADS: usize = 12;

/// Needs that start with `need` are in the checkpoint with `key` in its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    need: String,
    key: String,
    /// What a key has behind the prefix where not all with the prefix are meant.
    heads: BTreeSet<String>,
}

/// The prefix that a checkpoint has in place of another.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    prefix: Option<Prefix>,
    lines: Vec<Line>,
    renames: Vec<Rename>,
    count: usize,
}

impl Prefixes {
    /// What a key becomes by the rename that is proposed.
    pub fn renamed<'k>(&self, key: &'k str) -> Cow<'k, str> {
        let name = self.prefix.as_ref().and_then(|prefix| {
            let rest = key.strip_prefix(&*prefix.key)?;
            prefix.moves(rest).then(|| format!("{}{rest}", prefix.need))
        });
        name.map_or(Cow::Borrowed(key), Cow::Owned)
    }

    /// The key that becomes this name.
    pub fn key<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let key = self.prefix.as_ref().and_then(|prefix| {
            let rest = name.strip_prefix(&*prefix.need)?;
            prefix.moves(rest).then(|| format!("{}{rest}", prefix.key))
        });
        key.map_or(Cow::Borrowed(name), Cow::Owned)
    }

    /// Whether several prefixes fit equally well, and which is meant is the user's choice.
    pub fn is_choice(&self) -> bool {
        is_choice(&self.lines)
    }

    /// Takes the renames out, for one list of several.
    pub fn take_renames(&mut self) -> Vec<Rename> {
        std::mem::take(&mut self.renames)
    }

    /// What is said of it.
    pub fn finding(mut self) -> Option<Finding> {
        let last = self.lines.last_mut()?;
        if !self.renames.is_empty() {
            last.text.push_str(": add");
            last.renames = self.renames;
        }
        Some(Finding::new(Class::Prefix, self.count, self.lines))
    }
}

/// Whether the lines of a finding are renames of which one has to be chosen.
pub(super) fn is_choice(lines: &[Line]) -> bool {
    let choices = lines.iter().filter(|line| !line.renames.is_empty());
    choices.count() > 1
}

/// Finds missing needs under another prefix, puts them into `found`, and says so. What is less than
/// most of the needs may be another module of the same kind: that is for [`renamed`](super::renamed).
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'c>,
    found: &mut Found<'c>,
) -> Prefixes {
    let mut all = Prefixes::default();
    let missing = found.missing();
    // llama.cpp's names have no prefix.
    if finder.checkpoint.is_gguf() || !is_most(missing.len(), expected) {
        return all;
    }
    let used = found.used();
    let mut best = best(expected, finder, &missing, &used).into_iter();
    let Some(mut prefix) = best.next() else {
        return all;
    };
    let others: Vec<Prefix> = best.collect();
    let mut moved = prefix.apply(expected, finder, found, &missing);
    all.count = moved.len();
    if !others.is_empty() {
        all.lines = choice(std::iter::once(prefix).chain(others), &used, &moved);
        return all;
    }
    prefix.widen(&mut moved);
    all.lines.push(Line::from(prefix.describe(moved.len())));
    if let Some(rename) = prefix.rename(&used, &moved) {
        all.renames.push(rename);
        all.prefix = Some(prefix);
    }
    all
}

/// Whether so many are most of the needs.
fn is_most(count: usize, expected: &Expected<'_>) -> bool {
    2 * count > expected.needs.len()
}

/// Prefixes that fit equally well, each with the rename that takes it.
fn choice(
    prefixes: impl Iterator<Item = Prefix>,
    used: &HashSet<&str>,
    moved: &[&str],
) -> Vec<Line> {
    let mut prefixes: Vec<Prefix> = prefixes.collect();
    let names: Vec<_> = prefixes.iter().map(|p| format!("`{}`", p.key)).collect();
    let (last, names) = names.split_last().map_or(("", &[][..]), |(l, n)| (&**l, n));
    let trace = match &*prefixes[0].need {
        "" => "without it".to_owned(),
        need => format!("with `{need}`"),
    };
    let head = format!(
        "prefix: {} start with {} and as many with {last}, the trace has them {trace}; choose which \
         the model is to have",
        keys(moved.len()),
        names.join(", "),
    );
    let choices = prefixes.iter_mut().filter_map(|prefix| {
        let mut line = Line::from(format!("  for those of `{}`, add", prefix.key));
        line.renames.push(prefix.rename(used, moved)?);
        Some(line)
    });
    std::iter::once(Line::from(head)).chain(choices).collect()
}

/// The pair of prefixes that finds most of the needs, if one does; several where they find as many
/// under different keys.
fn best(
    expected: &Expected<'_>,
    finder: &Finder<'_>,
    missing: &[usize],
    used: &HashSet<&str>,
) -> Vec<Prefix> {
    let names = |ids: &[usize], n: usize| {
        let step = ids.len().div_ceil(n);
        let ids = ids.iter().step_by(step.max(1));
        ids.map(|&id| &expected.needs[id]).collect::<Vec<_>>()
    };
    let tried = names(missing, TRIED);
    let scored = candidates(&names(missing, SAMPLES), finder, used);
    let scored = scored.into_iter().filter_map(|prefix| {
        let (mut of, mut hits) = (0, 0);
        for need in &tried {
            let Some(key) = prefix.key_of(&need.name) else {
                continue;
            };
            of += 1;
            let hit = finder.locate(&key, need);
            hits += usize::from(hit.is_some_and(|hit| {
                let fits = hit.is_packed() || *hit.tensor.shape() == *need.shape;
                fits && !used.contains(hit.tensor.name())
            }));
        }
        // Of the missing ones that were tried, so of all needs. Where neither prefix is part of the
        // other, they may be two modules: then everything has to fit.
        let needs = expected.needs.len() as u128;
        let most = 2 * hits as u128 * missing.len() as u128 > needs * tried.len() as u128;
        let certain = prefix.is_part() || hits == of;
        (most && certain).then_some((hits, prefix))
    });
    // Of equals the shortest, which is the first of those that sort by length.
    let mut scored: Vec<_> = scored.collect();
    scored.sort_by_key(|(hits, p)| (std::cmp::Reverse(*hits), p.need.len() + p.key.len()));
    let Some((most, first)) = scored.first().cloned() else {
        return Vec::new();
    };
    let equal = scored.into_iter().filter(|(hits, prefix)| {
        *hits == most && prefix.need == first.need && prefix.key != first.key
    });
    let mut equal: Vec<Prefix> = equal.map(|(_, prefix)| prefix).collect();
    equal.insert(0, first);
    equal
}

/// The pairs of prefixes by which any of these needs is in the checkpoint.
fn candidates(
    samples: &[&Need<'_>],
    finder: &Finder<'_>,
    used: &HashSet<&str>,
) -> BTreeSet<Prefix> {
    let mut longest = vec![(1, BTreeSet::new()); samples.len()];
    for tensor in finder.checkpoint.iter() {
        if used.contains(tensor.name()) {
            continue;
        }
        let key = finder.need_of(tensor.name());
        for (need, (length, found)) in samples.iter().zip(&mut longest) {
            let Some((common, bytes)) = Prefix::common(&need.name, &key) else {
                continue;
            };
            if common < *length {
                continue;
            }
            let Some(prefix) = Prefix::before(&need.name, &key, bytes) else {
                continue;
            };
            if common > *length {
                *length = common;
                found.clear();
            }
            found.insert(prefix);
            if found.len() > CANDIDATES {
                found.pop_last();
            }
        }
    }
    longest.into_iter().flat_map(|(_, found)| found).collect()
}

impl Prefix {
    /// How many segments two names share at their ends, at least two or all of one of them, and how
    /// many bytes that is with the dot before them.
    fn common(need: &str, key: &str) -> Option<(usize, usize)> {
        let pairs = need.bytes().rev().zip(key.bytes().rev());
        let same = pairs.take_while(|(a, b)| a == b).count();
        let (long, short) = match need.len() > key.len() {
            true => (need, key),
            false => (key, need),
        };
        let before = long.len().checked_sub(same + 1)?;
        let whole = same == short.len() && long.as_bytes()[before] == b'.';
        let bytes = match whole {
            true => same + 1,
            // From the first dot of what they share.
            false => {
                same - need.as_bytes()[need.len() - same..]
                    .iter()
                    .position(|&b| b == b'.')?
            }
        };
        let shared = &need.as_bytes()[(need.len() + 1).saturating_sub(bytes)..];
        let common = 1 + shared.iter().filter(|&&b| b == b'.').count();
        if bytes < 2 || (common < 2 && !whole) {
            return None;
        }
        // A whole name in common tells more than any part of one.
        Some((common + if whole { 1000 } else { 0 }, bytes))
    }

    /// The prefixes before so many bytes that two names share.
    fn before(need: &str, key: &str, bytes: usize) -> Option<Self> {
        let head = |name: &str| name[..(name.len() + 1).saturating_sub(bytes)].to_owned();
        let prefix = Self {
            need: head(need),
            key: head(key),
            heads: BTreeSet::new(),
        };
        // What stands behind the number of one layer is no prefix of a model.
        let mut segments = prefix.need.split('.');
        let in_layer = segments.any(|segment| number(segment).is_some());
        (!in_layer).then_some(prefix)
    }

    /// Whether one of the two is part of the other, as `` of `model.` and `model.` of
    /// `model.language_model.`.
    fn is_part(&self) -> bool {
        let (need, key) = (&*self.need, &*self.key);
        let part = |short: &str, long: &str| {
            let ends = long.strip_suffix(short);
            let ends = ends.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            ends || long.starts_with(short)
        };
        part(need, key) || part(key, need)
    }

    /// Whether a key with this behind the prefix is renamed.
    fn moves(&self, rest: &str) -> bool {
        self.heads.is_empty() || head(rest).is_some_and(|head| self.heads.contains(head))
    }

    /// The key of a need, if it starts as this says.
    fn key_of(&self, need: &str) -> Option<String> {
        let rest = need.strip_prefix(&self.need)?;
        Some(format!("{}{rest}", self.key))
    }

    /// Puts what this finds into `found`; what stands behind the prefix in the needs it found.
    fn apply<'e, 'c>(
        &self,
        expected: &'e Expected<'_>,
        finder: &Finder<'c>,
        found: &mut Found<'c>,
        missing: &[usize],
    ) -> Vec<&'e str> {
        let mut moved = Vec::new();
        for &id in missing {
            let need = &expected.needs[id];
            let Some(rest) = need.name.strip_prefix(&self.need) else {
                continue;
            };
            if let Some(hit) = finder.locate(&format!("{}{rest}", self.key), need) {
                found.hits[id] = Some(hit);
                moved.push(rest);
            }
        }
        moved
    }

    /// A key prefix that repeats the first segment of everything behind it is a doubled one.
    fn widen(&mut self, moved: &mut [&str]) {
        let heads: BTreeSet<_> = moved.iter().map(|rest| head(rest)).collect();
        let Some(Some(only)) = heads.first().copied().filter(|_| heads.len() == 1) else {
            return;
        };
        if self.key == only || self.key.ends_with(&format!(".{only}")) {
            self.key.push_str(only);
            self.need.push_str(only);
            for rest in moved {
                *rest = &rest[only.len()..];
            }
        }
    }

    /// The rule that renames the keys; `None` where no short one leaves the keys alone that are used
    /// as they are.
    fn rename(&mut self, used: &HashSet<&str>, moved: &[&str]) -> Option<Rename> {
        let (key, need) = (escape(&self.key), self.need.replace('$', "$$"));
        let touches = |head: &str| {
            let start = format!("{}{head}", self.key);
            used.iter().any(|used| used.starts_with(&start))
        };
        if !touches("") {
            return Rename::new(format!("^{key}"), need);
        }
        // What moves is told from what stays by the segment behind the prefix.
        let heads: Option<BTreeSet<&str>> = moved.iter().map(|rest| head(rest)).collect();
        let heads =
            heads.filter(|heads| heads.len() <= HEADS && !heads.iter().any(|h| touches(h)))?;
        let names = heads.iter().map(|head| escape(head.trim_end_matches('.')));
        let names = names.collect::<Vec<_>>().join("|");
        self.heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Rename::new(format!(r"^{key}({names})\."), format!("{need}${{1}}."))
    }

    fn describe(&self, count: usize) -> String {
        let (start, lack, them) = match count {
            1 => ("starts", "lacks", "it"),
            _ => ("start", "lack", "them"),
        };
        let keys = keys(count);
        match (&*self.need, &*self.key) {
            ("", key) => {
                format!("prefix: {keys} {start} with `{key}`, the trace has {them} without it")
            }
            (need, "") => format!("prefix: {keys} {lack} the `{need}` that the trace expects"),
            (need, key) => {
                format!("prefix: {keys} {start} with `{key}`, the trace expects `{need}`")
            }
        }
    }
}

fn keys(count: usize) -> String {
    match count {
        1 => "1 key".to_owned(),
        n => format!("{n} keys"),
    }
}

/// The first segment, with its dot; `None` of a name that has only one.
fn head(name: &str) -> Option<&str> {
    name.find('.').map(|dot| &name[..=dot])
}

/// A regular expression for this text, without a character that a terminal does not show.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            // A `String` takes every text.
            c if is_hidden(c) => drop(write!(escaped, r"\x{{{:x}}}", u32::from(c))),
            c if r"\.+*?()|[]{}^$#&-~".contains(c) => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}
