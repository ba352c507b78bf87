//! What the checkpoint does not have.

use std::borrow::Cow;

use super::Expected;
use super::found::{Finder, Found};
use super::mismatch::{Class, Finding};
use super::prefix::Prefixes;
use super::renamed;

/// Ties of missing needs that are shown.
const TIES: usize = 3;

/// Needs that are not there, and names that they may have.
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
    findings
}
