//! The name that was probably meant.

/// Longer names are compared by nothing: no key that a person typed is.
const MAX_LENGTH: usize = 256;

/// The candidate nearest to `name`, if one is near: at most a third of the name differs.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    candidates
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (distance(name.as_bytes(), candidate.as_bytes()), candidate))
        .min()
        .filter(|&(distance, _)| distance * 3 <= name.len())
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
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
        let keys = ["layer.weight", "norm.weight", "layer.bias"];
        assert_eq!(
            nearest("layers.weight", keys.into_iter()),
            Some("layer.weight")
        );
        assert_eq!(nearest("embed_tokens.table", keys.into_iter()), None);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
