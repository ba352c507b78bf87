//! How near two names are.

/// Longer names are compared by nothing: no key that a person typed is.
const MAX_LENGTH: usize = 256;

/// How many letters two names differ in, if they are near: at most a third of the first.
pub(super) fn distance(name: &str, other: &str) -> Option<usize> {
    if name.len().max(other.len()) > MAX_LENGTH {
        return None;
    }
    let distance = letters(name.as_bytes(), other.as_bytes());
    (distance * 3 <= name.len()).then_some(distance)
}

/// Levenshtein distance.
fn letters(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_slip_but_no_stranger() {
        assert_eq!(distance("layers.weight", "layer.weight"), Some(1));
        assert_eq!(distance("layers.weight", "norm.weight"), None);
        assert_eq!(distance("kitten", "sitting"), None);
        assert_eq!(letters(b"kitten", b"sitting"), 3);
        assert_eq!(distance(&"a".repeat(300), &"a".repeat(300)), None);
    }
}
