//! What other names may be proposed for what is missing, and what may not.

use super::*;

/// Layers of two projections, two norms and a gate, an embedding and a head.
fn model() -> Vec<(String, Vec<usize>)> {
    let mut params = vec![("model.embed.weight".to_owned(), vec![64, 8])];
    for layer in 0..3 {
        for (part, shape) in [
            ("self_attn.q_proj.weight", vec![8, 8]),
            ("self_attn.q_proj.bias", vec![8]),
            ("mlp.gate_proj.weight", vec![16, 8]),
            ("mlp.up_proj.weight", vec![16, 8]),
            ("input_norm.weight", vec![8]),
            ("post_norm.weight", vec![8]),
        ] {
            params.push((format!("model.layers.{layer}.{part}"), shape));
        }
    }
    params.push(("model.norm.weight".to_owned(), vec![8]));
    params.push(("lm_head.weight".to_owned(), vec![64, 8]));
    params
}

/// Modules of unlike names are never certain, however much fits.
#[test]
fn a_prefix_of_another_name_is_only_a_guess() {
    for (to, rule) in [
        ("draft.", r#"("^draft\\.", "model.")"#),
        ("model.draft.", r#"("^model\\.draft\\.", "model.")"#),
    ] {
        let found = said(&renamed(&model(), |name| name.replace("model.", to)));
        let line = format!(
            "renamed: model.embed.weight may be called {to}embed.weight in the checkpoint, and 19 others \
             in the same way: if so, add rename = [{rule}]"
        );
        has(&found, &line);
        let is_fit = |line: &String| line.starts_with("prefix") || line == "everything else fits";
        assert!(!found.iter().any(is_fit), "{found:#?}");
    }
    // One tensor below one more module may be another head.
    let head = |to: &str| said(&renamed(&model(), |name| name.replace("lm_head", to)));
    let line = "renamed: lm_head.weight may be called draft.lm_head.weight in the checkpoint: if it is no \
                other module's, add a `rename`";
    has(&head("draft.lm_head"), line);
    let line = r#"renamed: lm_head.weight may be called module.lm_head.weight in the checkpoint: if so, add rename = [("^module\\.lm_head\\.weight$", "lm_head.weight")]"#;
    has(&head("module.lm_head"), line);
}

/// The report of the model against this file.
fn said(file: &[(String, Vec<usize>)]) -> Vec<String> {
    let needs = needs(&model());
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    lines(&expected, &checkpoint(&tensors(file)))
}

#[track_caller]
fn has(found: &[String], line: &str) {
    assert!(found.iter().any(|found| found == line), "{found:#?}");
}

#[track_caller]
fn proposes_nothing(found: &[String]) {
    assert!(!found[0].starts_with("checkpoint"), "{found:#?}");
    assert!(
        found.iter().all(|line| !line.contains("rename")),
        "{found:#?}"
    );
}

/// A module of the same shape is not the module that is missing.
#[test]
fn another_module_is_never_proposed() {
    for (from, to) in [
        ("model.norm", "projector.norm"),
        ("lm_head", "value_head"),
        ("lm_head", "medusa.0.lm_head"),
        ("model.layers", "vision.layers"),
        ("model.layers.2", "model.draft.layers.2"),
        (
            "model.layers.1.self_attn.q_proj",
            "model.layers.1.self_attn.k_proj",
        ),
        ("input_norm", "post_layernorm_2"),
    ] {
        let mut found = said(&renamed(&model(), |name| name.replace(from, to)));
        // That there is something beside it may be said.
        found.retain(|line| !line.starts_with("  in place of"));
        proposes_nothing(&found);
        assert!(
            found.iter().all(|line| line != "everything else fits"),
            "{found:#?}"
        );
    }
    // Two parts of one module, beside others that have no counterpart.
    let params = [model(), pooler("pooler")].concat();
    let file = [
        model(),
        pooler("cls.transform"),
        vec![("cls.transform.norm".into(), vec![8])],
    ];
    let needs = needs(&params);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    proposes_nothing(&lines(&expected, &checkpoint(&tensors(&file.concat()))));
}

fn pooler(module: &str) -> Vec<(String, Vec<usize>)> {
    vec![
        (format!("{module}.dense.weight"), vec![8, 8]),
        (format!("{module}.dense.bias"), vec![8]),
    ]
}

#[test]
fn one_part_of_many_names_is_one_rule() {
    for (from, to, line) in [
        (
            "self_attn",
            "self_attn._wrapped",
            r#"renamed: model.layers.0.self_attn.q_proj.weight may be called model.layers.0.self_attn._wrapped.q_proj.weight in the checkpoint, and 5 others in the same way: if so, add rename = [("^model\\.layers\\.(\\d+)\\.self_attn\\._wrapped\\.", "model.layers.${1}.self_attn.")]"#,
        ),
        (
            "self_attn.",
            "",
            r#"renamed: model.layers.0.self_attn.q_proj.weight may be called model.layers.0.q_proj.weight in the checkpoint, and 5 others in the same way: if so, add rename = [("^model\\.layers\\.(\\d+)\\.(q_proj)\\.", "model.layers.${1}.self_attn.${2}.")]"#,
        ),
        (
            "q_proj",
            "q_prj",
            r#"renamed: model.layers.0.self_attn.q_proj.weight may be called model.layers.0.self_attn.q_prj.weight in the checkpoint, and 5 others in the same way: if so, add rename = [("^model\\.layers\\.(\\d+)\\.self_attn\\.q_prj\\.", "model.layers.${1}.self_attn.q_proj.")]"#,
        ),
    ] {
        has(
            &said(&renamed(&model(), |name| name.replace(from, to))),
            line,
        );
    }
    // What is left of the names differs too: a rule for each, in their order.
    let file = renamed(&model(), |name| {
        name.replace("model.layers", "model.encoder.layer")
            .replace("mlp.", "feed.")
    });
    let found = said(&file);
    has(
        &found,
        r#"renamed: model.layers.0.self_attn.q_proj.weight may be called model.encoder.layer.0.self_attn.q_proj.weight in the checkpoint, and 11 others in the same way"#,
    );
    has(
        &found,
        r#"renamed: model.layers.0.mlp.gate_proj.weight may be called model.encoder.layer.0.feed.gate_proj.weight in the checkpoint, and 5 others in the same way"#,
    );
    has(
        &found,
        r#"  if so, add rename = [("^model\\.encoder\\.layer\\.", "model.layers."), ("^model\\.layers\\.(\\d+)\\.feed\\.", "model.layers.${1}.mlp.")]"#,
    );
    // The biases are missing by another name, and no mistake of their own.
    assert!(
        found.iter().all(|line| !line.starts_with("unexpected")),
        "{found:#?}"
    );
}

#[test]
fn of_two_that_fit_as_well_none_is_chosen() {
    let both = |a: &str, b: &str| {
        let of = |prefix: &str| renamed(&model(), |name| format!("{prefix}{name}"));
        [of(a), of(b)].concat()
    };
    let found = said(&both("ema.", "student."));
    let head = "prefix: what the trace needs is there under `ema.` (21 keys) and under `student.` (21 \
                keys); choose which the model is to have";
    let choices = [
        head,
        r#"  for those under `ema.`, add rename = [("^ema\\.", "")]"#,
        r#"  for those under `student.`, add rename = [("^student\\.", "")]"#,
    ];
    assert_eq!(found, choices);
    // Nor where one of them lacks a tensor, which strikes no one as the better one.
    let mut file = both("ema.", "student.");
    file.pop();
    let found = said(&file);
    assert_eq!(found[1..], choices[1..]);
    assert!(found[0].contains("`student.` (20 keys)"), "{found:#?}");
    // What is under a part of the names is said too.
    let mut file = renamed(&model(), |name| format!("online.{name}"));
    file.extend(renamed(&model()[..20], |name| {
        name.replace("model.", "ema.")
    }));
    let choices = [
        r#"prefix: 21 keys start with `online.`, the trace has them without it: add rename = [("^online\\.", "")]"#,
        "  what starts with `ema.` in the checkpoint fits what the trace has below `model.` as well",
    ];
    assert_eq!(said(&file), choices);
    let mut file = renamed(&model(), |name| name.replace("lm_head", "a.lm_head"));
    file.push(("b.lm_head.weight".to_owned(), vec![64, 8]));
    let found = said(&file);
    has(
        &found,
        "renamed: lm_head.weight may be called a.lm_head.weight or b.lm_head.weight in the \
         checkpoint: its name does not say which",
    );
    assert!(
        found.iter().all(|line| !line.contains("rename =")),
        "{found:#?}"
    );
}

#[test]
fn what_is_in_other_pieces_is_said() {
    let mut file = model();
    file.retain(|(name, _)| !name.contains("mlp"));
    for layer in 0..3 {
        file.push((
            format!("model.layers.{layer}.mlp.gate_up_proj.weight"),
            vec![32, 8],
        ));
    }
    has(
        &said(&file),
        "  in place of model.layers.0.mlp.gate_proj.weight and model.layers.0.mlp.up_proj.weight there \
         may be model.layers.0.mlp.gate_up_proj.weight, which loading does not take apart",
    );
    let file = renamed(&model(), |name| {
        name.replace("input_norm", "ln1")
            .replace("post_norm", "ln2")
    });
    has(
        &said(&file),
        "  in place of model.layers.0.input_norm.weight or model.layers.0.post_norm.weight there may be \
         model.layers.0.ln1.weight or model.layers.0.ln2.weight: if so, add a `rename` for each",
    );
    // Stacks of experts, one by one in the file.
    let stack = |part: &str, shape: &[usize]| (format!("l.0.experts.{part}"), shape.to_vec());
    let stacks = needs(&[stack("gate_up", &[4, 32, 8]), stack("down", &[4, 8, 16])]);
    let mut file = Vec::new();
    for expert in 0..4 {
        file.push((format!("l.0.moe.experts.{expert}.w1.weight"), vec![16, 8]));
        file.push((format!("l.0.moe.experts.{expert}.w2.weight"), vec![8, 16]));
        file.push((format!("l.0.moe.experts.{expert}.w3.weight"), vec![16, 8]));
    }
    let expected = Expected {
        needs: &stacks,
        ..Expected::DEFAULT
    };
    let found = lines(&expected, &checkpoint(&tensors(&file)));
    has(
        &found,
        "  in place of l.0.experts.down there may be l.0.moe.experts.{0..3}.w2.weight, which loading \
         does not put together",
    );
    has(
        &found,
        "  in place of l.0.experts.gate_up there may be l.0.moe.experts.{0..3}.w1.weight, \
         l.0.moe.experts.{0..3}.w3.weight, which loading does not put together",
    );
}

#[test]
fn an_adapter_is_no_model_and_not_left_out_in_silence() {
    let part = |part: &str, shape: &[usize]| {
        (
            format!("base_model.model.model.layers.0.q.lora_{part}.weight"),
            shape.to_vec(),
        )
    };
    let adapter = [part("A", &[2, 8]), part("B", &[8, 2])];
    let found = said(&[model(), adapter.to_vec()].concat());
    assert!(
        found[0].starts_with("converted (2): base_model."),
        "{found:#?}"
    );
    assert!(
        found[found.len() - 1].ends_with("`merge_and_unload()` and save the model again"),
        "{found:#?}"
    );
    let found = said(&adapter);
    let end = "this is a LoRA adapter, not the model that it is for: load it on its model with PEFT, call \
               `merge_and_unload()`, save the model again, and take that";
    assert_eq!(found[found.len() - 1], end);
    // A model by other names with one key of an adapter is a model.
    let other = renamed(&model(), |name| name.replace(['e', 'o'], "_"));
    let found = said(&[other, adapter[..1].to_vec()].concat());
    assert!(
        found.iter().all(|line| !line.contains("LoRA")),
        "{found:#?}"
    );
    // A GGUF says of itself what it is.
    let mut snapshot = Snapshot::default();
    snapshot.gguf(true);
    snapshot.metadata("general.type", crate::Value::Text("mmproj".into()));
    snapshot
        .tensor("v.weight", Dtype::F32, &[1])
        .expect("a new name");
    let file = snapshot.into_checkpoint("m.gguf".as_ref(), "m.gguf".as_ref());
    has(
        &of_model(&file),
        "this file is no model, its `general.type` is `mmproj`: take the file of the model",
    );
}

/// What is said of a file where the trace is that of [`model`].
fn of_model(file: &Checkpoint) -> Vec<String> {
    let needs = needs(&model());
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    lines(&expected, file)
}

#[test]
fn a_gguf_of_several_says_which_it_is() {
    let mut snapshot = Snapshot::default();
    snapshot.gguf(true);
    snapshot.metadata("split.no", crate::Value::Integer(1));
    snapshot.metadata("split.count", crate::Value::Integer(3));
    snapshot
        .tensor("output_norm.weight", Dtype::F32, &[8])
        .expect("a new name");
    let file = snapshot.into_checkpoint("w/m.gguf".as_ref(), "w/m.gguf".as_ref());
    has(
        &of_model(&file),
        "this is shard 2 of 3: open the folder of all of them, `w`",
    );
}
