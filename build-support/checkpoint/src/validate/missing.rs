//! What the checkpoint does not have.

use crate::hash::HashMap;

use super::Expected;
use super::found::{Finder, Found};
use super::mismatch::{Class, Finding};
use super::prefix::Prefixes;
use super::renamed;

/// Ties of missing needs that are shown.
const TIES: usize = 3;

/// Needs that are not there, names that they may have, and twins that stand for one another.
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'c>,
    found: &Found<'c>,
    prefixes: &mut Prefixes,
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
    // By the first of each group, the twin that is there.
    let pairs = || expected.needs.iter().zip(&found.hits).enumerate();
    let mut twins: HashMap<usize, &str> = HashMap::default();
    for (id, (need, hit)) in pairs() {
        if hit.as_ref().is_some_and(|hit| !hit.tied) {
            twins
                .entry(need.tied_to.unwrap_or(id))
                .or_insert(&need.name);
        }
    }
    let tied = pairs().filter_map(|(id, (need, hit))| {
        hit.as_ref().filter(|hit| hit.tied)?;
        Some(format!(
            "tied: {} is absent; it is tied to {} in the trace: ok",
            need.name,
            twins.get(&need.tied_to.unwrap_or(id))?
        ))
    });
    let count = tied.clone().count();
    if count > 0 {
        findings.push(Finding::new(Class::Tied, count, tied));
    }
    findings
}
