use pycandle_checkpoint::{Dtype, Expected, Need, Snapshot, validate};

use super::*;

fn rules(rules: &[(&str, &str)]) -> Vec<RenameRule> {
    let rules = rules.iter();
    let rules = rules.map(|(pattern, replacement)| RenameRule::new(pattern, replacement));
    rules.map(|rule| rule.expect("a rule")).collect()
}

fn needs<'a>(names: &[&'a str]) -> Vec<Need<'a>> {
    let need = |name: &&'a str| Need {
        name: (*name).into(),
        shape: &[1],
        dtype: Dtype::F32,
        tied_to: None,
    };
    names.iter().map(need).collect()
}

fn checkpoint(keys: &[&str]) -> Checkpoint {
    let mut snapshot = Snapshot::default();
    for key in keys {
        snapshot.tensor(key, Dtype::F32, &[1]).expect("a new key");
    }
    snapshot.into_checkpoint("w".as_ref(), "w".as_ref())
}

/// Resolves rules over keys, holds the templates to what the rules say, and shows them.
#[track_caller]
fn check(given: &[(&str, &str)], names: &[&str], keys: &[&str], expected: &[(&str, &str)]) {
    let rules = rules(given);
    let needs = needs(names);
    let resolved =
        resolve(&rules, &needs, &checkpoint(keys), Syntax::Attribute).expect("no collision");
    let renames = resolved.renames.iter();
    let renames: Vec<_> = renames.map(|(need, key)| (&**need, &**key)).collect();
    let templates = Names::new(&renames);
    for key in keys {
        let name = rules
            .iter()
            .fold((*key).to_owned(), |name, rule| rule.apply(&name));
        if names.contains(&&*name) {
            let found = templates.key(&name).unwrap_or_else(|| name.clone());
            assert_eq!(&found, key, "{renames:?}");
        }
    }
    assert_eq!(renames, expected);
}

#[test]
fn rules_apply_in_order_each_to_what_the_one_before_made() {
    check(
        &[("^a", "b"), ("^b", "c"), ("^a", "d")],
        &["c.w"],
        &["a.w"],
        &[("c.w", "a.w")],
    );
    check(&[("x", "y")], &["y.y"], &["x.x"], &[("y.y", "x.x")]);
}

#[test]
fn layers_are_one_template() {
    check(
        &[(r"^transformer\.h\.(\d+)", "model.layers.${1}")],
        &[
            "model.layers.0.w",
            "model.layers.1.w",
            "model.layers.2.w",
            "head",
        ],
        &[
            "transformer.h.0.w",
            "transformer.h.1.w",
            "transformer.h.2.w",
            "head",
        ],
        &[("model.layers.*.w", "transformer.h.*.w")],
    );
    // Two numbers, the later first.
    check(
        &[(r"^e(\d+)\.", "experts.$1.")],
        &["experts.3.1.w", "experts.12.0.w"],
        &["e3.1.w", "e12.0.w"],
        &[("experts.12.0.w", "e12.0.w"), ("experts.3.1.w", "e3.1.w")],
    );
}

/// Three layers of names in which `*` is the number.
fn layers(names: &[&str]) -> Vec<String> {
    let of = |l: u32| {
        names
            .iter()
            .map(move |name| name.replace('*', &l.to_string()))
    };
    (0..3).flat_map(of).collect()
}

#[test]
fn numbers_that_belong_to_one_side_only_stay_in_the_template() {
    let plain = layers(&["layers.*.up.w", "layers.*.down.w"]);
    let numbered = layers(&["h.*.mlp.1.w", "h.*.mlp.2.w"]);
    let plain: Vec<&str> = plain.iter().map(|name| &**name).collect();
    let numbered: Vec<&str> = numbered.iter().map(|name| &**name).collect();
    check(
        &[
            (r"^h\.(\d+)\.mlp\.1", "layers.$1.up"),
            (r"^h\.(\d+)\.mlp\.2", "layers.$1.down"),
        ],
        &plain,
        &numbered,
        &[
            ("layers.*.down.w", "h.*.mlp.2.w"),
            ("layers.*.up.w", "h.*.mlp.1.w"),
        ],
    );
    check(
        &[
            (r"^layers\.(\d+)\.up", "h.$1.mlp.1"),
            (r"^layers\.(\d+)\.down", "h.$1.mlp.2"),
        ],
        &numbered,
        &plain,
        &[
            ("h.*.mlp.1.w", "layers.*.up.w"),
            ("h.*.mlp.2.w", "layers.*.down.w"),
        ],
    );
}

#[test]
fn what_no_template_says_is_a_pair() {
    check(
        &[(r"^layers\.1\.", "layers.2."), (r"^last\.", "layers.1.")],
        &["layers.0.w", "layers.1.w", "layers.2.w"],
        &["layers.0.w", "last.w", "layers.1.w"],
        &[("layers.1.w", "last.w"), ("layers.2.w", "layers.1.w")],
    );
}

#[test]
fn a_weight_in_parts_is_renamed_as_if_it_were_whole() {
    check(
        &[("^a", "b")],
        &["b.0.weight"],
        &["a.0.qweight", "a.0.qzeros", "a.0.scales"],
        &[("b.*.weight", "a.*.weight")],
    );
}

#[test]
fn collisions_in_all_layers_are_one_line() {
    let keys: Vec<String> = (0..40)
        .flat_map(|layer| ["a", "b"].map(|part| format!("l.{layer}.{part}.w")))
        .collect();
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let lines = resolve(
        &rules(&[(r"\.[ab]\.", ".c."), ("x", "y")]),
        &[],
        &checkpoint(&keys),
        Syntax::Attribute,
    );
    assert_eq!(
        lines.expect_err("one name")[3..],
        [
            r#"rename: l.0.a.w and l.0.b.w both become l.0.c.w, by ("\\.[ab]\\.", ".c."); 39 other names in the same way"#
        ]
    );
}

#[test]
fn two_keys_that_become_one_are_an_error() {
    let lines = resolve(
        &rules(&[("[ab]", "c")]),
        &[],
        &checkpoint(&["a", "b", "d"]),
        Syntax::Attribute,
    );
    let lines = lines.expect_err("one name");
    let head = ["rename rules make one name of several keys", "--> w", ""];
    assert_eq!(lines[..3], head);
    assert_eq!(
        lines[3..],
        [r#"rename: a and b both become c, by ("[ab]", "c")"#]
    );
    // One of them is there as it was; a name that moved away is free.
    let lines = resolve(
        &rules(&[("a", "b")]),
        &[],
        &checkpoint(&["a", "b"]),
        Syntax::Attribute,
    );
    let lines = lines.expect_err("one name");
    assert_eq!(
        lines[3..],
        [r#"rename: a and b both become b, by ("a", "b")"#]
    );
    // Names of a file are anyone's text.
    let lines = resolve(
        &rules(&[("(?s)^[xy].*$", "z")]),
        &[],
        &checkpoint(&["x\u{1b}[2J", "y\nerror: forged"]),
        Syntax::Options,
    );
    assert_eq!(
        lines.expect_err("one name")[3..],
        [r"rename: x\u{1b}[2J and y\nerror: forged both become z, by --rename '(?s)^[xy].*$=z'"]
    );
    let swapped = resolve(
        &rules(&[("^b$", "c"), ("^a$", "b")]),
        &[],
        &checkpoint(&["a", "b"]),
        Syntax::Attribute,
    );
    assert!(swapped.is_ok());
    let keys: Vec<String> = (0..40)
        .map(|i| format!("{}{i}", if i < 20 { "" } else { "x." }))
        .collect();
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let lines = resolve(
        &rules(&[("^.*$", "same")]),
        &[],
        &checkpoint(&keys),
        Syntax::Attribute,
    )
    .expect_err("one name");
    let said = r#"rename: 0, 1 and 38 more all become same, by ("^.*$", "same")"#;
    assert_eq!(lines[3..], [said]);
}

#[test]
fn a_rule_that_matches_nothing_is_a_warning() {
    let rules = rules(&[("a", "b"), (r"x\.", "")]);
    let resolved = resolve(&rules, &[], &checkpoint(&["a"]), Syntax::Attribute);
    let matched = resolved.expect("no collision").matched;
    let expected = r#"the rename ("x\\.", "") matches no key of the checkpoint"#;
    assert_eq!(idle(&rules, &matched, None, Syntax::Attribute), [expected]);
}

/// What fits under its own name needs no rule, and one that is mistyped would stay unseen.
#[test]
fn a_rule_that_nothing_is_read_by_is_a_warning() {
    let (names, keys) = (needs(&["a.q", "a.k"]), checkpoint(&["a.q", "a.kk"]));
    let rules = rules(&[(r"\.q$", ".typo"), ("kk", "l"), ("l", "k"), ("k", "k")]);
    let resolved = resolve(&rules, &names, &keys, Syntax::Options).expect("no collision");
    let expected = Expected {
        needs: &names,
        renames: &crate::checkpoint::pairs(&resolved.renames),
        ..Expected::DEFAULT
    };
    let validated = validate(&expected, &keys).expect("a match");
    let said = |fits| idle(&rules, &resolved.matched, fits, Syntax::Options);
    let why = "changes no key that the model is read from";
    assert_eq!(
        said(Some((&validated, &keys))),
        [
            format!(r"the rename --rename '\.q$=.typo' {why}"),
            format!("the rename --rename 'k=k' {why}"),
        ]
    );
    // Of what does not fit there is no telling.
    assert_eq!(said(None), [""; 0]);
}

#[test]
fn a_rule_that_makes_room_for_another_is_of_use() {
    let (names, keys) = (needs(&["head"]), checkpoint(&["net.head", "head"]));
    let rules = rules(&[("^head", "old"), (r"^net\.", "")]);
    let resolved = resolve(&rules, &names, &keys, Syntax::Options).expect("no collision");
    let expected = Expected {
        needs: &names,
        renames: &crate::checkpoint::pairs(&resolved.renames),
        ..Expected::DEFAULT
    };
    let validated = validate(&expected, &keys).expect("a match");
    let fits = Some((&validated, &keys));
    assert_eq!(
        idle(&rules, &resolved.matched, fits, Syntax::Options),
        [""; 0]
    );
}

#[test]
fn rules_that_are_none_say_why() {
    for (pattern, replacement, expected) in [
        ("(", "", "`(` is no regular expression: unclosed group"),
        (
            "(a)",
            "$1_b",
            "`$1_b` names a group `1_b`, which `(a)` does not have: write `${1}` for group 1",
        ),
        (
            "a",
            "$b",
            "`$b` names a group `b`, which `a` does not have: write `$$` for a dollar sign",
        ),
        (
            "(a)",
            "${2}",
            "`${2}` names a group `2`, which `(a)` does not have: groups count from 1",
        ),
    ] {
        assert_eq!(
            RenameRule::new(pattern, replacement).err().as_deref(),
            Some(expected)
        );
    }
    // As the crate says where no other package of a build asks it for more of Unicode.
    for (said, expected) in [
        (
            "regex parse error:\n    (?i)q\n        ^\nerror: Unicode-aware case insensitivity matching \
             is not available (make sure the unicode-case feature is enabled)",
            "write `(?i-u)` for `(?i)`, of ASCII letters",
        ),
        (
            "regex parse error:\n    \\p{L}\n    ^^^^^\nerror: Unicode property not found",
            r"no classes `\p{…}` of Unicode are known here, write the characters in brackets",
        ),
    ] {
        assert_eq!(why(said), expected);
    }
    let either = RenameRule::new("(?i-u)ln", "norm").expect("a rule");
    assert_eq!(either.apply("LN.weight"), "norm.weight");
    for (pattern, replacement) in [("(?<n>a)", "${n}$n$0"), ("a", "$$b$"), ("a", "${")] {
        assert!(
            RenameRule::new(pattern, replacement).is_ok(),
            "{replacement}"
        );
    }
}
