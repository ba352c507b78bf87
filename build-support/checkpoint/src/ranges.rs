//! Many names as few patterns, and back: `layers.{0..31}.norm{1,2}.weight`.
//!
//! In generated code, what a model needs must not take a line for each of its layers. A number in a
//! name is a run of digits; names that differ in nothing but their numbers become a pattern for each
//! product of ranges that they are, and what stands in a pattern's braces is what Rust's `{}` would
//! write there: `{{` and `}}` are braces of the name itself.

use crate::hash::HashMap;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::Hash;

/// Numbers of a name that are ranges; those of models have three at most, those of hostile files as
/// many as there is room for.
pub(crate) const NUMBERS: usize = 16;

/// Patterns that stand for these names and no other, each with what is said of all its names; in the
/// order of their first names.
///
/// ```
/// use pycandle_checkpoint::{expand, shorten};
/// let names = (0..32).flat_map(|layer| [1, 2].map(|n| format!("layers.{layer}.norm{n}.weight")));
/// let names: Vec<String> = names.collect();
/// let patterns = shorten(names.iter().map(|name| (&**name, "BF16")));
/// assert_eq!(patterns, [("layers.{0..31}.norm{1,2}.weight".to_owned(), "BF16")]);
/// assert!(expand(&patterns[0].0).eq(names));
/// ```
pub fn shorten<'a, K: Clone + Eq + Hash>(
    names: impl Iterator<Item = (&'a str, K)>,
) -> Vec<(String, K)> {
    let mut places: HashMap<(String, K), usize> = HashMap::default();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (name, what) in names {
        let mut numbers = Vec::new();
        let template = template(name, |number| {
            if numbers.len() == NUMBERS {
                return Some(number);
            }
            numbers.push(number);
            None
        });
        let place = *places.entry((template, what)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.extend(numbers),
            None => groups.push(numbers),
        }
    }
    let mut templates: Vec<_> = places.into_iter().collect();
    templates.sort_unstable_by_key(|(_, place)| *place);
    let patterns = templates.into_iter().flat_map(|((template, what), place)| {
        let pieces = pieces(&template);
        let slots = pieces.iter().filter(|(_, slot)| slot.is_some()).count();
        let patterns = products(&groups[place], slots).into_iter().map(|row| {
            let mut ranges = row.into_iter();
            let parts = pieces.iter().map(|(text, slot)| {
                let ranges = slot.as_ref().and_then(|_| ranges.next());
                escaped(text).into_owned() + &ranges.unwrap_or_default()
            });
            (parts.collect(), what.clone())
        });
        patterns.collect::<Vec<_>>()
    });
    patterns.collect()
}

/// The names that a pattern of [`shorten`] stands for.
///
/// ```
/// let names = pycandle_checkpoint::expand("layers.{0,2..3}.weight");
/// assert!(names.eq(["layers.0.weight", "layers.2.weight", "layers.3.weight"]));
/// ```
pub fn expand(pattern: &str) -> impl Iterator<Item = String> + use<> {
    let pieces = pieces(pattern).into_iter();
    let pieces: Vec<(String, Vec<String>)> = pieces
        .map(|(text, slot)| {
            (
                text,
                slot.map_or_else(|| vec![String::new()], |slot| listed(&slot)),
            )
        })
        .collect();
    let mut next = Some(vec![0; pieces.len()]);
    std::iter::from_fn(move || {
        let at = next.as_mut()?;
        let parts = pieces.iter().zip(&*at);
        let name = parts.map(|((text, numbers), &nth)| match numbers.get(nth) {
            Some(number) => [text, number.as_str()].concat(),
            None => text.clone(),
        });
        let name = name.collect();
        // The last number that is not at its end counts on, those behind it begin again.
        let counted = pieces.iter().zip(at).rev().any(|((_, numbers), nth)| {
            *nth = (*nth + 1) % numbers.len().max(1);
            *nth > 0
        });
        if !counted {
            next = None;
        }
        Some(name)
    })
}

/// [`shorten`] of names that each have another one: in a pattern for the other, `{}` is the number
/// that the name has in the same place.
///
/// ```
/// use pycandle_checkpoint::{expand_pairs, shorten_pairs};
/// let pairs = [("b.0.w", "a.0.w"), ("b.1.w", "a.1.w"), ("head", "embed")];
/// let short = shorten_pairs(pairs.into_iter());
/// let patterns = [("b.{0,1}.w", "a.{}.w"), ("head", "embed")];
/// assert!(short.iter().map(|(name, other)| (&**name, &**other)).eq(patterns));
/// let (name, other) = expand_pairs(&short[0].0, &short[0].1).nth(1).ok_or("two")?;
/// assert_eq!((&*name, &*other), pairs[1]);
/// # Ok::<(), &str>(())
/// ```
pub fn shorten_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    shorten(pairs.map(|(name, other)| {
        let numbers = numbers(name);
        let mut place = 0..;
        let other = template(other, |number| {
            let same = place.next().and_then(|place| numbers.get(place));
            (same != Some(&number)).then_some(number)
        });
        (name, other)
    }))
}

/// The pairs that a pattern of [`shorten_pairs`] stands for.
///
/// ```
/// let pairs = pycandle_checkpoint::expand_pairs("h.{0,1}.w", "layers.{}.w");
/// assert!(pairs.map(|(_, other)| other).eq(["layers.0.w", "layers.1.w"]));
/// ```
pub fn expand_pairs(name: &str, other: &str) -> impl Iterator<Item = (String, String)> + use<> {
    let pieces = pieces(other);
    expand(name).map(move |name| {
        let of_name = numbers(&name);
        // A number of the other's own takes its place as well.
        let mut place = 0;
        let parts = pieces.iter().map(|(text, slot)| {
            place += numbers(text).len();
            let number = slot
                .as_ref()
                .and_then(|_| of_name.get(place))
                .map(u32::to_string);
            place += usize::from(slot.is_some());
            [text.as_str(), &number.unwrap_or_default()].concat()
        });
        let other = parts.collect();
        (name, other)
    })
}

/// The numbers in a name.
fn numbers(name: &str) -> Vec<u32> {
    runs(name).filter_map(|(_, number)| number).collect()
}

/// The name with what `show` gives for its numbers, `{}` for none, and braces doubled.
fn template(name: &str, mut show: impl FnMut(u32) -> Option<u32>) -> String {
    let mut template = String::with_capacity(name.len());
    for (text, number) in runs(name) {
        match number.map(&mut show) {
            Some(None) => template.push_str("{}"),
            _ => template.push_str(&escaped(text)),
        }
    }
    template
}

/// Digits and what is between them, by turns; digits that are written as numbers are with theirs.
pub(crate) fn runs(name: &str) -> impl Iterator<Item = (&str, Option<u32>)> {
    let bytes = name.as_bytes();
    let runs = bytes.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    runs.map(|run| {
        // Digits are characters of one byte, so what is between them is whole characters.
        let text = std::str::from_utf8(run).unwrap_or_default();
        let digits = text.starts_with(|c: char| c.is_ascii_digit());
        let padded = text.len() > 1 && text.starts_with('0');
        let number = (digits && !padded).then(|| text.parse().ok());
        (text, number.flatten())
    })
}

fn escaped(text: &str) -> Cow<'_, str> {
    match text.contains(['{', '}']) {
        true => text.replace('{', "{{").replace('}', "}}").into(),
        false => text.into(),
    }
}

/// The parts of a pattern: a text, and what stands in braces behind it.
fn pieces(pattern: &str) -> Vec<(String, Option<String>)> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        rest = match (after.strip_prefix(brace), after.split_once('}')) {
            (None, Some((slot, after))) if brace == "{" => {
                pieces.push((std::mem::take(&mut text), Some(slot.to_owned())));
                after
            }
            (escaped, _) => {
                text.push_str(brace);
                escaped.unwrap_or(after)
            }
        };
    }
    text.push_str(rest);
    pieces.push((text, None));
    pieces
}

/// Rows of so many numbers, one after another, as products of ranges: one text per column.
pub(crate) fn products(numbers: &[u32], width: usize) -> Vec<Vec<String>> {
    let count = numbers.len().checked_div(width).unwrap_or(1);
    // Names are counted in 32 bits.
    let mut rows: Vec<u32> = (0..count as u32).collect();
    let row = |row: u32| &numbers[row as usize * width..][..width];
    rows.sort_unstable_by_key(|&number| row(number));
    rows.dedup_by_key(|number| row(*number));
    let all = Tails {
        numbers,
        width,
        rows: &rows,
        column: 0,
    };
    all.products()
}

/// Some of the rows, from a column on; as they may be many, they are compared where they lie.
#[derive(Clone, Copy)]
struct Tails<'a> {
    numbers: &'a [u32],
    width: usize,
    rows: &'a [u32],
    column: usize,
}

impl<'a> Tails<'a> {
    fn row(self, row: u32) -> &'a [u32] {
        &self.numbers[row as usize * self.width..][self.column..self.width]
    }

    fn iter(self) -> impl Iterator<Item = &'a [u32]> {
        self.rows.iter().map(move |&row| self.row(row))
    }

    /// Of sorted rows.
    fn products(self) -> Vec<Vec<String>> {
        let first = |row: u32| self.row(row)[0];
        match self.width - self.column {
            0 => return vec![Vec::new()],
            1 => return vec![vec![ranges(self.rows.iter().map(|&row| first(row)))]],
            _ => {}
        }
        // Numbers of the first column that have the same rows behind them are one range.
        let mut by_tail: BTreeMap<Tails<'a>, Vec<u32>> = BTreeMap::new();
        for rows in self.rows.chunk_by(|&a, &b| first(a) == first(b)) {
            let behind = Self {
                rows,
                column: self.column + 1,
                ..self
            };
            by_tail.entry(behind).or_default().push(first(rows[0]));
        }
        let mut groups: Vec<_> = by_tail.into_iter().map(|(tails, n)| (n, tails)).collect();
        groups.sort_unstable();
        let mut all = Vec::new();
        for (numbers, tails) in groups {
            for tail in tails.products() {
                let mut row = vec![ranges(numbers.iter().copied())];
                row.extend(tail);
                all.push(row);
            }
        }
        all
    }
}

impl Ord for Tails<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Tails<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Tails<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Tails<'_> {}

/// Ascending numbers as `3`, `{0..15}` or `{0..3,7}`.
fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    if let [(only, last)] = &*runs
        && only == last
    {
        return only.to_string();
    }
    let runs = runs.iter().map(|&(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}..{last}"),
    });
    format!("{{{}}}", runs.collect::<Vec<_>>().join(","))
}

/// The numbers of ranges, as `0..3,7` has five.
fn listed(ranges: &str) -> Vec<String> {
    let runs = ranges.split(',').filter_map(|run| {
        let (first, last) = run.split_once("..").unwrap_or((run, run));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    runs.flatten().map(|number| number.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(names: &[&str], patterns: &[&str]) {
        let short = shorten(names.iter().map(|name| (*name, ())));
        let short: Vec<&str> = short.iter().map(|(pattern, ())| &**pattern).collect();
        assert_eq!(short, patterns);
        let mut expanded: Vec<_> = short.into_iter().flat_map(expand).collect();
        let mut names = names.to_vec();
        expanded.sort();
        names.sort();
        assert_eq!(expanded, names);
    }

    #[test]
    fn names_are_patterns_and_back() {
        check(&[], &[]);
        check(&["", "a", "a.b"], &["", "a", "a.b"]);
        check(&["a.3"], &["a.3"]);
        check(&["a.0.x", "a.1.x", "a.7.x"], &["a.{0,1,7}.x"]);
        check(&["s1.b0", "s1.b1", "s2.b0", "s2.b1"], &["s{1,2}.b{0,1}"]);
        check(&["s1.b0", "s1.b1", "s2.b0"], &["s1.b{0,1}", "s2.b0"]);
        check(
            &["a.07", "a.7", "a.99999999999"],
            &["a.07", "a.7", "a.99999999999"],
        );
        check(
            &["{}.1", "{}.2", "}{", "{0..3}"],
            &["{{}}.{1,2}", "}}{{", "{{0..3}}"],
        );
        check(&["ä1", "ä2"], &["ä{1,2}"]);
    }

    #[test]
    fn the_length_does_not_grow_with_depth() {
        for layers in [1, 2, 100] {
            let names = (0..layers).flat_map(|layer| {
                let parts = (0..100).flat_map(|e| ["a.w", "b.w"].map(|part| (e, part)));
                parts.map(move |(e, part)| format!("l.{layer}.e.{e}.{part}"))
            });
            let names: Vec<String> = names.collect();
            let patterns = shorten(names.iter().map(|name| (&**name, ())));
            assert_eq!(patterns.len(), 2);
            let twins = names.iter().map(|name| (&**name, "l.0.e.0.a.w"));
            // One number after the other can be that of the twin.
            assert!(shorten_pairs(twins).len() <= 8);
        }
    }

    #[test]
    fn what_is_no_pattern_is_a_name() {
        for odd in ["{", "}", "a{", "a}b", "{{{"] {
            assert_eq!(expand(odd).count(), 1, "{odd}");
        }
        assert_eq!(expand("{x}").count(), 1);
        assert_eq!(expand("a.{3..1}.b").collect::<Vec<_>>(), ["a..b"]);
    }

    #[test]
    fn names_of_many_numbers_are_no_deep_recursion() {
        let names = [1, 2].map(|last| format!("{}{last}", "0.".repeat(100_000)));
        let pairs = || names.iter().map(|name| (&**name, &**name));
        let short = shorten_pairs(pairs());
        assert_eq!(short.len(), 2);
        let back = short.iter().flat_map(|(a, b)| expand_pairs(a, b));
        assert!(back.eq(pairs().map(|(a, b)| (a.to_owned(), b.to_owned()))));
    }

    proptest! {
        #[test]
        fn everything_comes_back(
            pairs in prop::collection::btree_map("[ab{}.0-3ö]{0,6}", "[ab{}.0-3ö]{0,6}", 0..60),
        ) {
            let short = shorten_pairs(pairs.iter().map(|(a, b)| (&**a, &**b)));
            let back: Vec<_> = short.iter().flat_map(|(a, b)| expand_pairs(a, b)).collect();
            prop_assert_eq!(back.len(), pairs.len());
            prop_assert_eq!(back.into_iter().collect::<BTreeMap<_, _>>(), pairs);
        }
    }
}
