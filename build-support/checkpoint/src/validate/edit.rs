//! A part of names that is another in the checkpoint, and the rename that mends it.

use std::collections::BTreeSet;

use super::mismatch::Rename;
use super::prefix::escape;
use super::{names, similar};

/// First segments behind the part that a rename lists, where it must not touch every key.
const HEADS: usize = 12;

/// What libraries call a module that they put around another.
const WRAPPERS: &[&str] = &[
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_orig_mod",
    "base_layer",
    "base_model",
    "model",
    "module",
];

/// Between `left` and the rest, names of needs have `need` where those of keys have `key`; all are
/// templates, with `*` for numbers, and end with a dot unless they are empty or a name's end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edit {
    pub left: String,
    pub need: String,
    pub key: String,
    /// What has to come behind it.
    pub behind: Behind,
}

/// What comes behind the part of a name that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behind {
    /// Anything.
    Any,
    /// One of these segments, with its dot, and anything.
    Heads(BTreeSet<String>),
    /// This, and nothing else.
    End(String),
}

/// How the two parts are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Each segment of the one is a segment of the other but for slips.
    Slip,
    /// One of them is empty, or its segments are all in the other.
    Inserted,
    /// They have nothing in common.
    Other,
}

/// Where two templates differ in one place: what they share before it, and what each has there.
pub(super) fn difference<'n, 'k>(
    need: &'n str,
    key: &'k str,
) -> Option<(&'n str, &'n str, &'k str)> {
    let pairs = need.bytes().zip(key.bytes());
    let same = pairs.take_while(|(a, b)| a == b).count();
    let left = need.as_bytes()[..same]
        .iter()
        .rposition(|&b| b == b'.')
        .map_or(0, |dot| dot + 1);
    let (n, k) = (&need[left..], &key[left..]);
    let mut right = 0;
    for (i, (a, b)) in n.bytes().rev().zip(k.bytes().rev()).enumerate() {
        if a != b {
            break;
        }
        if a == b'.' {
            right = i;
        }
        // All of one of them, behind what both share.
        if i + 1 == n.len().min(k.len()) {
            let longer = if n.len() > k.len() { n } else { k };
            let dot = longer.len().checked_sub(i + 2);
            if dot.is_some_and(|dot| longer.as_bytes()[dot] == b'.') {
                right = i + 1;
            }
        }
    }
    let (n, k) = (&n[..n.len() - right], &k[..k.len() - right]);
    let has_number = |middle: &str| middle.split('.').any(|segment| segment == "*");
    let is_empty = left == 0 && right == 0;
    (n != k && !is_empty && !has_number(n) && !has_number(k)).then_some((&need[..left], n, k))
}

impl Kind {
    pub fn of(need: &str, key: &str) -> Self {
        let (need, key) = (need.trim_end_matches('.'), key.trim_end_matches('.'));
        if need.is_empty() || key.is_empty() {
            return Self::Inserted;
        }
        let same = need.split('.').count() == key.split('.').count();
        match (similar::is_alike(need, key), same) {
            (true, true) => Self::Slip,
            (true, false) => Self::Inserted,
            (false, _) => Self::Other,
        }
    }
}

impl Edit {
    /// Whether it is a module that a library puts around another.
    pub fn is_wrapper(&self) -> bool {
        let (need, key) = (&*self.need, &*self.key);
        let segments = if need.is_empty() { key } else { need };
        let is_empty = need.is_empty() || key.is_empty();
        let mut segments = segments.trim_end_matches('.').split('.');
        is_empty && segments.all(|segment| WRAPPERS.contains(&segment))
    }

    /// The name of the need that this template of keys is by this.
    pub fn need_of(&self, key: &str) -> Option<String> {
        self.moved(key, &self.key, &self.need)
    }

    /// The key of a need of this name.
    pub fn key_of(&self, need: &str) -> Option<String> {
        let (template, numbers) = names::split(need);
        let key = self.moved(&template, &self.need, &self.key)?;
        Some(names::join(&key, &numbers))
    }

    fn moved(&self, name: &str, from: &str, to: &str) -> Option<String> {
        let rest = name.strip_prefix(&*self.left)?.strip_prefix(from)?;
        let moves = match &self.behind {
            Behind::Any => true,
            Behind::Heads(heads) => heads.iter().any(|head| rest.starts_with(&**head)),
            Behind::End(end) => rest == end,
        };
        moves.then(|| format!("{}{to}{rest}", self.left))
    }

    /// Puts into `behind` first segments of these names of needs, so that other keys stay what they are;
    /// `false` where they are too many.
    pub fn bind<'n>(&mut self, needs: impl Iterator<Item = &'n str>) -> bool {
        let start = self.left.len() + self.need.len();
        let rests = needs.map(|need| need.get(start..).unwrap_or(""));
        let heads = rests.map(|rest| Some(rest[..=rest.find('.')?].to_owned()));
        let heads: Option<BTreeSet<String>> = heads.collect();
        match heads.filter(|heads| heads.len() <= HEADS) {
            Some(heads) => {
                self.behind = Behind::Heads(heads);
                true
            }
            None => false,
        }
    }

    /// The rule that does this to keys, if it can be shown.
    pub fn rename(&self) -> Option<Rename> {
        let pattern = |template: &str| {
            let segments = template.split('.');
            let segments = segments.map(|segment| match segment {
                "*" => r"(\d+)".to_owned(),
                segment => escape(segment),
            });
            segments.collect::<Vec<_>>().join(r"\.")
        };
        let mut group = 0;
        let head = (
            format!("^{}{}", pattern(&self.left), pattern(&self.key)),
            numbered(&self.left, &mut group) + &numbered(&self.need, &mut group),
        );
        let (behind, with) = match &self.behind {
            Behind::Any => (String::new(), String::new()),
            Behind::Heads(heads) => {
                let names = heads.iter().map(|head| match &**head {
                    "*." => r"\d+".to_owned(),
                    head => escape(head.trim_end_matches('.')),
                });
                let names = names.collect::<Vec<_>>().join("|");
                (format!(r"({names})\."), format!("${{{}}}.", group + 1))
            }
            Behind::End(end) => (format!("{}$", pattern(end)), numbered(end, &mut group)),
        };
        Rename::new(head.0 + &behind, head.1 + &with)
    }
}

/// A replacement with groups, from the next on, in the place of the `*`.
fn numbered(template: &str, group: &mut usize) -> String {
    let segments = template.split('.').map(|segment| match segment {
        "*" => {
            *group += 1;
            format!("${{{group}}}")
        }
        segment => segment.replace('$', "$$"),
    });
    segments.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_in_one_place() {
        for (need, key, expected) in [
            ("m.l.*.q.w", "m.l.*.p.w", Some(("m.l.*.", "q.", "p."))),
            ("m.l.*.q.w", "m.l.*.x.q.w", Some(("m.l.*.", "", "x."))),
            ("m.l.*.x.q.w", "m.l.*.q.w", Some(("m.l.*.", "x.", ""))),
            ("m.x", "m.m.x", Some(("m.", "", "m."))),
            ("x.w", "a.x.w", Some(("", "", "a."))),
            ("v.l.*.x", "v.e.k.*.x", Some(("v.", "l.", "e.k."))),
            ("a.up", "a.upp", Some(("a.", "up", "upp"))),
            ("a.bw", "a.b.w", Some(("a.", "bw", "b.w"))),
            // Nothing in common, or a number.
            ("a", "b", None),
            ("x.w", "m.*.x.w", None),
            ("a.w", "a.w", None),
        ] {
            assert_eq!(difference(need, key), expected, "{need} {key}");
        }
    }
}
