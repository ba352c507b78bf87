//! Keys that would fit under another prefix, and the rename that mends them.

use crate::hash::HashSet;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;

use super::found::{Finder, Found};
use super::hits::Hit;
use super::keys::Keys;
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
    /// A key and the name that it would get, which another has.
    clash: Option<(String, String)>,
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

    /// Whether several prefixes fit, and which is meant is the user's choice.
    pub fn is_choice(&self) -> bool {
        let mut choices = self.lines.iter().skip(1);
        self.prefix.is_none() && choices.any(|line| !line.renames.is_empty())
    }

    /// Takes the renames out, for one list of several.
    pub fn take_renames(&mut self) -> Vec<Rename> {
        std::mem::take(&mut self.renames)
    }

    /// What is said of it.
    pub fn finding(mut self, finder: &Finder<'_, '_>) -> Option<Finding> {
        let first = self.lines.first_mut()?;
        if !self.renames.is_empty() {
            first.text.push_str(": ");
            first.text.push_str(finder.rules.add());
            first.renames = self.renames;
        }
        Some(Finding::new(Class::Prefix, self.count, self.lines))
    }
}

/// Whether the lines of a finding say that more than one prefix fits.
pub(super) fn is_choice(lines: &[Line]) -> bool {
    lines.len() > 1
}

/// Finds missing needs under another prefix, puts them into `found`, and says so. What is less than
/// most of the needs may be another module of the same kind: that is for [`renamed`](super::renamed).
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'_, 'c>,
    found: &mut Found<'c>,
) -> Prefixes {
    let mut all = Prefixes::default();
    let missing = found.missing();
    // llama.cpp's names have no prefix.
    if finder.checkpoint.is_gguf() || !is_most(missing.len(), expected) {
        return all;
    }
    let used = found.keys();
    let best = best(expected, finder, &missing, &used);
    let (mut alike, unlike): (Vec<Prefix>, Vec<Prefix>) =
        best.into_iter().partition(Prefix::is_part);
    if alike.len() > 1 {
        let all_moved = alike
            .iter()
            .map(|p| p.moved(expected, finder, &missing, |_, _| ()));
        let all_moved: Vec<_> = all_moved.collect();
        alike[0].moved(expected, finder, &missing, |id, hit| {
            found.hits.set(id, hit);
        });
        all.lines = choice(&mut alike, &used, expected, finder, &all_moved);
        all.count = all_moved[0].len();
        return all;
    }
    let Some(mut prefix) = alike.pop() else {
        return all;
    };
    let moved = prefix.moved(expected, finder, &missing, |id, hit| {
        found.hits.set(id, hit);
    });
    all.count = moved.len();
    prefix.widen(expected, &moved);
    let said = prefix.describe(moved.len());
    let said = format!("prefix: {}{said}", finder.rules.after());
    all.lines.push(Line::from(said));
    if let Some(rename) = prefix.rename(&used, expected, finder, &moved) {
        all.renames.push(rename);
        all.prefix = Some(prefix);
    } else if let Some((key, name)) = &prefix.clash {
        all.lines.push(Line::from(format!(
            "  a rename would give {name} two keys, {key} and its own: take one of them out, or rename \
             it first"
        )));
    }
    all.lines.extend(unlike.first().map(|other| {
        Line::from(format!(
            "  what starts with `{}` in the checkpoint fits what the trace has below `{}` as well",
            other.key, other.need
        ))
    }));
    all
}

/// Whether so many are most of the needs.
fn is_most(count: usize, expected: &Expected<'_>) -> bool {
    2 * count > expected.needs.len()
}

/// Prefixes that fit, each with the rename that takes it.
fn choice(
    prefixes: &mut [Prefix],
    used: &Keys<'_>,
    expected: &Expected<'_>,
    finder: &Finder<'_, '_>,
    all_moved: &[Vec<usize>],
) -> Vec<Line> {
    let place = |key: &str| match key {
        "" => "without a prefix".to_owned(),
        key => format!("under `{key}`"),
    };
    let pairs = prefixes.iter().zip(all_moved);
    let places = pairs.map(|(p, moved)| format!("{} ({})", place(&p.key), keys(moved.len())));
    let head = format!(
        "prefix: {}what the trace needs is there {}; choose which the model is to have",
        finder.rules.after(),
        places.collect::<Vec<_>>().join(" and ")
    );
    let choices = prefixes
        .iter_mut()
        .zip(all_moved)
        .filter_map(|(prefix, moved)| {
            let (place, add) = (place(&prefix.key), finder.rules.add());
            let mut line = Line::from(format!("  for those {place}, {add}"));
            let rename = prefix.rename(used, expected, finder, moved)?;
            line.renames.push(rename);
            Some(line)
        });
    std::iter::once(Line::from(head)).chain(choices).collect()
}

/// The pairs of prefixes that find most of the needs, each under keys of its own: the best first,
/// those of unlike prefixes last.
fn best(
    expected: &Expected<'_>,
    finder: &Finder<'_, '_>,
    missing: &[usize],
    used: &Keys<'_>,
) -> Vec<Prefix> {
    let names = |ids: &[usize], n: usize| {
        let step = ids.len().div_ceil(n);
        let ids = ids.iter().step_by(step.max(1));
        ids.map(|&id| expected.needs.get(id)).collect::<Vec<_>>()
    };
    let tried = names(missing, TRIED);
    let scored = candidates(&names(missing, SAMPLES), finder, used);
    let scored = scored.into_iter().filter_map(|prefix| {
        let keys = tried
            .iter()
            .filter_map(|need| Some((need, prefix.key_of(&need.name)?)));
        let of = keys.clone().count();
        let hits = keys.filter_map(|(need, key)| {
            let hit = finder.locate_ruled(&key, need)?;
            let fits = hit.is_packed() || *hit.tensor.shape() == *need.shape;
            (fits && !used.contains(hit.tensor.name())).then(|| hit.tensor.name())
        });
        let hits: HashSet<&str> = hits.collect();
        // Of the missing ones that were tried, so of all needs. Where neither prefix is the end of the
        // other, they may be two modules: then everything has to fit.
        let needs = expected.needs.len() as u128;
        let most = 2 * hits.len() as u128 * missing.len() as u128 > needs * tried.len() as u128;
        let fits = prefix.is_part() || hits.len() == of;
        (most && fits).then_some((hits, prefix))
    });
    // Of equals the shortest, which is the first of those that sort by length.
    let mut scored: Vec<_> = scored.collect();
    scored.sort_by_key(|(hits, p)| {
        (
            !p.is_part(),
            std::cmp::Reverse(hits.len()),
            p.need.len() + p.key.len(),
        )
    });
    let mut best: Vec<(HashSet<&str>, Prefix)> = Vec::new();
    for (hits, prefix) in scored {
        if best.iter().all(|(others, _)| others.is_disjoint(&hits)) {
            best.push((hits, prefix));
        }
    }
    best.into_iter().map(|(_, prefix)| prefix).collect()
}

/// The pairs of prefixes by which any of these needs is in the checkpoint.
fn candidates(samples: &[Need<'_>], finder: &Finder<'_, '_>, used: &Keys<'_>) -> BTreeSet<Prefix> {
    // Whole names that are in the other one, and parts of both.
    let mut longest = vec![[(1, BTreeSet::new()), (1, BTreeSet::new())]; samples.len()];
    for tensor in finder.checkpoint.iter() {
        if used.contains(tensor.name()) {
            continue;
        }
        let name = finder.rules.name(tensor.name());
        let key = finder.need_of(&name);
        for (need, longest) in samples.iter().zip(&mut longest) {
            let Some((common, bytes, whole)) = Prefix::common(&need.name, &key) else {
                continue;
            };
            let (length, found) = &mut longest[usize::from(whole)];
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
    let longest = longest.into_iter().flatten();
    longest.flat_map(|(_, found)| found).collect()
}

impl Prefix {
    /// How many segments two names share at their ends, at least two or all of one of them, and how
    /// many bytes that is with the dot before them; whether it is all of one.
    fn common(need: &str, key: &str) -> Option<(usize, usize, bool)> {
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
        Some((common, bytes, whole))
    }

    /// The prefixes before so many bytes that two names share.
    fn before(need: &str, key: &str, bytes: usize) -> Option<Self> {
        let head = |name: &str| name[..(name.len() + 1).saturating_sub(bytes)].to_owned();
        let prefix = Self {
            need: head(need),
            key: head(key),
            heads: BTreeSet::new(),
            clash: None,
        };
        // What stands behind the number of one layer is no prefix of a model.
        let mut segments = prefix.need.split('.');
        let in_layer = segments.any(|segment| number(segment).is_some());
        (!in_layer).then_some(prefix)
    }

    /// Whether one of the two is the end of the other, as `` of `model.` and `model.` of
    /// `language_model.model.`.
    fn is_part(&self) -> bool {
        let ends = |long: &str, short: &str| {
            let rest = long.strip_suffix(short);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        ends(&self.need, &self.key) || ends(&self.key, &self.need)
    }

    /// Whether a key with this behind the prefix is renamed.
    fn moves(&self, rest: &str) -> bool {
        self.heads.is_empty() || self.heads.contains(head(rest))
    }

    /// The key of a need, if it starts as this says.
    fn key_of(&self, need: &str) -> Option<String> {
        let rest = need.strip_prefix(&self.need)?;
        Some(format!("{}{rest}", self.key))
    }

    /// Finds what it can, and says which needs these are.
    fn moved<'c>(
        &self,
        expected: &Expected<'_>,
        finder: &Finder<'_, 'c>,
        missing: &[usize],
        mut found: impl FnMut(usize, Hit<'c>),
    ) -> Vec<usize> {
        let mut key = self.key.clone();
        let moved = missing.iter().filter_map(|&id| {
            let need = expected.needs.get(id);
            let rest = need.name.strip_prefix(&self.need)?;
            key.truncate(self.key.len());
            key.push_str(rest);
            found(id, finder.locate_ruled(&key, &need)?);
            Some(id)
        });
        moved.collect()
    }

    /// A key prefix that repeats the first segment of everything behind it is a doubled one.
    fn widen(&mut self, expected: &Expected<'_>, moved: &[usize]) {
        let heads = self.heads(expected, moved);
        let Some(only) = heads
            .first()
            .filter(|only| heads.len() == 1 && !only.is_empty())
        else {
            return;
        };
        if self.key == *only || self.key.ends_with(&format!(".{only}")) {
            self.key.push_str(only);
            self.need.push_str(only);
        }
    }

    /// The first segments behind the prefix in the names of these needs, each with its dot; an empty one
    /// where there is no dot.
    fn heads(&self, expected: &Expected<'_>, moved: &[usize]) -> BTreeSet<String> {
        let mut heads = BTreeSet::new();
        for &id in moved {
            let name = expected.needs.get(id).name;
            let head = name.strip_prefix(&self.need).map_or("", head);
            if !heads.contains(head) {
                heads.insert(head.to_owned());
            }
        }
        heads
    }

    /// The rule that renames the keys; `None` where no short one leaves the keys alone that are used
    /// as they are, and makes no name of two.
    fn rename(
        &mut self,
        used: &Keys<'_>,
        expected: &Expected<'_>,
        finder: &Finder<'_, '_>,
        moved: &[usize],
    ) -> Option<Rename> {
        let (key, need) = (escape(&self.key), self.need.replace('$', "$$"));
        let touches = |head: &str| {
            let start = format!("{}{head}", self.key);
            let mut names = used.iter().map(|used| finder.rules.name(used.name()));
            names.any(|name| name.starts_with(&start))
        };
        if !touches("") {
            self.clash = self.clash(finder);
            if self.clash.is_none() {
                return Rename::new(format!("^{key}"), need);
            }
        }
        // What moves is told from what stays by the segment behind the prefix.
        let heads = self.heads(expected, moved);
        if heads.len() > HEADS || heads.contains("") || heads.iter().any(|head| touches(head)) {
            return None;
        }
        let names = heads.iter().map(|head| escape(head.trim_end_matches('.')));
        let names = names.collect::<Vec<_>>().join("|");
        self.heads = heads.into_iter().collect();
        let rule = Rename::new(format!(r"^{key}({names})\."), format!("{need}${{1}}."));
        self.clash = self.clash(finder);
        rule.filter(|_| self.clash.is_none())
    }

    /// A key that moves and would get the name of one that stays, and that name.
    fn clash(&self, finder: &Finder<'_, '_>) -> Option<(String, String)> {
        let moved = |name: &str| {
            let rest = name.strip_prefix(&*self.key)?;
            self.moves(rest).then(|| format!("{}{rest}", self.need))
        };
        finder.checkpoint.iter().find_map(|tensor| {
            let name = moved(&finder.rules.name(tensor.name()))?;
            let other = finder.checkpoint.get(&finder.key(Cow::Borrowed(&name))?);
            let clashes = other.is_some() && moved(&name).is_none();
            clashes.then(|| (tensor.name().to_owned(), name))
        })
    }

    fn describe(&self, count: usize) -> String {
        let (start, lack, them) = match count {
            1 => ("starts", "lacks", "it"),
            _ => ("start", "lack", "them"),
        };
        let keys = keys(count);
        match (&*self.need, &*self.key) {
            ("", key) => {
                format!("{keys} {start} with `{key}`, the trace has {them} without it")
            }
            (need, "") => format!("{keys} {lack} the `{need}` that the trace expects"),
            (need, key) => {
                format!("{keys} {start} with `{key}`, the trace expects `{need}`")
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

/// The first segment, with its dot; nothing of a name that has only one.
fn head(name: &str) -> &str {
    name.find('.').map_or("", |dot| &name[..=dot])
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
