//! Many names shown as few: `model.layers.{16..31}.* (9 keys each)`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::names::{self, number};
use crate::ranges::{NUMBERS, products};

/// Ranges of numbers that are spelled out.
const SHOWN: usize = 12;

/// Names by something that a line says of them, and by their template.
#[derive(Debug)]
pub(super) struct Groups<K> {
    /// Those that are a template of their own apart from the others.
    by_what: BTreeMap<(K, bool), BTreeMap<Box<str>, Members>>,
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
        let is_template =
            names::write_template(name, template) && template.matches('*').count() <= NUMBERS;
        if !is_template {
            name.clone_into(template);
        }
        let templates = by_what.entry((what, is_template)).or_default();
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
        let groups = self.by_what.iter().flat_map(|((what, _), templates)| {
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
    products(&members.numbers, width)
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

/// The listed ones of all names as few lines, and how many more lines there are; so many are written.
/// A layer or expert of which all names are listed is one.
pub(super) fn summary<'a>(
    name: impl Fn(u32) -> &'a str,
    is_listed: &[bool],
    shown: usize,
) -> (Vec<String>, usize) {
    // Names are counted in 32 bits.
    let mut order: Vec<u32> = (0..is_listed.len() as u32).collect();
    // Most files are sorted in long runs, which a stable sort takes as they are.
    order.sort_by_key(|&number| name(number));
    let count = |numbers: &[u32]| {
        let listed = numbers.iter().filter(|&&number| is_listed[number as usize]);
        listed.count()
    };
    let mut groups = Groups::default();
    // Names that begin alike follow one another; of how many bytes they do is beside them.
    let mut open = vec![(0, &*order)];
    while let Some((start, numbers)) = open.pop() {
        let place = |number: u32| {
            let name = name(number);
            Some(&name[start..place_end(name, start)?])
        };
        for below in numbers.chunk_by(|&a, &b| place(a) == place(b)) {
            let end = place_end(name(below[0]), start);
            match (end, count(below)) {
                (_, 0) => {}
                (Some(end), listed) if listed > 1 && listed == below.len() => {
                    groups.add(&name(below[0])[..end], listed);
                }
                (Some(end), _) if below.len() > 1 => open.push((end + 1, below)),
                _ => {
                    let listed = below.iter().filter(|&&n| is_listed[n as usize]);
                    listed.for_each(|&number| groups.add(name(number), 0));
                }
            }
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

/// The end of the first segment from `start` on that is a number and has something below.
fn place_end(name: &str, mut start: usize) -> Option<usize> {
    // Names are short, and searching for a character begins anew for each.
    let dots = name.bytes().enumerate().skip(start);
    let mut dots = dots.filter(|&(_, byte)| byte == b'.');
    let end = dots.find(|&(dot, _)| {
        let last = &name[start..dot];
        start = dot + 1;
        number(last).is_some()
    });
    Some(end?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[&str], all: &[&str], expected: &[&str]) {
        let is_listed: Vec<bool> = all.iter().map(|name| keys.contains(name)).collect();
        for shown in [0, 1, usize::MAX] {
            let (lines, more) = summary(|n| all[n as usize], &is_listed, shown);
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
        check(&odd, &odd, &odd);
        check(
            &["0.weight", "2.weight"],
            &["0.weight", "1.weight", "2.weight"],
            &["{0,2}.weight"],
        );
        check(&["a.3"], &["a.3"], &["a.3"]);
        let own = ["a.*.*", "a.1.2", "a.3.4"];
        check(&own, &own, &["a.*.*", "a.1.2", "a.3.4"]);
        let deep = format!("{}w", "0.".repeat(100_000));
        check(&[&deep], &[&deep], &[&deep]);
        check(&["a.0.w", "a.2.w"], &["a.2.w", "a.0.w"], &["a.{0,2}.w"]);
        let even: Vec<_> = (0..100).map(|n| format!("a.{}.w", 2 * n)).collect();
        let even: Vec<&str> = even.iter().map(|name| &**name).collect();
        let first = "a.{0,2,4,6,8,10,12,14,16,18,20,22,24,…}.w";
        check(&even, &even, &[first]);
    }
}
