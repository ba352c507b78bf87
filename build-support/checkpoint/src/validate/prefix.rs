//! Keys that would fit under another prefix, and the rename that mends them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use super::Expected;
use super::found::{Finder, Found};
use super::mismatch::{Class, Finding, Line, Rename};
use super::names::number;

/// Missing needs that are compared with every key to see what the prefixes may be.
const SAMPLES: usize = 16;
/// Missing needs on which a pair of prefixes is tried.
const TRIED: usize = 512;
/// Prefixes that one checkpoint has in place of others.
const RULES: usize = 4;
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

/// The prefixes that a checkpoint has in place of others.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    prefixes: Vec<Prefix>,
    lines: Vec<Line>,
    renames: Vec<Rename>,
    count: usize,
}

impl Prefixes {
    /// What a key becomes by the renames that are proposed.
    pub fn renamed<'k>(&self, key: &'k str) -> Cow<'k, str> {
        let mut prefixes = self.prefixes.iter();
        let name = prefixes.find_map(|prefix| {
            let rest = key.strip_prefix(&*prefix.key)?;
            let all = prefix.heads.is_empty();
            let moves = all || head(rest).is_some_and(|head| prefix.heads.contains(head));
            moves.then(|| format!("{}{rest}", prefix.need))
        });
        name.map_or(Cow::Borrowed(key), Cow::Owned)
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

/// Finds missing needs under other prefixes, puts them into `found`, and says so.
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'c>,
    found: &mut Found<'c>,
) -> Prefixes {
    let mut all = Prefixes::default();
    // llama.cpp's names have no prefix.
    let rules = if finder.checkpoint.is_gguf() {
        0
    } else {
        RULES
    };
    for _ in 0..rules {
        let missing = found.missing();
        if missing.is_empty() {
            break;
        }
        let used = found.used();
        let Some(mut prefix) = best(expected, finder, &missing, &used) else {
            break;
        };
        let mut moved = prefix.apply(expected, finder, found, &missing);
        prefix.widen(&mut moved);
        all.lines.push(Line::from(prefix.describe(moved.len())));
        all.count += moved.len();
        if let Some(rename) = prefix.rename(&used, &moved) {
            all.renames.push(rename);
            all.prefixes.push(prefix);
        }
    }
    all
}

/// The pair of prefixes that finds most of what is missing, if it finds a good part.
fn best(
    expected: &Expected<'_>,
    finder: &Finder<'_>,
    missing: &[usize],
    used: &HashSet<&str>,
) -> Option<Prefix> {
    let names = |ids: &[usize], n: usize| {
        let step = ids.len().div_ceil(n);
        let ids = ids.iter().step_by(step.max(1));
        ids.map(|&id| &expected.needs[id]).collect::<Vec<_>>()
    };
    let samples = names(missing, SAMPLES);
    let mut longest = vec![(1, BTreeSet::new()); samples.len()];
    for tensor in finder.checkpoint.iter() {
        if used.contains(tensor.name()) {
            continue;
        }
        let key = finder.need_of(tensor.name());
        for (need, (length, found)) in samples.iter().zip(&mut longest) {
            let Some((prefix, common)) = Prefix::between(&need.name, &key) else {
                continue;
            };
            if common > *length {
                *length = common;
                found.clear();
            }
            if common == *length {
                found.insert(prefix);
            }
        }
    }
    let candidates: BTreeSet<Prefix> = longest.into_iter().flat_map(|(_, found)| found).collect();
    let tried = names(missing, TRIED);
    let scored = candidates.into_iter().filter_map(|prefix| {
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
        (hits > 0 && 2 * hits >= of).then_some((hits, prefix))
    });
    // Of equals the shortest, which is the first of those that sort by length.
    let best =
        scored.max_by_key(|(hits, p)| (*hits, std::cmp::Reverse(p.need.len() + p.key.len())));
    best.map(|(_, prefix)| prefix)
}

impl Prefix {
    /// The prefixes in which two names differ, and how many segments they share behind them: at
    /// least two, or all of one of them.
    fn between(need: &str, key: &str) -> Option<(Self, usize)> {
        let (mut n, mut k) = (need.rsplit('.'), key.rsplit('.'));
        let (mut common, mut bytes) = (0, 0);
        let rest = loop {
            match (n.next(), k.next()) {
                (Some(a), Some(b)) if a == b => {
                    common += 1;
                    bytes += a.len() + 1;
                }
                (None, None) => return None,
                (a, b) => break (a, b),
            }
        };
        let whole = rest.0.is_none() || rest.1.is_none();
        if common == 0 || (common < 2 && !whole) {
            return None;
        }
        let head = |name: &str| name[..(name.len() + 1).saturating_sub(bytes)].to_owned();
        let prefix = Self {
            need: head(need),
            key: head(key),
            heads: BTreeSet::new(),
        };
        // What stands behind the number of one layer is no prefix of a model.
        if prefix
            .need
            .split('.')
            .any(|segment| number(segment).is_some())
        {
            return None;
        }
        // A whole name in common tells more than any part of one.
        Some((prefix, common + if whole { 1000 } else { 0 }))
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
            return Some(Rename {
                pattern: format!("^{key}"),
                replacement: need,
            });
        }
        // What moves is told from what stays by the segment behind the prefix.
        let heads: Option<BTreeSet<&str>> = moved.iter().map(|rest| head(rest)).collect();
        let heads =
            heads.filter(|heads| heads.len() <= HEADS && !heads.iter().any(|h| touches(h)))?;
        let names = heads.iter().map(|head| escape(head.trim_end_matches('.')));
        let names = names.collect::<Vec<_>>().join("|");
        self.heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Some(Rename {
            pattern: format!(r"^{key}({names})\."),
            replacement: format!("{need}${{1}}."),
        })
    }

    fn describe(&self, count: usize) -> String {
        let keys = match count {
            1 => "1 key".to_owned(),
            n => format!("{n} keys"),
        };
        match (&*self.need, &*self.key) {
            ("", key) => {
                format!("prefix: {keys} start with `{key}`, the trace has them without it")
            }
            (need, "") => format!("prefix: {keys} lack the `{need}` that the trace expects"),
            (need, key) => format!("prefix: {keys} start with `{key}`, the trace expects `{need}`"),
        }
    }
}

/// The first segment, with its dot; `None` of a name that has only one.
fn head(name: &str) -> Option<&str> {
    name.find('.').map(|dot| &name[..=dot])
}

/// A regular expression for this text.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
