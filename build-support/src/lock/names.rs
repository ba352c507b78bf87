//! Many names as few: `model.layers.{0..31}.mlp.up_proj.weight` stands for 32 of them, and for
//! nothing else.
//!
//! A part between dots that is a number becomes a set, where tensors agree in everything else.
//! `{0..7}` counts, `{3..47..4}` counts in steps, `{0,2,5..9}` is a list of both; several sets in a
//! name stand for every combination. A brace of the name itself is written twice.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Numbers of a name that become sets; names of models have three at most, those of hostile files as
/// many as there is room for.
const NUMBERS: usize = 16;

/// Names with what is said of each, as patterns with what is said of all they stand for; sorted.
pub(crate) fn patterns<'a, T: Ord + Clone>(
    tensors: impl IntoIterator<Item = (&'a str, T)>,
) -> Vec<(String, T)> {
    let mut groups: BTreeMap<(String, T), Vec<Vec<u32>>> = BTreeMap::new();
    for (name, said) in tensors {
        let (template, numbers) = template(name);
        groups.entry((template, said)).or_default().push(numbers);
    }
    let mut lines = Vec::new();
    for ((template, said), mut numbers) in groups {
        numbers.sort_unstable();
        let numbers: Vec<&[u32]> = numbers.iter().map(|numbers| &**numbers).collect();
        for sets in products(&numbers) {
            lines.push((fill(&template, &sets), said.clone()));
        }
    }
    lines.sort();
    lines
}

/// The name with `{}` for each number in it, and the numbers.
fn template(name: &str) -> (String, Vec<u32>) {
    let (mut template, mut numbers) = (String::with_capacity(name.len()), Vec::new());
    for (i, part) in name.split('.').enumerate() {
        if i > 0 {
            template.push('.');
        }
        match number(part).filter(|_| numbers.len() < NUMBERS) {
            Some(number) => {
                template.push_str("{}");
                numbers.push(number);
            }
            None => {
                for c in part.chars() {
                    let twice = matches!(c, '{' | '}');
                    template.extend(std::iter::repeat_n(c, 1 + usize::from(twice)));
                }
            }
        }
    }
    (template, numbers)
}

/// A number that is written in one way only.
fn number(part: &str) -> Option<u32> {
    let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
    part.parse().ok().filter(|_| plain)
}

/// Sorted tuples of equal length as products of sets: each tuple is in exactly one of them.
fn products(tuples: &[&[u32]]) -> Vec<Vec<Vec<u32>>> {
    if tuples.first().is_none_or(|tuple| tuple.is_empty()) {
        return vec![Vec::new()];
    }
    // What follows a first number, as products → the first numbers that it follows.
    let mut firsts: BTreeMap<Vec<Vec<u32>>, Vec<u32>> = BTreeMap::new();
    for same in tuples.chunk_by(|a, b| a[0] == b[0]) {
        let rest: Vec<&[u32]> = same.iter().map(|tuple| &tuple[1..]).collect();
        for product in products(&rest) {
            firsts.entry(product).or_default().push(same[0][0]);
        }
    }
    let join = |(rest, first): (Vec<Vec<u32>>, Vec<u32>)| {
        std::iter::once(first).chain(rest).collect::<Vec<_>>()
    };
    firsts.into_iter().map(join).collect()
}

/// Puts the sets into the holes of the template.
fn fill(template: &str, sets: &[Vec<u32>]) -> String {
    let (mut out, mut sets) = (String::with_capacity(template.len() + 8), sets.iter());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        match &rest[at..at + 2] {
            "{}" => write_set(&mut out, sets.next().map_or(&[], |set| set)),
            twice => out.push_str(twice),
        }
        rest = &rest[at + 2..];
    }
    out + rest
}

pub(super) fn write_set(out: &mut String, set: &[u32]) {
    if let [only] = set {
        let _ = write!(out, "{only}");
        return;
    }
    out.push('{');
    if let [first, second, .., last] = *set
        && second - first > 1
        && set
            .windows(2)
            .all(|pair| pair[1] - pair[0] == second - first)
    {
        let _ = write!(out, "{first}..{last}..{}", second - first);
    } else {
        let runs = set.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        for (i, run) in runs.enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let _ = match *run {
                [first, _, .., last] if last - first > 1 => write!(out, "{comma}{first}..{last}"),
                [first, last] => write!(out, "{comma}{first},{last}"),
                _ => write!(out, "{comma}{}", run[0]),
            };
        }
    }
    out.push('}');
}

/// A pattern, taken apart: text, and between its parts the numbers of each set.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// One more than there are sets.
    texts: Vec<String>,
    sets: Vec<Vec<(u32, u32, u32)>>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence about what is not a pattern in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut texts, mut sets) = (vec![String::new()], Vec::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let literal = texts.last_mut().ok_or("no text")?;
            literal.push_str(&rest[..at]);
            if rest[at..].starts_with("{{") || rest[at..].starts_with("}}") {
                literal.push_str(&rest[at..=at]);
                rest = &rest[at + 2..];
                continue;
            }
            let inner = rest[at..]
                .strip_prefix('{')
                .and_then(|set| set.split_once('}'));
            let Some((inner, after)) = inner else {
                return Err("has a lone brace: a set is `{0..7}`, a brace is written twice".into());
            };
            if sets.len() == NUMBERS {
                return Err(format!("has more than {NUMBERS} sets"));
            }
            sets.push(set(inner)?);
            texts.push(String::new());
            rest = after;
        }
        if let Some(literal) = texts.last_mut() {
            literal.push_str(rest);
        }
        Ok(Self { texts, sets })
    }

    /// How many names it stands for; `None` when 64 bits do not count them.
    pub fn count(&self) -> Option<u64> {
        let size = |set: &Vec<(u32, u32, u32)>| -> u64 {
            let items = set.iter();
            items
                .map(|&(first, last, step)| u64::from((last - first) / step) + 1)
                .sum()
        };
        self.sets
            .iter()
            .try_fold(1u64, |n, set| n.checked_mul(size(set)))
    }

    /// Calls `each` with every name, which has to be few enough.
    pub fn expand<E>(&self, mut each: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        self.expand_from(0, &mut String::new(), &mut each)
    }

    fn expand_from<E>(
        &self,
        from: usize,
        name: &mut String,
        each: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = name.len();
        name.push_str(&self.texts[from]);
        let Some(set) = self.sets.get(from) else {
            each(name)?;
            name.truncate(before);
            return Ok(());
        };
        let at = name.len();
        for &(first, last, step) in set {
            for number in (first..=last).step_by(step as usize) {
                let _ = write!(name, "{number}");
                self.expand_from(from + 1, name, each)?;
                name.truncate(at);
            }
        }
        name.truncate(before);
        Ok(())
    }
}

/// What stands between braces, as first, last and step of each item; ascending.
fn set(text: &str) -> Result<Vec<(u32, u32, u32)>, String> {
    let wrong = || format!("has `{{{text}}}`, which is no set of ascending numbers");
    let mut items: Vec<(u32, u32, u32)> = Vec::new();
    for item in text.split(',') {
        let mut parts = item.split("..").map(|part| number(part).ok_or_else(wrong));
        let first = parts.next().ok_or_else(wrong)??;
        let last = parts.next().unwrap_or(Ok(first))?;
        let step = parts.next().unwrap_or(Ok(1))?;
        let ascends = items.last().is_none_or(|&(_, last, _)| first > last);
        if parts.next().is_some() || first > last || step == 0 || !ascends {
            return Err(wrong());
        }
        items.push((first, last, step));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(pattern: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let pattern = Pattern::parse(pattern)?;
        pattern.expand(|name| {
            names.push(name.to_owned());
            Ok::<(), String>(())
        })?;
        assert_eq!(pattern.count(), Some(names.len() as u64));
        Ok(names)
    }

    #[track_caller]
    fn check(names: &[&str], expected: &[&str]) {
        let found = patterns(names.iter().map(|&name| (name, ())));
        let found: Vec<_> = found.iter().map(|(pattern, ())| pattern.as_str()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn equal_layers_are_one_line() {
        check(
            &["a.0.w", "a.1.w", "a.2.w", "head"],
            &["a.{0..2}.w", "head"],
        );
        check(&["a.3.w", "a.7.w", "a.11.w"], &["a.{3..11..4}.w"]);
        check(&["a.0", "a.1", "a.5", "a.6", "a.7"], &["a.{0,1,5..7}"]);
        check(
            &["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1", "a.2.b.0"],
            &["a.2.b.0", "a.{0,1}.b.{0,1}"],
        );
        check(
            &["a.07", "a.{0}", "4294967296", "7"],
            &["4294967296", "7", "a.07", "a.{{0}}"],
        );
        let deep = [0, 1].map(|last| format!("{}{last}", "0.".repeat(100_000)));
        check(&[&deep[0], &deep[1]], &[&deep[0], &deep[1]]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "a.{",
            "a.}",
            "a.{}",
            "a.{1",
            "a.{2..1}",
            "a.{1..5..0}",
            "a.{1,1}",
            "a.{x}",
            "a.{01}",
            "a.{1..2..3..4}",
            "a.{-1..2}",
            "a.{5..7,6}",
            "a.{4294967296}",
        ] {
            assert!(expand(pattern).is_err(), "{pattern}");
        }
        let deep = "{0}".repeat(100_000);
        assert_eq!(expand(&deep), Err("has more than 16 sets".to_owned()));
        let many = "{0..4294967295}".repeat(3);
        assert_eq!(Pattern::parse(&many).map(|p| p.count()), Ok(None));
    }

    proptest! {
        #[test]
        fn patterns_stand_for_the_names_and_no_other(
            names in prop::collection::btree_set("[a{}]?(\\.([a{}0-9é]|1[0-9])){0,4}", 0..60),
        ) {
            let lines = patterns(names.iter().map(|name| (name.as_str(), ())));
            let mut back = Vec::new();
            for (pattern, ()) in &lines {
                back.extend(expand(pattern).map_err(TestCaseError::fail)?);
            }
            back.sort();
            prop_assert_eq!(back, names.into_iter().collect::<Vec<_>>());
        }
    }
}
