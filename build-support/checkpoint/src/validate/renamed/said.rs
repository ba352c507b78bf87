//! What is said of names that missing tensors may have.

use super::super::mismatch::{Class, Finding, Line, Rename};
use super::super::prefix::Prefixes;
use super::{Proposal, Search};

/// Names that are shown where any of them may be meant.
const RIVALS: usize = 3;

/// What is said, above the renames that mend it all.
pub(super) fn finding(
    lines: Vec<String>,
    (mut renames, add): (Vec<Rename>, &str),
    count: usize,
    prefixes: &mut Prefixes,
) -> Option<Finding> {
    if !renames.is_empty() {
        // One list for both: later rules see what the earlier ones made.
        renames.splice(0..0, prefixes.take_renames());
    }
    let mut lines: Vec<Line> = lines.into_iter().map(Line::from).collect();
    match &mut lines[..] {
        [] => return None,
        _ if renames.is_empty() => {}
        [only] => {
            only.text.push_str(&format!(": if so, {add}"));
            only.renames = renames;
        }
        _ => {
            let mut last = Line::from(format!("  if so, {add}"));
            last.renames = renames;
            lines.push(last);
        }
    }
    Some(Finding {
        class: Class::Renamed,
        count,
        lines,
    })
}

/// ` and 2 others` of so many altogether.
pub(super) fn others(all: usize) -> String {
    match all - 1 {
        0 => String::new(),
        1 => " and 1 other".to_owned(),
        n => format!(" and {n} others"),
    }
}

impl Search<'_, '_, '_> {
    /// What a tensor may be called, and how many others in the same way.
    pub(super) fn line(&self, proposal: &Proposal, rivals: &[Proposal]) -> String {
        let Some(&(id, _)) = proposal.found.first() else {
            return String::new();
        };
        let need = self.expected.needs.get(id);
        let all = [proposal].into_iter().chain(rivals);
        let keys = all.filter_map(|p| self.unused_key(&p.edit.key_of(&need.name)?, &need));
        let mut keys: Vec<String> = keys.collect();
        let more = keys.len().saturating_sub(RIVALS);
        if more > 1 {
            keys.truncate(RIVALS);
            keys.push(format!("by {more} other names"));
        }
        let same = match proposal.count {
            0 | 1 => String::new(),
            n => format!(", and{} in the same way", &others(n)[4..]),
        };
        let which = match (rivals.is_empty(), &proposal.rule) {
            (true, Some(_)) => "",
            (true, None) => ": if it is no other module's, add a `rename`",
            (false, _) => ": its name does not say which",
        };
        format!(
            "renamed: {} may be called {} in the checkpoint{same}{which}",
            need.name,
            keys.join(" or ")
        )
    }
}
