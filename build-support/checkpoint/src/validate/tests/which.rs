//! Which tensor is which, where names and twins leave a choice.

use super::*;

/// Names of needs, each with the number of its twin.
fn needs_of(names: &[(&'static str, Option<usize>)]) -> Vec<Need<'static>> {
    let need = |&(name, tied_to): &(&'static str, _)| Need {
        name: name.into(),
        shape: &[2],
        dtype: Dtype::F32,
        tied_to,
    };
    names.iter().map(need).collect()
}

fn file(keys: &[&str], extracted: Option<&str>) -> Checkpoint {
    let mut snapshot = Snapshot::default();
    for key in keys {
        snapshot.tensor(key, Dtype::F32, &[2]).expect("a new name");
    }
    let text = |text: &str| crate::Value::Text(text.into());
    if let Some(trace) = extracted {
        snapshot.metadata("pycandle.manifest", text(trace));
    }
    snapshot.into_checkpoint("m".as_ref(), "m".as_ref())
}

/// The keys in which needs are found; the report where they are not.
fn keys(
    needs: &dyn Needs,
    renames: &[(&str, &str)],
    file: &Checkpoint,
) -> Result<Vec<String>, Vec<String>> {
    let expected = Expected {
        trace: "made/m_manifest.json",
        needs,
        renames,
        ..Expected::DEFAULT
    };
    let Ok(validated) = validate(&expected, file) else {
        return Err(lines(&expected, file));
    };
    let key = |(id, need): (usize, Need<'_>)| {
        let key = validated.source(id).key(file);
        key.unwrap_or(&need.name).to_owned()
    };
    Ok(needs.iter().enumerate().map(key).collect())
}

#[test]
fn a_file_has_its_own_names_or_those_before_the_rules() {
    let needs = needs_of(&[("1.weight", None), ("2.weight", None)]);
    let shift = [("1.weight", "0.weight"), ("2.weight", "1.weight")];
    let found = |names: &[&str], extracted| keys(&needs, &shift, &file(names, extracted));
    let (before, own) = (["0.weight", "1.weight"], ["1.weight", "2.weight"]);
    assert_eq!(found(&before, None).expect("it fits"), before);
    assert_eq!(found(&own, None).expect("it fits"), own);
    // Where both are, the rules were made for it, unless it was written for this trace.
    let both = ["0.weight", "1.weight", "2.weight"];
    assert_eq!(found(&both, None).expect("it fits"), before);
    assert_eq!(found(&both, Some("other.json")).expect("it fits"), before);
    assert_eq!(found(&both, Some("m_manifest.json")).expect("it fits"), own);
    assert_eq!(
        found(&["1.weight"], None).expect_err("one tensor for both"),
        [
            "twice: 1.weight and 2.weight would both be read from one tensor",
            "  some keys are named as the model's, others as before the rename rules, and a name of the \
             one is another tensor's in the other: take a checkpoint with all names of one kind, such as \
             `cargo pycandle extract` writes, or generate the code again with rules for this one",
        ]
    );

    let needs = needs_of(&[("w1", None), ("w3", None)]);
    let swap = [("w1", "w3"), ("w3", "w1")];
    let found = |extracted| keys(&needs, &swap, &file(&["w1", "w3"], extracted)).expect("it fits");
    assert_eq!(found(None), ["w3", "w1"]);
    assert_eq!(found(Some("m_manifest.json")), ["w1", "w3"]);
}

#[test]
fn of_two_sets_of_names_the_one_whose_shapes_fit_is_meant() {
    let mut needs = needs_of(&[("a", None), ("b", None)]);
    needs[0].shape = &[3];
    let mut snapshot = Snapshot::default();
    snapshot.tensor("a", Dtype::F32, &[3]).expect("new");
    snapshot.tensor("b", Dtype::F32, &[2]).expect("new");
    let file = snapshot.into_checkpoint("m".as_ref(), "m".as_ref());
    let found = keys(&needs, &[("a", "b"), ("b", "a")], &file);
    assert_eq!(found.expect("it fits"), ["a", "b"]);
}

#[test]
fn twins_that_are_renamed_need_one_key() {
    let needs = needs_of(&[("embed", None), ("head", Some(0)), ("1", None)]);
    let rules = [("embed", "wte"), ("head", "out"), ("1", "0")];
    let found = |names: &[&str]| keys(&needs, &rules, &file(names, None)).expect("it fits");
    assert_eq!(found(&["wte", "0", "1"]), ["wte", "wte", "0"]);
    assert_eq!(found(&["out", "0", "1"]), ["out", "out", "0"]);
    assert_eq!(found(&["head", "1"]), ["head", "head", "1"]);
    // A twin under the other name is one all the same, and is held against the first.
    assert_eq!(found(&["wte", "head", "0"]), ["wte", "head", "0"]);
}

#[test]
fn twins_of_two_dtypes_are_a_mistake() {
    let mut needs = needs_of(&[("embed", None), ("head", Some(0)), ("h.0.head", Some(0))]);
    for need in &mut needs {
        need.shape = &[256];
    }
    let file = |head: Dtype| {
        let mut snapshot = Snapshot::default();
        for (name, dtype) in [("embed", Dtype::F32), ("head", head), ("h.0.head", head)] {
            snapshot.tensor(name, dtype, &[256]).expect("a new name");
        }
        snapshot.into_checkpoint("m".as_ref(), "m".as_ref())
    };
    assert!(keys(&needs, &[], &file(Dtype::F32)).is_ok());
    // Blocks stand for the same matrix, in whichever type.
    assert!(keys(&needs, &[], &file(Dtype::Q6_K)).is_ok());
    let found = keys(&needs, &[], &file(Dtype::BF16)).expect_err("two dtypes");
    let advice = "  loading reads one of them for both: write the checkpoint with equal ones or with only \
        one of them, or untie them in the model and record it again";
    assert_eq!(
        found,
        [
            "dtype: h.0.head is BF16 and embed is F32, in the trace they are one tensor",
            "dtype: head is BF16 and embed is F32, in the trace they are one tensor",
            advice,
        ]
    );
}
