//! The names that missing tensors may have in the checkpoint, and the renames that mend it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::found::Found;
use super::mismatch::{Class, Finding, Line, Rename};
use super::prefix::Prefixes;
use super::{Expected, Need, names, prefix, similar};
use crate::open::{Checkpoint, Tensor};

/// Names that are compared letter by letter with a missing one.
const CANDIDATES: usize = 4096;
/// Missing names for which a near one is looked for, and how many are shown: one example is enough
/// to see a renamed module.
const NEAR: (usize, usize) = (12, 3);
/// What the two tensors of a norm are called, and what else.
const NORMS: &[(&str, &[&str])] = &[
    ("weight", &["gamma", "scale", "g"]),
    ("bias", &["beta", "offset", "shift", "b"]),
];

/// A key that nothing uses, by the name that it has after the renames of its prefix.
struct Unused<'c> {
    name: Cow<'c, str>,
    /// The numbers in it.
    numbers: Box<[u32]>,
    tensor: Tensor<'c>,
}

/// What is missing may be there by these names; the renames are for keys that other prefixes have
/// been mended in, and what mends those is said first.
pub(super) fn finding(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
    missing: &[usize],
    prefixes: &mut Prefixes,
) -> Option<Finding> {
    let used = found.used();
    let unused = checkpoint.iter().filter(|t| !used.contains(t.name()));
    let unused = unused.map(|tensor| {
        let name = prefixes.renamed(tensor.name());
        Unused {
            numbers: numbers(&name).collect(),
            name,
            tensor,
        }
    });
    let unused: Vec<Unused<'_>> = unused.collect();
    let mut missing: Vec<&Need<'_>> = missing.iter().map(|&id| &expected.needs[id]).collect();
    let (mut lines, mut renames) = (Vec::new(), Vec::new());
    let mut taken: HashSet<&str> = HashSet::new();
    for norm in norms(&missing, &unused, &used) {
        let others = match norm.pairs.len() - 1 {
            0 => String::new(),
            1 => " and 1 other".to_owned(),
            n => format!(" and {n} others"),
        };
        lines.push(format!(
            "renamed: {}{others} may end in `.{}` in the checkpoint",
            norm.pairs[0].0, norm.word
        ));
        renames.push(Rename {
            pattern: format!(r"\.{}$", norm.word),
            replacement: format!(".{}", norm.leaf),
        });
        missing.retain(|need| !norm.pairs.iter().any(|(name, _)| *name == need.name));
        taken.extend(norm.pairs.iter().map(|(_, key)| *key));
    }
    for (need, key) in nearest(&missing, &unused, &taken) {
        lines.push(format!(
            "renamed: {} may be called {} in the checkpoint",
            need.name,
            key.tensor.name()
        ));
        renames.extend(rule(&key.name, &need.name));
    }
    let count = lines.len();
    if !renames.is_empty() {
        // One list for both: later rules see what the earlier ones made.
        renames.splice(0..0, prefixes.take_renames());
    }
    let mut lines: Vec<Line> = lines.into_iter().map(Line::from).collect();
    match &mut lines[..] {
        [] => return None,
        _ if renames.is_empty() => {}
        [only] => {
            only.text.push_str(": if so, add");
            only.renames = renames;
        }
        _ => {
            let mut last = Line::from("  if so, add".to_owned());
            last.renames = renames;
            lines.push(last);
        }
    }
    Some(Finding::new(Class::Renamed, count, lines))
}

/// A tensor of norms by another word, wherever it is.
struct Norm<'n, 'c> {
    leaf: &'static str,
    word: &'static str,
    /// Names of needs, and the keys that they may be.
    pairs: Vec<(&'n str, &'c str)>,
}

/// Missing tensors of norms that are there by other words, where no key that is used has the word.
fn norms<'n, 'c>(
    missing: &[&'n Need<'_>],
    unused: &'c [Unused<'c>],
    used: &HashSet<&str>,
) -> Vec<Norm<'n, 'c>> {
    let mut found: BTreeMap<(&str, &str), Norm<'n, 'c>> = BTreeMap::new();
    let ends = |word: &str| unused.iter().any(|key| leaf(&key.name) == word);
    let words = NORMS
        .iter()
        .flat_map(|(leaf, words)| words.iter().map(move |word| (*leaf, *word)));
    let is_free = |word: &str| !used.iter().any(|key| leaf(key) == word);
    let words: Vec<_> = words
        .filter(|(_, word)| ends(word) && is_free(word))
        .collect();
    if words.is_empty() {
        return Vec::new();
    }
    let by_name: HashMap<&str, &Unused<'_>> = unused.iter().map(|key| (&*key.name, key)).collect();
    for need in missing.iter().filter(|need| need.shape.len() == 1) {
        let Some((module, own)) = need.name.rsplit_once('.') else {
            continue;
        };
        let key = words
            .iter()
            .filter(|(leaf, _)| *leaf == own)
            .find_map(|&(leaf, word)| {
                let key = by_name.get(&*format!("{module}.{word}"))?;
                (*key.tensor.shape() == *need.shape).then_some((leaf, word, key.tensor.name()))
            });
        if let Some((leaf, word, key)) = key {
            let norm = found.entry((leaf, word)).or_insert(Norm {
                leaf,
                word,
                pairs: Vec::new(),
            });
            norm.pairs.push((&need.name, key));
        }
    }
    // Weights before biases, as in the table.
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|norm| NORMS.iter().position(|(leaf, _)| *leaf == norm.leaf));
    found
}

/// For the first few that are missing, the nearest name of the same shape; no key is two of them.
fn nearest<'n, 'm, 'c>(
    missing: &[&'n Need<'m>],
    unused: &'c [Unused<'c>],
    taken: &HashSet<&str>,
) -> Vec<(&'n Need<'m>, &'c Unused<'c>)> {
    // One of each kind: the others are its like in other layers.
    let mut kinds = HashSet::new();
    let needs = missing
        .iter()
        .filter(|need| kinds.insert(names::split(&need.name).0));
    let needs: Vec<&Need<'_>> = needs.take(NEAR.0).copied().collect();
    let mut pairs = Vec::new();
    for (number, need) in needs.iter().enumerate() {
        let may_be = |key: &&Unused<'_>| {
            *key.tensor.shape() == *need.shape
                && !taken.contains(key.tensor.name())
                && may_be_called(leaf(&need.name), leaf(&key.name))
        };
        let mut keys: Vec<&Unused<'_>> = unused.iter().filter(may_be).collect();
        // Of many, those of the same layer that end as the missing one and are about as long.
        let own: Vec<u32> = numbers(&need.name).collect();
        let differs = |key: &Unused<'_>| *key.numbers != *own;
        if keys.len() > CANDIDATES {
            keys.select_nth_unstable_by_key(CANDIDATES, |key| {
                let length = key.name.len().abs_diff(need.name.len());
                (differs(key), leaf(&key.name) != leaf(&need.name), length)
            });
            keys.truncate(CANDIDATES);
        }
        pairs.extend(keys.into_iter().filter_map(|key| {
            let distance = similar::distance(&need.name, &key.name)?;
            Some((differs(key), distance, number, key))
        }));
    }
    pairs.sort_by(|a, b| (a.0, a.1, a.2, &a.3.name).cmp(&(b.0, b.1, b.2, &b.3.name)));
    let mut found: BTreeMap<usize, &Unused<'_>> = BTreeMap::new();
    let mut taken = HashSet::new();
    for (_, _, number, key) in pairs {
        if !found.contains_key(&number) && taken.insert(key.tensor.name()) {
            found.insert(number, key);
        }
    }
    let found = found.into_iter().map(|(number, key)| (needs[number], key));
    found.take(NEAR.1).collect()
}

/// Whether one may stand for the other: no bias is a weight.
fn may_be_called(need: &str, key: &str) -> bool {
    let role = |word: &str| {
        let mut roles = NORMS.iter();
        roles.position(|(leaf, words)| *leaf == word || words.contains(&word))
    };
    match (role(need), role(key)) {
        (Some(need), Some(key)) => need == key,
        _ => true,
    }
}

/// The rule that renames this key, in every layer; `None` where the two names do not have the same
/// numbers.
fn rule(key: &str, need: &str) -> Option<Rename> {
    let ((key, numbers), (need, others)) = (names::split(key), names::split(need));
    if numbers != others {
        return None;
    }
    let key = prefix::escape(&key).replace(r"\*", r"(\d+)");
    let mut group = 0;
    let segments = need.split('.').map(|segment| {
        if segment != "*" {
            return segment.replace('$', "$$");
        }
        group += 1;
        format!("${{{group}}}")
    });
    Some(Rename {
        pattern: format!("^{key}$"),
        replacement: segments.collect::<Vec<_>>().join("."),
    })
}

/// The numbers among the parts of a dotted name.
fn numbers(key: &str) -> impl Iterator<Item = u32> {
    key.split('.').filter_map(names::number)
}

/// The last part of a dotted name.
fn leaf(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}
