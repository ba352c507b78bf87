//! What the checkpoint does not have, and what was probably meant.

use std::collections::HashSet;

use super::found::Found;
use super::mismatch::{Class, Finding, Line, Rename};
use super::{Expected, forms, gguf, names, prefix, similar};
use crate::header::PADDING;
use crate::open::{Checkpoint, Tensor};

/// Names that are compared letter by letter with a missing one.
const CANDIDATES: usize = 4096;
/// Missing names for which a near one is looked for, and how many are shown: one example is enough
/// to see a renamed module.
const NEAR: (usize, usize) = (12, 3);

/// Needs that are not there, names that are near them, twins that stand for one another, and, if
/// asked for, keys that nothing needs.
pub(super) fn findings(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let missing = found.missing();
    let needs = expected.needs.iter();
    if !missing.is_empty() {
        let names = missing.iter().map(|&id| &*expected.needs[id].name);
        let all = needs.clone().map(|need| &*need.name);
        let mut finding = Finding::listed(Class::Missing, missing.len(), names, all);
        let tied = missing.iter().filter_map(|&id| {
            let first = expected.needs[id].tied_to?;
            let names = (&expected.needs[id].name, &expected.needs.get(first)?.name);
            Some(format!(
                "{} is tied to {}: one of the two has to be there",
                names.0, names.1
            ))
        });
        for line in tied.take(NEAR.1) {
            finding = finding.with(&line);
        }
        findings.push(finding);
        let near = near(expected, checkpoint, found, &missing);
        if !near.is_empty() {
            findings.push(Finding::new(Class::Renamed, near.len(), near));
        }
    }
    let tied = needs.zip(&found.hits).filter_map(|(need, hit)| {
        let hit = hit.as_ref().filter(|hit| hit.tied)?;
        Some(format!(
            "tied: {} is absent; it is tied to {} in the trace: ok",
            need.name,
            hit.tensor.name()
        ))
    });
    let count = tied.clone().count();
    if count > 0 {
        findings.push(Finding::new(Class::Tied, count, tied));
    }
    if expected.strict {
        findings.extend(unexpected(checkpoint, found));
    }
    findings
}

/// Keys that nothing needs, but for those that belong to a quantized weight or hold a file's tables;
/// sorted.
pub(super) fn unneeded<'c>(checkpoint: &'c Checkpoint, found: &Found<'_>) -> Vec<&'c str> {
    let mut known = found.used();
    let packed = found.hits.iter().flatten().filter(|hit| hit.is_packed());
    let beside: Vec<String> = packed
        .flat_map(|hit| forms::beside(hit.tensor.name(), hit.form))
        .collect();
    known.extend(beside.iter().map(|key| &**key));
    if checkpoint.is_gguf() {
        known.extend(gguf::TABLES);
    }
    let keys = checkpoint.iter().map(|tensor| tensor.name());
    let is_unknown = |key: &&str| !known.contains(key) && !key.starts_with(PADDING);
    let mut unknown: Vec<&str> = keys.filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown
}

fn unexpected(checkpoint: &Checkpoint, found: &Found<'_>) -> Option<Finding> {
    let unknown = unneeded(checkpoint, found);
    (!unknown.is_empty()).then(|| {
        let names = unknown.iter().copied();
        let keys = checkpoint.iter().map(|tensor| tensor.name());
        Finding::listed(Class::Unexpected, unknown.len(), names, keys).with(
            "nothing needs these: leave `strict` out, or write a checkpoint without them with \
             `cargo pycandle extract`",
        )
    })
}

/// For the first few that are missing, the nearest name of the same shape that nothing uses.
fn near(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
    missing: &[usize],
) -> Vec<Line> {
    let used = found.used();
    let unused: Vec<Tensor<'_>> = checkpoint
        .iter()
        .filter(|tensor| !used.contains(tensor.name()))
        .collect();
    // One of each kind: the others are its like in other layers.
    let mut kinds = HashSet::new();
    let needs = missing.iter().map(|&id| &expected.needs[id]);
    let needs = needs.filter(|need| kinds.insert(names::split(&need.name).0));
    let lines = needs.take(NEAR.0).filter_map(|need| {
        let same_shape = unused
            .iter()
            .filter(|tensor| *tensor.shape() == *need.shape);
        let mut names: Vec<_> = same_shape.map(|tensor| tensor.name()).collect();
        // Of many, those of the same layer that end as the missing one and are about as long.
        let end = last(&need.name);
        let same = |key: &&str| numbers(key).eq(numbers(&need.name));
        let length = |key: &&str| key.len().abs_diff(need.name.len());
        let order = |key: &&str| (!same(key), last(key) != end, length(key));
        if names.len() > CANDIDATES {
            names.select_nth_unstable_by_key(CANDIDATES, order);
            names.truncate(CANDIDATES);
        }
        let near = similar::nearest(&need.name, names.iter().copied().filter(same))
            .or_else(|| similar::nearest(&need.name, names.iter().copied()))?;
        let renames: Vec<_> = rule(near, &need.name).into_iter().collect();
        let mend = if renames.is_empty() {
            ""
        } else {
            ": if so, add"
        };
        Some(Line {
            text: format!(
                "renamed: {} may be {near} in the checkpoint{mend}",
                need.name
            ),
            renames,
        })
    });
    lines.take(NEAR.1).collect()
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
fn last(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}
