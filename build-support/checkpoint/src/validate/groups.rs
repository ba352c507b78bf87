//! Many names shown as few: `model.layers.{16..31}.* (9 keys each)`.

use std::collections::{BTreeMap, HashMap};

use super::names::{self, number};
use crate::ranges::products;

/// Ranges of numbers that are spelled out.
const SHOWN: usize = 12;

/// Names by their template and by something that a line says of them.
#[derive(Debug)]
pub(super) struct Groups<K>(BTreeMap<(String, K), Members>);

#[derive(Debug, Default)]
struct Members {
    /// The numbers of each member, one after another; nothing when the template has none.
    numbers: Vec<u32>,
    count: usize,
}

impl<K: Ord> Default for Groups<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Groups<K> {
    /// Adds a name.
    pub fn add(&mut self, name: &str, what: K) {
        let (template, numbers) = names::split(name);
        let members = self.0.entry((template, what)).or_default();
        members.numbers.extend(numbers);
        members.count += 1;
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.0.values().map(|members| members.count).sum()
    }

    /// Patterns of names, with what is said of them.
    pub fn lines(&self) -> impl Iterator<Item = (String, &K)> {
        self.0.iter().flat_map(|((template, what), members)| {
            let width = match members.count {
                0 => 0,
                count => members.numbers.len() / count,
            };
            let patterns = patterns(template, width, &members.numbers);
            patterns.into_iter().map(move |pattern| (pattern, what))
        })
    }
}

/// The template with ranges for its numbers, as few times as they are a product of ranges.
fn patterns(template: &str, width: usize, numbers: &[u32]) -> Vec<String> {
    if width == 0 {
        return vec![template.to_owned()];
    }
    let mut rows: Vec<&[u32]> = numbers.chunks_exact(width).collect();
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
            segments.collect::<Vec<_>>().join(".")
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

/// Names as few lines; `all` are the names among which a whole layer or expert is known.
pub(super) fn summary<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    all: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let mut below: HashMap<&str, (usize, usize)> = HashMap::new();
    for name in names.clone() {
        for place in numbered(name) {
            below.entry(place).or_default().0 += 1;
        }
    }
    for name in all {
        for place in numbered(name) {
            // A place with nothing in it is not asked for.
            if let Some((_, all)) = below.get_mut(place) {
                *all += 1;
            }
        }
    }
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups = Groups::default();
    for name in names {
        let whole = numbered(name).find(|place| {
            let counts = below.get(place);
            counts.is_some_and(|&(here, all)| here > 1 && here == all)
        });
        match whole {
            Some(place) => *counted.entry(place).or_default() += 1,
            None => groups.add(name, 0),
        }
    }
    for (place, count) in counted {
        groups.add(place, count);
    }
    let lines = groups.lines().map(|(pattern, &count)| match count {
        0 => pattern,
        _ if pattern.contains('{') => format!("{pattern}.* ({count} keys each)"),
        _ => format!("{pattern}.* ({count} keys)"),
    });
    lines.collect()
}

/// The places in a name that end with a number and have something below, outermost first.
fn numbered(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').map(|(dot, _)| &name[..dot]);
    dots.filter(|place| {
        let last = place.rsplit_once('.').map_or(*place, |(_, last)| last);
        number(last).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[&str], all: &[&str], expected: &[&str]) {
        let lines = summary(keys.iter().copied(), all.iter().copied());
        assert_eq!(lines, expected);
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
