//! Tensors that are one in the trace, of which the file has another.

use super::renamed::{Without, applied};
use super::*;

/// A twin stands for what is absent, not for what is there by another name.
#[test]
fn a_tied_tensor_by_another_name_is_not_dropped() {
    let params = llama(2);
    let mut needs = needs(&params);
    let head = needs.len() - 1;
    needs[head].tied_to = Some(0);
    let with = |rules: Option<&dyn Rules>, embedding: &str| {
        let file = super::renamed(&params, |name| {
            name.replace("model.embed_tokens.weight", embedding)
        });
        let expected = Expected {
            needs: &needs,
            rules,
            ..Expected::DEFAULT
        };
        validate(&expected, &checkpoint(&tensors(&file)))
    };
    let rules: &dyn Rules = &Without("other.");
    let said = |embedding: &str| with(Some(rules), embedding);
    for (embedding, rule) in [
        ("model.embed_token.weight", r"^model\.embed_token\.weight$"),
        ("embed_tokens.weight", r"^embed_tokens\.weight$"),
        (
            "module.model.embed_tokens.weight",
            r"^module\.model\.embed_tokens\.weight$",
        ),
        (
            "model.embed_tokens.base_layer.weight",
            r"^model\.embed_tokens\.base_layer\.weight$",
        ),
    ] {
        let mismatch = said(embedding).expect_err("a name");
        assert_eq!(mismatch.findings().len(), 1, "{mismatch}");
        let lines = &mismatch.findings()[0].lines;
        assert_eq!(
            lines[0].text,
            format!(
                "renamed: model.embed_tokens.weight is absent, and may be called {embedding} in the \
                 checkpoint; lm_head.weight, to which it is tied in the trace, would stand for it: if \
                 so, add"
            )
        );
        assert_eq!(lines[0].renames[0].pattern, rule);
        assert_eq!(applied(&mismatch, embedding), "model.embed_tokens.weight");
    }
    // Where no rule can say that it is another tensor, it is no more than a warning.
    let validated = with(None, "model.embed_token.weight").expect("a twin");
    assert!(
        validated.warnings[0].starts_with("unused: model.embed_tokens.weight is absent, and may"),
        "{validated:?}"
    );
    // The tensor of another layer is not the one, nor is that of a whole second model.
    for name in ["ema.model.embed_tokens.weight", "ema.lm_head.weight"] {
        let validated = said(name).expect("a twin");
        assert_eq!(validated.warnings, [""; 0], "{name}");
    }
    // Of another name there is no telling.
    let validated = said("transformer.wte.weight").expect("a twin");
    assert_eq!(
        validated.warnings,
        [
            "unused: transformer.wte.weight has the shape of model.embed_tokens.weight, which is absent \
             and read from lm_head.weight, to which it is tied in the trace: if it is that, add a `rename`"
        ]
    );
    assert_eq!(validated.notes.len(), 1);
}

/// Layers that share one weight are not all the same key.
#[test]
fn a_tied_layer_is_no_other_layer() {
    let params: Vec<_> = (0..4)
        .map(|layer| (format!("layers.{layer}.w"), vec![4, 4]))
        .collect();
    let mut needs = needs(&params);
    needs[1..]
        .iter_mut()
        .for_each(|need| need.tied_to = Some(0));
    let expected = Expected {
        needs: &needs,
        rules: Some(&Without("other.")),
        ..Expected::DEFAULT
    };
    let said = |keys: &[&str]| {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| ((*key).to_owned(), vec![4, 4]))
            .collect();
        lines(&expected, &checkpoint(&tensors(&keys)))
    };
    // The first is there: what stands beside it is a copy.
    let notes = said(&["layers.0.w", "module.layers.1.w", "module.layers.2.w"]);
    assert!(
        notes.iter().all(|line| line.starts_with("tied: ")) && notes.len() == 3,
        "{notes:?}"
    );
    let notes = said(&["layers.2.w", "module.layers.1.w"]);
    assert!(
        notes.iter().all(|line| line.starts_with("tied: ")),
        "{notes:?}"
    );
    let report = said(&["layers.2.w", "module.layers.0.w"]);
    assert!(
        report[0].starts_with("renamed: layers.0.w is absent, and may be called module.layers.0.w")
    );
}
