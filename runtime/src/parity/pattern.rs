//! Patterns over names: equal modules of one list share one pattern.

/// Whether `name` is what `pattern` describes: `*` stands for any text within one dotted segment.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (patterns, names) = (pattern.split('.'), name.split('.'));
    patterns.clone().count() == names.clone().count()
        && patterns.zip(names).all(|(p, n)| segment(p, n))
}

fn segment(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    (0..=rest.len()).any(|i| rest.is_char_boundary(i) && segment(after, &rest[i..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stays_within_a_segment() {
        assert!(matches(
            "model.layers.*.mlp#0.out.0",
            "model.layers.12.mlp#0.out.0"
        ));
        assert!(!matches(
            "model.layers.*.mlp#0.out.0",
            "model.layers.1.x.mlp#0.out.0"
        ));
        assert!(matches("past_*_*", "past_0_key"));
        assert!(!matches("past_*_*", "input_ids"));
    }
}
