//! Many keys shown as few: `model.layers.{16..31}.* (9 keys each)`.

use std::collections::{BTreeMap, BTreeSet};

/// A key split at its first numeric part: what comes before, the number, what comes after.
pub(super) fn split(key: &str) -> Option<(&str, usize, &str)> {
    let mut start = 0;
    for part in key.split('.') {
        let end = start + part.len();
        if start > 0
            && part.bytes().all(|b| b.is_ascii_digit())
            && let Ok(number) = part.parse()
        {
            return Some((
                &key[..start - 1],
                number,
                key[end..].trim_start_matches('.'),
            ));
        }
        start = end + 1;
    }
    None
}

/// Keys as few lines; `all` are the keys of the trace, by which a whole layer is known.
pub(super) fn summary<'a>(keys: &[&'a str], all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let layers = by_layer(keys.iter().copied());
    let whole = by_layer(all);
    let mut rest: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (prefix, numbers) in &layers {
        let mut complete: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, suffixes) in numbers {
            let is_whole = whole.get(prefix).and_then(|n| n.get(number)) == Some(suffixes);
            if is_whole && suffixes.len() > 1 {
                complete.entry(suffixes.len()).or_default().push(*number);
            } else {
                for suffix in suffixes {
                    rest.entry((prefix, suffix)).or_default().push(*number);
                }
            }
        }
        for (count, numbers) in complete {
            let each = if numbers.len() == 1 { "" } else { " each" };
            lines.push(format!(
                "{prefix}.{}.* ({count} keys{each})",
                ranges(&numbers)
            ));
        }
    }
    for ((prefix, suffix), numbers) in rest {
        lines.push(key_of(prefix, &numbers, suffix));
    }
    lines.extend(
        keys.iter()
            .filter(|key| split(key).is_none())
            .map(|&key| key.to_owned()),
    );
    lines
}

/// `prefix.{0..3}.suffix`.
pub(super) fn key_of(prefix: &str, numbers: &[usize], suffix: &str) -> String {
    let dot = if suffix.is_empty() { "" } else { "." };
    format!("{prefix}.{}{dot}{suffix}", ranges(numbers))
}

fn by_layer<'a>(
    keys: impl Iterator<Item = &'a str>,
) -> BTreeMap<&'a str, BTreeMap<usize, BTreeSet<&'a str>>> {
    let mut layers: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
    for (prefix, number, suffix) in keys.filter_map(split) {
        layers
            .entry(prefix)
            .or_default()
            .entry(number)
            .or_default()
            .insert(suffix);
    }
    layers
}

/// Ascending numbers as `3`, `{0..15}` or `{0..3,7}`.
fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[&str], all: &[&str], expected: &[&str]) {
        assert_eq!(summary(keys, all.iter().copied()), expected);
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
            &["l.{0..2}.a", "head"],
        );
    }

    #[test]
    fn odd_keys_stay_as_they_are() {
        check(
            &["0.weight", "a..b", "x.99999999999999999999999.w"],
            &[],
            &["0.weight", "a..b", "x.99999999999999999999999.w"],
        );
        check(&["a.3"], &["a.3"], &["a.3"]);
        check(&["a.0.w", "a.2.w"], &[], &["a.{0,2}.w"]);
    }
}
