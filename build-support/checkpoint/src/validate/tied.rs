//! Tensors that are absent, and for which another stands that is the same one in the trace.

use std::borrow::Cow;

use super::edit::{Behind, Edit, Kind, difference};
use super::found::{Finder, Found};
use super::hits::Hit;
use super::mismatch::{Class, Finding, Line};
use super::names;
use super::{Expected, Need, extra};
use crate::hash::HashMap;
use crate::open::Tensor;

/// What is said of them: nothing is amiss, unless the checkpoint has one of them by another name.
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'_, 'c>,
    found: &Found<'c>,
) -> Vec<Finding> {
    let groups = expected.needs.iter().enumerate();
    let groups = groups.map(|(id, need)| (need.tied_to.unwrap_or(id), need));
    let pairs = || groups.clone().zip(found.hits.iter());
    let is_tied = |hit: &Option<Hit<'_>>| hit.is_some_and(|hit| hit.tied);
    let absent = pairs().filter(|(_, hit)| is_tied(hit));
    // By the first of each group that is not whole, the twin that is there.
    let mut twins: HashMap<usize, Option<Cow<'_, str>>> = absent
        .clone()
        .map(|((group, _), _)| (group, None))
        .collect();
    if twins.is_empty() {
        return Vec::new();
    }
    for ((group, need), hit) in pairs() {
        if let Some(twin) = twins.get_mut(&group)
            && hit.is_some()
            && !is_tied(&hit)
        {
            twin.get_or_insert(need.name);
        }
    }
    let others: Vec<Tensor<'_>> = matrices(found);
    let is_whole = found.hits.iter().all(|hit| hit.is_some());
    let (mut fine, mut renamed, mut warned) = (Vec::new(), Vec::new(), Vec::new());
    for ((group, need), _) in absent {
        let Some(twin) = twins.get(&group).and_then(Option::as_deref) else {
            continue;
        };
        let alike = others.iter().filter(|other| other.shape() == need.shape);
        let named = |other: &&&Tensor<'_>| is_named_alike(&need, &name_of(finder, other));
        if let Some(other) = alike.clone().find(|other| named(&other)) {
            renamed.extend(lines(finder, &need, twin, other));
            continue;
        }
        // Where more is missing, all of it may have other names.
        let alike = alike.filter(|_| is_whole);
        warned.extend(alike.map(|other| {
            format!(
                "unused: {} has the shape of {}, which is absent and read from {twin}, to which it is \
                 tied in the trace: if it is that, add a `rename`",
                other.name(),
                need.name
            )
        }));
        fine.push(format!(
            "tied: {} is absent; it is tied to {twin} in the trace: ok",
            need.name
        ));
    }
    let mut findings = Vec::new();
    for (class, lines) in [(Class::Tied, fine), (Class::Unused, warned)] {
        if !lines.is_empty() {
            findings.push(Finding::new(class, lines.len(), lines));
        }
    }
    if !renamed.is_empty() {
        findings.push(Finding::new(Class::Renamed, renamed.len() / 2, renamed));
    }
    findings
}

/// Matrices that nothing needs.
fn matrices<'c>(found: &Found<'c>) -> Vec<Tensor<'c>> {
    let unneeded = extra::unneeded(found);
    let is_matrix = |tensor: &Tensor<'_>| tensor.shape().len() > 1 && tensor.dtype().is_float();
    unneeded.iter().filter(is_matrix).collect()
}

/// The name that a need would have if this tensor were it.
fn name_of(finder: &Finder<'_, '_>, tensor: &Tensor<'_>) -> String {
    let name = finder.rules.name(tensor.name());
    finder.need_of(&name).into_owned()
}

/// Whether this is the name but for a slip, or but for what a library puts around a module.
fn is_named_alike(need: &Need<'_>, name: &str) -> bool {
    let templates = [&*need.name, name].map(|name| names::split(name).0);
    let Some((left, need, key)) = difference(&templates[0], &templates[1]) else {
        return false;
    };
    let edit = Edit {
        left: left.to_owned(),
        need: need.to_owned(),
        key: key.to_owned(),
        behind: Behind::Any,
    };
    Kind::of(need, key) == Kind::Slip || edit.is_wrapper()
}

/// What a tensor may be, with the rename that makes it that, and what to do where it is not.
fn lines(finder: &Finder<'_, '_>, need: &Need<'_>, twin: &str, other: &Tensor<'_>) -> [Line; 2] {
    let name = finder.rules.name(other.name());
    let edit = Edit {
        left: String::new(),
        need: need.name.to_string(),
        key: name.into_owned(),
        behind: Behind::End(String::new()),
    };
    let mut line = Line::from(format!(
        "renamed: {} is absent, and may be called {} in the checkpoint; {twin}, to which it is tied in \
         the trace, would stand for it: if so, {}",
        need.name,
        other.name(),
        finder.rules.add()
    ));
    line.renames.extend(edit.rename());
    let otherwise = "  if it is another tensor, rename it to a name that is none of the model's";
    [line, Line::from(otherwise.to_owned())]
}
