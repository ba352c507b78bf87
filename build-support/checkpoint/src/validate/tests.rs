use std::borrow::Cow;

use super::*;
use crate::{Dtype, Snapshot};

mod gguf;
mod names;
mod renamed;
mod silent;
mod tied;
mod which;

/// Names and shapes of a model with two matrices per layer.
fn llama(layers: usize) -> Vec<(String, Vec<usize>)> {
    let mut params = vec![("model.embed_tokens.weight".to_owned(), vec![100, 8])];
    for layer in 0..layers {
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}.weight");
        params.push((name("gate_proj"), vec![16, 8]));
        params.push((name("down_proj"), vec![8, 16]));
    }
    params.push(("lm_head.weight".to_owned(), vec![100, 8]));
    params
}

fn needs(params: &[(String, Vec<usize>)]) -> Vec<Need<'static>> {
    let need = |(name, shape): &(String, Vec<usize>)| Need {
        name: name.clone().into(),
        // For as long as the test runs.
        shape: shape.clone().leak(),
        dtype: Dtype::F32,
        tied_to: None,
    };
    params.iter().map(need).collect()
}

fn tensors(params: &[(String, Vec<usize>)]) -> Vec<(String, Dtype, Vec<usize>)> {
    let tensor = |(name, shape): &(String, Vec<usize>)| (name.clone(), Dtype::F16, shape.clone());
    params.iter().map(tensor).collect()
}

fn checkpoint(tensors: &[(String, Dtype, Vec<usize>)]) -> Checkpoint {
    let mut snapshot = Snapshot::default();
    for (name, dtype, shape) in tensors {
        snapshot.tensor(name, *dtype, shape).expect("a new name");
    }
    snapshot.into_checkpoint("m.safetensors".as_ref(), "m.safetensors".as_ref())
}

const AGAIN: &str = "take the checkpoint that was traced, or record again with the model that this \
    checkpoint is of";

/// The lines of the report; the notes when everything fits.
fn lines(expected: &Expected<'_>, checkpoint: &Checkpoint) -> Vec<String> {
    match validate(expected, checkpoint) {
        Ok(validated) => validated.notes,
        Err(mismatch) => {
            let text = mismatch.to_string();
            assert!(text.starts_with("checkpoint does not match the model traced in `"));
            text.lines().skip(3).map(str::to_owned).collect()
        }
    }
}

#[track_caller]
fn check(needs: &dyn Needs, tensors: &[(String, Dtype, Vec<usize>)], expected: &[&str]) {
    let needs = Expected {
        needs,
        ..Expected::DEFAULT
    };
    assert_eq!(lines(&needs, &checkpoint(tensors)), expected);
}

#[test]
fn what_fits_says_nothing() {
    let mut larger = llama(3);
    larger.push(("vision.weight".to_owned(), vec![1]));
    check(&needs(&llama(3)), &tensors(&larger), &[]);
}

#[test]
fn a_shallower_and_narrower_model_is_two_lines() {
    let mut small = tensors(&llama(2));
    for (name, _, shape) in &mut small {
        if name.ends_with("gate_proj.weight") {
            *shape = vec![12, 8];
        }
    }
    check(
        &needs(&llama(4)),
        &small,
        &[
            "missing (4): model.layers.{2,3}.* (2 keys each)",
            "shape: model.layers.{0,1}.mlp.gate_proj.weight is [12, 8], the trace has [16, 8]",
            "",
            "this looks like a 2-layer checkpoint and a 4-layer trace: record again with the model \
             that this checkpoint is of",
        ],
    );
}

#[test]
fn tied_weights_need_one_of_their_names() {
    let mut needs = needs(&llama(1));
    needs[3].tied_to = Some(0);
    let all = tensors(&llama(1));
    let without = |names: &[&str]| {
        let kept = all.iter().filter(|(name, ..)| !names.contains(&&**name));
        kept.cloned().collect::<Vec<_>>()
    };
    let ok = "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the \
              trace: ok";
    check(&needs, &without(&["lm_head.weight"]), &[ok]);
    check(
        &needs,
        &without(&["model.embed_tokens.weight"]),
        &[
            "tied: model.embed_tokens.weight is absent; it is tied to lm_head.weight in the trace: ok",
        ],
    );
    check(
        &needs,
        &without(&["lm_head.weight", "model.layers.0.mlp.down_proj.weight"]),
        &[
            "missing: model.layers.0.mlp.down_proj.weight",
            ok,
            "",
            AGAIN,
        ],
    );
    check(
        &needs,
        &without(&["lm_head.weight", "model.embed_tokens.weight"]),
        &[
            "missing (2):",
            "  lm_head.weight",
            "  model.embed_tokens.weight",
            "  lm_head.weight is tied to model.embed_tokens.weight: one of the two has to be there",
            "",
            AGAIN,
        ],
    );
}

#[test]
fn sources_say_where_everything_is() {
    let mut needs = needs(&llama(1));
    needs[3].tied_to = Some(0);
    let mut tensors = tensors(&llama(1));
    tensors.pop();
    tensors[0].0 = "wte.weight".into();
    tensors[1].0 = "h.0.gate.weight".into();
    let expected = Expected {
        needs: &needs,
        renames: &[
            ("model.embed_tokens.weight", "wte.weight"),
            ("model.layers.*.mlp.gate_proj.weight", "h.*.gate.weight"),
            ("model.layers.*.mlp.down_proj.weight", "h.*.down.weight"),
        ],
        ..Expected::DEFAULT
    };
    let checkpoint = checkpoint(&tensors);
    let validated = validate(&expected, &checkpoint).expect("it fits");
    let keys = [0, 1, 2, 3].map(|need| validated.source(need).key(&checkpoint));
    let wte = Some("wte.weight");
    assert_eq!(keys, [wte, Some("h.0.gate.weight"), None, wte]);
}

#[test]
fn floats_convert_to_floats_only() {
    let mut file = tensors(&llama(2));
    for (name, dtype, _) in &mut file {
        if name.contains("down_proj") {
            *dtype = Dtype::I8;
        }
    }
    let line = "dtype: model.layers.{0,1}.mlp.down_proj.weight is I8, the trace has F32";
    let rule = "  loading makes F32 only of F64, F32, F16, BF16 or F8_E4M3: convert these tensors in the \
        checkpoint, or record again with the model that it is of";
    check(&needs(&llama(2)), &file, &[line, rule]);
}

#[test]
fn a_renamed_key_is_recognised_among_many() {
    let mut renamed = tensors(&llama(1));
    renamed[3].0 = "lm_heads.weight".into();
    let near = r#"renamed: lm_head.weight may be called lm_heads.weight in the checkpoint: if so, add rename = [("^lm_heads\\.weight$", "lm_head.weight")]"#;
    check(
        &needs(&llama(1)),
        &renamed,
        &["missing: lm_head.weight", near],
    );
    for i in 0..5000 {
        renamed.push((format!("adapter.{i}.lora"), Dtype::F16, vec![100, 8]));
    }
    check(
        &needs(&llama(1)),
        &renamed,
        &["missing: lm_head.weight", near],
    );
}

/// The same with other names.
fn renamed(
    params: &[(String, Vec<usize>)],
    rename: impl Fn(&str) -> String,
) -> Vec<(String, Vec<usize>)> {
    let params = params.iter();
    params
        .map(|(name, shape)| (rename(name), shape.clone()))
        .collect()
}

#[test]
fn prefixes_are_named_with_the_rename_that_mends_them() {
    let llama = llama(2);
    let fits = "everything else fits";
    for (need, key, line) in [
        (
            "",
            "base.",
            r#"prefix: 6 keys start with `base.`, the trace has them without it: add rename = [("^base\\.", "")]"#,
        ),
        (
            "base.",
            "",
            r#"prefix: 6 keys lack the `base.` that the trace expects: add rename = [("^", "base.")]"#,
        ),
    ] {
        let of = |prefix: &str| renamed(&llama, |name| format!("{prefix}{name}"));
        check(&needs(&of(need)), &tensors(&of(key)), &[line, "", fits]);
    }
    // Only what is below `model.` has it twice.
    let doubled = renamed(&llama, |name| match name.strip_prefix("model.") {
        Some(rest) => format!("model.model.{rest}"),
        None => name.to_owned(),
    });
    let line = r#"prefix: 5 keys start with `model.model.`, the trace expects `model.`: add rename = [("^model\\.model\\.", "model.")]"#;
    check(&needs(&llama), &tensors(&doubled), &[line, "", fits]);
    // A rule for every key would move `lm_head`, which is right as it is.
    let bare = renamed(&llama, |name| name.trim_start_matches("model.").to_owned());
    let line = r#"prefix: 5 keys lack the `model.` that the trace expects: add rename = [("^(embed_tokens|layers)\\.", "model.${1}.")]"#;
    check(&needs(&llama), &tensors(&bare), &[line, "", fits]);
}

#[test]
fn what_is_under_a_prefix_is_compared_all_the_same() {
    let mut inner = renamed(&llama(2), |name| format!("base.{name}"));
    inner[1].1 = vec![15, 8];
    let lines = [
        r#"prefix: 6 keys start with `base.`, the trace has them without it: add rename = [("^base\\.", "")]"#,
        "shape: base.model.layers.0.mlp.gate_proj.weight is [15, 8], the trace has [16, 8]",
        "",
        AGAIN,
    ];
    check(&needs(&llama(2)), &tensors(&inner), &lines);
}

#[test]
fn what_nothing_needs_is_a_finding_when_asked_for() {
    let mut larger = tensors(&llama(1));
    for i in 0..3 {
        larger.push((format!("adapter.{i}.a"), Dtype::F16, vec![1]));
        larger.push((format!("adapter.{i}.b"), Dtype::F16, vec![1]));
    }
    let needs = needs(&llama(1));
    let expected = Expected {
        needs: &needs,
        strict: true,
        ..Expected::DEFAULT
    };
    let line = "unexpected (6): adapter.{0..2}.* (2 keys each)";
    assert_eq!(lines(&expected, &checkpoint(&larger))[0], line);
    assert_eq!(lines(&expected, &checkpoint(&larger[..4])), [""; 0]);
}

#[test]
fn quantized_weights_are_one_finding_and_nothing_beside_them_is_unexpected() {
    let needs = needs(&llama(2));
    let gptq = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("qweight", Dtype::I32, vec![inputs / 8, outputs]),
            ("qzeros", Dtype::I32, vec![1, outputs / 8]),
            ("scales", Dtype::F16, vec![1, outputs]),
            ("g_idx", Dtype::I32, vec![inputs]),
        ]
    };
    let awq = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("qweight", Dtype::I32, vec![inputs, outputs / 8]),
            ("qzeros", Dtype::I32, vec![1, outputs / 8]),
            ("scales", Dtype::F16, vec![1, outputs]),
        ]
    };
    let nf4 = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::U8, vec![inputs * outputs / 2, 1]),
            ("weight.absmax", Dtype::F32, vec![2]),
            ("weight.quant_map", Dtype::F32, vec![16]),
            ("weight.quant_state.bitsandbytes__nf4", Dtype::U8, vec![80]),
        ]
    };
    let int8 = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::I8, vec![outputs, inputs]),
            ("SCB", Dtype::F32, vec![outputs]),
        ]
    };
    let fp8 = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::F8_E4M3, vec![outputs, inputs]),
            ("weight_scale_inv", Dtype::F32, vec![1, 1]),
        ]
    };
    let comfy = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::F8_E4M3, vec![outputs, inputs]),
            ("scale_weight", Dtype::F32, vec![1]),
            ("scale_input", Dtype::F32, vec![1]),
        ]
    };
    let dotted = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::F8_E5M2, vec![outputs, inputs]),
            ("weight.scale", Dtype::F32, vec![1]),
        ]
    };
    let int8_scaled = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::I8, vec![outputs, inputs]),
            ("weight_scale", Dtype::BF16, vec![outputs, 1]),
        ]
    };
    let nvfp4 = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::U8, vec![outputs, inputs / 2]),
            ("weight_scale", Dtype::F8_E4M3, vec![outputs, 1]),
            ("weight_scale_2", Dtype::F32, vec![]),
            ("input_scale", Dtype::F32, vec![]),
        ]
    };
    // Sets of which a part is absent.
    let qweight = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![("qweight", Dtype::I32, vec![inputs / 8, outputs])]
    };
    let absmax = |inputs: usize, outputs: usize| -> Vec<(&'static str, Dtype, Vec<usize>)> {
        vec![
            ("weight", Dtype::U8, vec![inputs * outputs / 2, 1]),
            ("weight.absmax", Dtype::F32, vec![2]),
        ]
    };
    type Parts = fn(usize, usize) -> Vec<(&'static str, Dtype, Vec<usize>)>;
    let forms: [(&str, Parts); 11] = [
        ("scaled FP8", comfy),
        ("scaled FP8", dotted),
        ("scaled INT8", int8_scaled),
        ("NVFP4", nvfp4),
        ("GPTQ", qweight),
        ("bitsandbytes 4-bit", absmax),
        ("GPTQ", gptq),
        ("AWQ", awq),
        ("bitsandbytes NF4", nf4),
        ("bitsandbytes 8-bit", int8),
        ("scaled FP8", fp8),
    ];
    for (name, parts) in forms {
        let mut file = Vec::new();
        for (key, dtype, shape) in tensors(&llama(2)) {
            match key.strip_suffix("proj.weight") {
                Some(stem) => file.extend(
                    parts(shape[1], shape[0])
                        .into_iter()
                        .map(|(part, dtype, shape)| (format!("{stem}proj.{part}"), dtype, shape)),
                ),
                None => file.push((key, dtype, shape)),
            }
        }
        let expected = Expected {
            needs: &needs,
            strict: true,
            ..Expected::DEFAULT
        };
        let head = format!("quantized: 4 weights are stored as {name}:");
        let found = lines(&expected, &checkpoint(&file));
        assert_eq!(
            found,
            [
                &*head,
                "  model.layers.{0,1}.mlp.down_proj.weight",
                "  model.layers.{0,1}.mlp.gate_proj.weight",
                "  loading cannot multiply by these: take the model's checkpoint in BF16, F16 or \
                 F32, or a GGUF file of it",
            ],
            "{name}"
        );
    }
}

#[test]
fn another_model_altogether_says_so() {
    let other = [("conv.weight".to_owned(), vec![3, 3])];
    let found = "nothing that the trace needs is in it, this looks like the checkpoint of another \
                 model: record again with the model that this checkpoint is of";
    check(
        &needs(&llama(1)),
        &tensors(&other),
        &[
            "missing (4):",
            "  lm_head.weight",
            "  model.embed_tokens.weight",
            "  model.layers.0.* (2 keys)",
            "",
            found,
        ],
    );
}

#[test]
fn transposed_shapes_say_so() {
    let mut file = tensors(&llama(2));
    for (name, _, shape) in &mut file {
        if name.contains("mlp") {
            shape.reverse();
        }
    }
    let mismatch = validate(
        &Expected {
            needs: &needs(&llama(2)),
            ..Expected::DEFAULT
        },
        &checkpoint(&file),
    )
    .expect_err("other shapes");
    let [finding] = mismatch.findings() else {
        panic!("{mismatch}");
    };
    assert_eq!((finding.class, finding.count), (Class::Transposed, 4));
    let line =
        "transposed: model.layers.{0,1}.mlp.down_proj.weight is [16, 8], the trace has [8, 16]";
    assert_eq!(finding.lines[0].to_string(), line);
}

#[test]
fn a_part_that_is_left_out_is_renamed_in_every_layer() {
    let file = renamed(&llama(40), |name| name.replace("mlp.gate", "gate"));
    let found = [
        "missing (40): model.layers.{0..39}.mlp.gate_proj.weight",
        r#"renamed: model.layers.0.mlp.gate_proj.weight may be called model.layers.0.gate_proj.weight in the checkpoint, and 39 others in the same way: if so, add rename = [("^model\\.layers\\.(\\d+)\\.gate_proj\\.weight$", "model.layers.${1}.mlp.gate_proj.weight")]"#,
    ];
    check(&needs(&llama(40)), &tensors(&file), &found);
}

#[test]
fn a_trace_of_quantized_parts_has_them_one_by_one() {
    let parts = [
        ("a.weight", Dtype::U8, 64),
        ("a.weight.absmax", Dtype::F32, 2),
        ("a.weight.quant_map", Dtype::F32, 16),
        ("a.weight.quant_state.bitsandbytes__nf4", Dtype::U8, 80),
    ];
    let needs = parts.map(|(name, dtype, size)| Need {
        name: name.into(),
        shape: vec![size].leak(),
        dtype,
        tied_to: None,
    });
    let mut file = parts.map(|(name, dtype, size)| (name.to_owned(), dtype, vec![size]));
    check(&needs, &file, &[]);
    file[0].2 = vec![32, 2];
    let line = "shape: a.weight is [32, 2], the trace has [64]";
    check(&needs, &file, &[line, "", AGAIN]);
}
