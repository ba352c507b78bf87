//! Many names shown as few: `model.layers.{16..31}.* (9 keys each)`.

use crate::hash::{HashMap, HashSet};
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::names::{self, number};
use crate::ranges::products;

/// Ranges of numbers that are spelled out.
const SHOWN: usize = 12;

/// Names by something that a line says of them, and by their template.
#[derive(Debug)]
pub(super) struct Groups<K> {
    by_what: BTreeMap<K, BTreeMap<Box<str>, Members>>,
    /// Where a template is written before it is looked up.
    template: String,
}

#[derive(Debug, Default)]
struct Members {
    /// The numbers of each member, one after another; nothing when the template has none.
    numbers: Vec<u32>,
    count: usize,
}

impl<K: Ord> Default for Groups<K> {
    fn default() -> Self {
        Self {
            by_what: BTreeMap::new(),
            template: String::new(),
        }
    }
}

impl<K: Ord> Groups<K> {
    /// Adds a name.
    pub fn add(&mut self, name: &str, what: K) {
        let Self { by_what, template } = self;
        let is_template = names::write_template(name, template);
        if !is_template {
            name.clone_into(template);
        }
        let templates = by_what.entry(what).or_default();
        // Most names have the template of another.
        let members = match templates.get_mut(template.as_str()) {
            Some(members) => members,
            None => templates.entry(template.as_str().into()).or_default(),
        };
        if is_template {
            members.numbers.extend(name.split('.').filter_map(number));
        }
        members.count += 1;
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        let members = self.by_what.values().flat_map(BTreeMap::values);
        members.map(|members| members.count).sum()
    }

    /// Patterns of names, with what is said of them; in the order of their templates.
    pub fn lines(&self) -> impl Iterator<Item = (Cow<'_, str>, &K)> {
        let groups = self.by_what.iter().flat_map(|(what, templates)| {
            let templates = templates.iter();
            templates.map(move |(template, members)| (&**template, what, members))
        });
        let mut groups: Vec<_> = groups.collect();
        groups.sort_unstable_by_key(|&(template, what, _)| (template, what));
        groups.into_iter().flat_map(|(template, what, members)| {
            let patterns = patterns(template, members);
            patterns.into_iter().map(move |pattern| (pattern, what))
        })
    }
}

/// The template with ranges for its numbers, as few times as they are a product of ranges.
fn patterns<'t>(template: &'t str, members: &Members) -> Vec<Cow<'t, str>> {
    let width = members.numbers.len() / members.count.max(1);
    if width == 0 {
        return vec![template.into()];
    }
    let mut rows: Vec<&[u32]> = members.numbers.chunks_exact(width).collect();
    rows.sort_unstable();
    rows.dedup();
    products(&rows)
        .into_iter()
        .map(|ranges| {
            let mut ranges = ranges.into_iter();
            let segments = template.split('.').map(|segment| match segment {
                "*" => ranges.next().map_or_else(|| "*".to_owned(), cut),
                _ => segment.to_owned(),
            });
            segments.collect::<Vec<_>>().join(".").into()
        })
        .collect()
}

/// Ranges of which the first few are shown: `{0..9,11..19,…}`.
fn cut(ranges: String) -> String {
    match ranges.match_indices(',').nth(SHOWN) {
        Some((end, _)) => format!("{},…}}", &ranges[..end]),
        None => ranges,
    }
}

/// Names as few lines, of which so many are written, and how many more there are; `all` are the names
/// among which a whole layer or expert is known.
pub(super) fn summary<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    all: impl Iterator<Item = &'a str>,
    shown: usize,
) -> (Vec<String>, usize) {
    let mut below: HashMap<&str, (usize, usize)> = HashMap::default();
    for (place, count) in runs(names.clone()) {
        for place in up_to(place) {
            below.entry(place).or_default().0 += count;
        }
    }
    for (place, count) in runs(all) {
        for place in up_to(place) {
            // A place with nothing in it is not asked for.
            if let Some((_, all)) = below.get_mut(place) {
                *all += count;
            }
        }
    }
    let (mut groups, mut said) = (Groups::default(), HashSet::default());
    let mut last = (None, false);
    for name in names {
        let place = innermost(name);
        if last.0 != Some(place) {
            let whole = up_to(place).find(|place| {
                let counts = below.get(place);
                counts.is_some_and(|&(here, all)| here > 1 && here == all)
            });
            last = (Some(place), whole.is_some());
            if let Some(place) = whole.filter(|place| said.insert(*place)) {
                groups.add(place, below[place].0);
            }
        }
        if !last.1 {
            groups.add(name, 0);
        }
    }
    let mut lines = groups.lines();
    let first = lines.by_ref().take(shown);
    let first = first.map(|(pattern, &count)| match count {
        0 => pattern.into_owned(),
        _ if pattern.contains('{') => format!("{pattern}.* ({count} keys each)"),
        _ => format!("{pattern}.* ({count} keys)"),
    });
    (first.collect(), lines.count())
}

/// The innermost place of names that follow one another, and how many they are: most names follow one
/// of the same place.
fn runs<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (&'a str, usize)> {
    let mut places = names.map(innermost).peekable();
    std::iter::from_fn(move || {
        let place = places.next()?;
        let mut count = 1;
        while places.next_if_eq(&place).is_some() {
            count += 1;
        }
        Some((place, count))
    })
}

/// The last of the places in a name; empty where there is none.
fn innermost(name: &str) -> &str {
    let dot_before = |end: usize| {
        name.as_bytes()[..end]
            .iter()
            .rposition(|&byte| byte == b'.')
    };
    let mut end = dot_before(name.len());
    while let Some(dot) = end {
        end = dot_before(dot);
        let start = end.map_or(0, |dot| dot + 1);
        if number(&name[start..dot]).is_some() {
            return &name[..dot];
        }
    }
    ""
}

/// A place and those around it, outermost first.
fn up_to(place: &str) -> impl Iterator<Item = &str> {
    numbered(place).chain(Some(place).filter(|place| !place.is_empty()))
}

/// The places in a name that end with a number and have something below, outermost first.
fn numbered(name: &str) -> impl Iterator<Item = &str> {
    // Names are short, and searching for a character begins anew for each.
    let mut start = 0;
    let dots = name.bytes().enumerate().filter(|&(_, byte)| byte == b'.');
    dots.filter_map(move |(dot, _)| {
        let last = &name[start..dot];
        start = dot + 1;
        number(last).map(|_| &name[..dot])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[&str], all: &[&str], expected: &[&str]) {
        for shown in [0, 1, usize::MAX] {
            let (lines, more) = summary(keys.iter().copied(), all.iter().copied(), shown);
            assert_eq!(lines, expected[..shown.min(expected.len())]);
            assert_eq!(lines.len() + more, expected.len());
        }
    }

    #[test]
    fn whole_layers_are_one_line() {
        let keys = ["l.1.a", "l.1.b", "l.2.a", "l.2.b"];
        let all = ["l.0.a", "l.0.b", "l.1.a", "l.1.b", "l.2.a", "l.2.b", "head"];
        check(&keys, &all, &["l.{1,2}.* (2 keys each)"]);
        check(&keys[..3], &all, &["l.1.* (2 keys)", "l.2.a"]);
        check(
            &["l.0.a", "l.1.a", "l.2.a", "head"],
            &all,
            &["head", "l.{0..2}.a"],
        );
    }

    #[test]
    fn experts_of_layers_are_one_line() {
        let names = |layers: std::ops::Range<u32>, experts: std::ops::Range<u32>| {
            let of = move |l| experts.clone().map(move |e| (l, e));
            let places = layers.flat_map(of);
            let names =
                places.flat_map(|(l, e)| ["up", "down"].map(|w| format!("l.{l}.e.{e}.{w}")));
            names.collect::<Vec<_>>()
        };
        let all = names(0..4, 0..8);
        let some = [names(0..2, 3..6), names(3..4, 7..8)].concat();
        let some: Vec<&str> = some.iter().map(|name| &**name).collect();
        let all: Vec<&str> = all.iter().map(|name| &**name).collect();
        check(
            &some,
            &all,
            &["l.{0,1}.e.{3..5}.* (2 keys each)", "l.3.e.7.* (2 keys)"],
        );
        check(&all, &all, &["l.{0..3}.* (16 keys each)"]);
    }

    #[test]
    fn odd_keys_stay_as_they_are() {
        let odd = ["a..b", "x.99999999999999999999999.w"];
        check(&odd, &[], &odd);
        check(&["0.weight", "2.weight"], &[], &["{0,2}.weight"]);
        check(&["a.3"], &["a.3"], &["a.3"]);
        check(&["a.0.w", "a.2.w"], &[], &["a.{0,2}.w"]);
        let even: Vec<_> = (0..100).map(|n| format!("a.{}.w", 2 * n)).collect();
        let even: Vec<&str> = even.iter().map(|name| &**name).collect();
        let first = "a.{0,2,4,6,8,10,12,14,16,18,20,22,24,…}.w";
        check(&even, &[], &[first]);
    }
}
