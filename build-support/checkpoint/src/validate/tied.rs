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

/// What is said of them: nothing is amiss, unless the checkpoint has one of them by another name,
/// which shows where nothing else is missing.
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'_, 'c>,
    found: &Found<'c>,
    is_whole: bool,
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
    let mut others = match is_whole {
        true => matrices(found),
        false => Vec::new(),
    };
    let (mut fine, mut findings) = (Vec::new(), Vec::new());
    for ((group, need), _) in absent {
        let Some(twin) = twins.get(&group).and_then(Option::as_deref) else {
            continue;
        };
        let named = |other: &Tensor<'_>| {
            other.shape() == need.shape && is_named_alike(&need, &name_of(finder, other))
        };
        // The first is the one that a model has in any case.
        let other = others.iter().position(named);
        if let Some(other) = other.filter(|_| need.tied_to.is_none()) {
            // Where rules are not known, nobody could say that it is another tensor.
            let class = match expected.rules {
                Some(_) => Class::Renamed,
                None => Class::Unused,
            };
            let lines = named_lines(class, finder, &need, twin, &others.remove(other));
            findings.push(Finding::new(class, 1, lines));
            continue;
        }
        fine.push(format!(
            "tied: {} is absent; it is tied to {twin} in the trace: ok",
            need.name
        ));
        if need.tied_to.is_none() {
            // A whole second model has copies of both.
            let is_copy = |name: &str| name.ends_with(twin) || name.ends_with(&*need.name);
            let (alike, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut others)
                .into_iter()
                .partition(|other| other.shape() == need.shape && !is_copy(other.name()));
            others = rest;
            let lines = alike.iter().map(|other| {
                format!(
                    "unused: {} has the shape of {}, which is absent and read from {twin}, to which it \
                     is tied in the trace: if it is that, add a `rename`",
                    other.name(),
                    need.name
                )
            });
            if !alike.is_empty() {
                findings.push(Finding::new(Class::Unused, alike.len(), lines));
            }
        }
    }
    if !fine.is_empty() {
        findings.push(Finding::new(Class::Tied, fine.len(), fine));
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
    let [(need, numbers), (key, others)] = [&*need.name, name].map(names::split);
    let Some((left, need, key)) = difference(&need, &key).filter(|_| numbers == others) else {
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
fn named_lines(
    class: Class,
    finder: &Finder<'_, '_>,
    need: &Need<'_>,
    twin: &str,
    other: &Tensor<'_>,
) -> [Line; 2] {
    let name = finder.rules.name(other.name());
    let edit = Edit {
        left: String::new(),
        need: need.name.to_string(),
        key: name.into_owned(),
        behind: Behind::End(String::new()),
    };
    let mut line = Line::from(format!(
        "{}: {} is absent, and may be called {} in the checkpoint; {twin}, to which it is tied in \
         the trace, would stand for it: if so, {}",
        class.name(),
        need.name,
        other.name(),
        finder.rules.add()
    ));
    line.renames.extend(edit.rename());
    let otherwise = "  if it is another tensor, rename it to a name that is none of the model's";
    [line, Line::from(otherwise.to_owned())]
}
