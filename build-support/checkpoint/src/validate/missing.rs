//! What the checkpoint does not have, and what was probably meant.

use std::collections::HashSet;

use super::found::Found;
use super::groups;
use super::mismatch::{Class, Finding, cut};
use super::similar;
use super::{Expected, Need};
use crate::open::{Checkpoint, Tensor};

/// Names that are compared letter by letter with a missing one.
const CANDIDATES: usize = 4096;
/// Missing names for which a near one is looked for, and how many are shown: one example is enough
/// to see a renamed module.
const NEAR: (usize, usize) = (12, 3);

/// Needs that are not there, names that are near them, and twins that stand for one another.
pub(super) fn findings(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pairs = expected.needs.iter().zip(&found.tensors);
    let missing: Vec<&Need> = pairs
        .clone()
        .filter(|(_, hit)| hit.is_none())
        .map(|(need, _)| need)
        .collect();
    if !missing.is_empty() {
        let mut lines = listed(expected, &missing);
        lines.extend(near(checkpoint, found, &missing));
        findings.push(Finding {
            class: Class::Missing,
            count: missing.len(),
            lines,
        });
    }
    let tied = pairs.filter_map(|(need, hit)| {
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
    findings
}

fn listed(expected: &Expected<'_>, missing: &[&Need]) -> Vec<String> {
    let names = missing.iter().map(|need| &*need.name);
    let lines = groups::summary(names, expected.needs.iter().map(|need| &*need.name));
    match (&*lines, missing.len()) {
        ([only], 1) => vec![format!("missing: {only}")],
        ([only], n) => vec![format!("missing ({n}): {only}")],
        (_, n) => {
            let mut all = vec![format!("missing ({n}):")];
            all.extend(cut(lines.into_iter().map(|line| format!("  {line}"))));
            all
        }
    }
}

/// For the first few that are missing, the nearest name of the same shape that nothing uses.
fn near(checkpoint: &Checkpoint, found: &Found<'_>, missing: &[&Need]) -> Vec<String> {
    let hits = found.tensors.iter().flatten();
    let used: HashSet<&str> = hits.map(|hit| hit.tensor.name()).collect();
    let unused: Vec<Tensor<'_>> = checkpoint
        .iter()
        .filter(|tensor| !used.contains(tensor.name()))
        .collect();
    let lines = missing.iter().take(NEAR.0).filter_map(|need| {
        let same_shape = unused
            .iter()
            .filter(|tensor| *tensor.shape() == *need.shape);
        let mut names: Vec<_> = same_shape.map(|tensor| tensor.name()).collect();
        // Of many, those that end as the missing one and are about as long come first.
        let end = last(&need.name);
        let order = |key: &&str| (last(key) != end, key.len().abs_diff(need.name.len()));
        if names.len() > CANDIDATES {
            names.select_nth_unstable_by_key(CANDIDATES, order);
            names.truncate(CANDIDATES);
        }
        let near = similar::nearest(&need.name, names.into_iter())?;
        Some(format!(
            "the checkpoint has {near}, was it {} when the model was traced?",
            need.name
        ))
    });
    lines.take(NEAR.1).collect()
}

/// The last part of a dotted name.
fn last(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}
