//! What the checkpoint does not have.

use std::borrow::Cow;

use crate::hash::HashMap;

use super::Expected;
use super::found::{Finder, Found};
use super::hits::Hit;
use super::mismatch::{Class, Finding};
use super::prefix::Prefixes;
use super::renamed;

/// Ties of missing needs that are shown.
const TIES: usize = 3;

/// Needs that are not there, names that they may have, and twins that stand for one another.
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'_, 'c>,
    found: &Found<'c>,
    prefixes: &mut Prefixes,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let missing = found.missing();
    if !missing.is_empty() {
        let is_missing: Vec<bool> = found.hits.iter().map(|hit| hit.is_none()).collect();
        // They are compared many times, and some are made when they are asked for.
        let names: Vec<Cow<'_, str>> = expected.needs.iter().map(|need| need.name).collect();
        let name = |id: u32| &*names[id as usize];
        let mut finding = Finding::listed(Class::Missing, name, &is_missing);
        let tied = missing.iter().filter_map(|&id| {
            let need = expected.needs.get(id);
            let first = need.tied_to.filter(|&first| first < expected.needs.len())?;
            Some(format!(
                "{} is tied to {}: one of the two has to be there",
                need.name,
                expected.needs.get(first).name
            ))
        });
        for line in tied.take(TIES) {
            finding = finding.with(&line);
        }
        let (renamed, pieces) = renamed::findings(expected, finder, found, prefixes);
        for line in pieces {
            finding = finding.with(&line);
        }
        findings.push(finding);
        findings.extend(renamed);
    }
    let groups = expected.needs.iter().enumerate();
    let groups = groups.map(|(id, need)| (need.tied_to.unwrap_or(id), need.name));
    let pairs = || groups.clone().zip(found.hits.iter());
    let is_tied = |hit: &Option<Hit<'_>>| hit.is_some_and(|hit| hit.tied);
    let absent = pairs().filter(|(_, hit)| is_tied(hit));
    // By the first of each group that is not whole, the twin that is there.
    let mut twins: HashMap<usize, Option<Cow<'_, str>>> = absent
        .clone()
        .map(|((group, _), _)| (group, None))
        .collect();
    for ((group, name), hit) in pairs() {
        if let Some(twin) = twins.get_mut(&group)
            && hit.is_some()
            && !is_tied(&hit)
        {
            twin.get_or_insert(name);
        }
    }
    let tied = absent.filter_map(|((group, name), _)| {
        let twin = twins.get(&group)?.as_deref()?;
        Some(format!(
            "tied: {name} is absent; it is tied to {twin} in the trace: ok"
        ))
    });
    let count = tied.clone().count();
    if count > 0 {
        findings.push(Finding::new(Class::Tied, count, tied));
    }
    findings
}
