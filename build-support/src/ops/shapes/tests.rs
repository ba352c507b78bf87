use super::*;

#[test]
fn rules_are_sorted_and_unique() {
    let mut all: Vec<&str> = Vec::new();
    for family in FAMILIES {
        assert!(family.windows(2).all(|pair| pair[0].0 < pair[1].0));
        all.extend(family.iter().map(|(op, _)| *op));
    }
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn every_supported_op_has_a_rule() {
    let without = crate::ops::supported().filter(|(_, op)| rule(op).is_none());
    let without: Vec<&str> = without.map(|(_, op)| op).collect();
    assert!(without.is_empty(), "no shape rule for {without:?}");
}
