//! What would load, and compute something else.

use super::*;

fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> (String, Dtype, Vec<usize>) {
    (name.to_owned(), dtype, shape.to_vec())
}

fn need(name: &'static str, shape: &'static [usize]) -> Need<'static> {
    Need {
        name: name.into(),
        shape,
        dtype: Dtype::F32,
        tied_to: None,
    }
}

/// The numbers are not the weights as long as something scales them, by whatever name.
#[test]
fn numbers_with_scales_are_no_weights() {
    let e4m3 = Dtype::F8_E4M3;
    for (name, scale) in [
        ("a.weight", "a.weight_scale"),
        ("a.weight", "a.weight_scale_inv"),
        ("a.weight", "a.scale_weight"),
        ("a.weight", "a.scale"),
        ("a.weight", "a.scales"),
        ("a.weight", "a.weight.scale"),
        ("a.weight", "a.weight_scaler"),
        ("a.weight", "a._weight_scale"),
        ("experts.up", "experts.up_scale"),
        ("experts.up", "experts.up_weight_scale"),
        ("experts.up", "experts.up.scale"),
    ] {
        let needs = [need(name, &[4, 2])];
        let file = [tensor(name, e4m3, &[4, 2]), tensor(scale, Dtype::F32, &[1])];
        let expected = Expected {
            needs: &needs,
            strict: true,
            ..Expected::DEFAULT
        };
        let found = lines(&expected, &checkpoint(&file));
        let head = "quantized: 1 weight is stored as scaled FP8:";
        assert_eq!(found[..2], [head, &format!("  {name}")], "{scale}");
        assert_eq!(found.len(), 3, "{scale}: {found:?}");
    }
    for (dtype, other) in [
        // Plain floats are what they say; a scale of another weight, and of a module below, is none.
        (Dtype::BF16, "a.weight_scale"),
        (e4m3, "b.weight_scale"),
        (e4m3, "a.b.weight_scale"),
        (e4m3, "ab.weight_scale"),
    ] {
        let file = [
            tensor("a.weight", dtype, &[4, 2]),
            tensor(other, Dtype::F32, &[1]),
        ];
        check(&[need("a.weight", &[4, 2])], &file, &[]);
    }
    // A scale that the model itself has is no part of how its weights are stored.
    let needs = [need("a.weight", &[4, 2]), need("a.scale", &[1])];
    let file = [
        tensor("a.weight", e4m3, &[4, 2]),
        tensor("a.scale", Dtype::F32, &[1]),
    ];
    check(&needs, &file, &[]);
}

#[test]
fn blocks_of_a_gguf_may_have_scales_too() {
    let mut snapshot = Snapshot::default();
    snapshot.gguf(true);
    snapshot.metadata("general.architecture", crate::Value::Text("qwen2".into()));
    for (name, dtype, shape) in [
        ("output.weight", Dtype::Q8_0, &[4, 32][..]),
        ("output.scale", Dtype::F32, &[1]),
    ] {
        snapshot.tensor(name, dtype, shape).expect("a new name");
    }
    let file = snapshot.into_checkpoint("m.gguf".as_ref(), "m.gguf".as_ref());
    let needs = [need("lm_head.weight", &[4, 32])];
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let head = "quantized: 1 weight is stored as Q8_0 with scales:";
    assert_eq!(lines(&expected, &file)[0], head);
}

#[test]
fn weights_in_parts_that_have_to_be_put_together_are_not_renamed() {
    for (key, other, said) in [
        (
            "a.weight_v",
            "a.weight_g",
            "converted: 1 weight is stored for weight norm, as a direction and a length:",
        ),
        (
            "a.parametrizations.weight.original1",
            "a.parametrizations.weight.original0",
            "converted: 1 weight is stored for weight norm, as a direction and a length:",
        ),
        (
            "a.weight_orig",
            "a.weight_u",
            "converted: 1 weight is stored for spectral norm, which divides them:",
        ),
        (
            "a.base_layer.weight",
            "a.lora_A.default.weight",
            "converted: 1 weight is stored with a LoRA adapter beside them:",
        ),
    ] {
        let file = [
            tensor(key, Dtype::F32, &[4, 2]),
            tensor(other, Dtype::F32, &[4, 1]),
        ];
        let needs = [need("a.weight", &[4, 2])];
        let expected = Expected {
            needs: &needs,
            ..Expected::DEFAULT
        };
        let found = lines(&expected, &checkpoint(&file));
        assert_eq!(found[..2], [said, "  a.weight"]);
        assert!(
            found.iter().all(|line| !line.contains("rename")),
            "{found:?}"
        );
    }
}

#[test]
fn a_bias_that_the_trace_does_not_have_is_a_mistake() {
    let needs = [need("l.0.q.weight", &[4, 2]), need("l.1.q.weight", &[4, 2])];
    let mut file = vec![
        tensor("l.0.q.weight", Dtype::F32, &[4, 2]),
        tensor("l.1.q.weight", Dtype::F32, &[4, 2]),
        // A mask, as GPT-2 has it, and a buffer.
        tensor("l.0.bias", Dtype::F32, &[1, 1, 8, 8]),
        tensor("l.0.rotary.inv_freq", Dtype::F32, &[2]),
    ];
    let warned = |file: &[_], needs: &dyn Needs, config: Option<&str>| {
        let expected = Expected {
            needs,
            config,
            ..Expected::DEFAULT
        };
        let mut snapshot = Snapshot::default();
        for (name, dtype, shape) in file {
            let tensor: (&String, &Dtype, &Vec<usize>) = (name, dtype, shape);
            snapshot.tensor(tensor.0, *tensor.1, tensor.2).expect("new");
        }
        config.iter().for_each(|config| snapshot.config(config));
        let file = snapshot.into_checkpoint("m".as_ref(), "m".as_ref());
        validate(&expected, &file).expect("it fits").warnings
    };
    check(&needs, &file[..2], &[]);
    // A norm that the trace does not have, and more layers.
    let more = [
        tensor("l.0.q_norm.weight", Dtype::F32, &[2]),
        tensor("l.2.q.weight", Dtype::F32, &[4, 2]),
        tensor("head.weight", Dtype::F32, &[4, 2]),
    ];
    let all = [&file[..2], &more].concat();
    let said = [
        "unused (2):",
        "  l.2.q.weight",
        "  l.0.q_norm.weight",
        "  these lie among the weights that the trace has, but it does not use them: where the model \
         should, record again with the code that this checkpoint is of",
    ];
    assert_eq!(warned(&all, &needs, None), said);
    assert_eq!(warned(&all[..2], &needs, None), [""; 0]);
    // A further layer that both sides do not count is for something else.
    let two = Some(r#"{"num_hidden_layers": 2}"#);
    assert_eq!(warned(&all, &needs, two)[0], "unused: l.0.q_norm.weight");

    file.push(tensor("l.0.q.bias", Dtype::F32, &[4]));
    file.push(tensor("l.1.q.bias", Dtype::F32, &[4]));
    check(
        &needs,
        &file,
        &[
            "unexpected (2): l.{0,1}.q.bias",
            "  the trace has the weights beside these without a bias and would compute something \
             else: record again with the code that this checkpoint is of",
        ],
    );
    // What is the bias of the module above under another name.
    let needs = [
        need("head.decoder.weight", &[4, 2]),
        need("head.bias", &[4]),
    ];
    let file = [
        tensor("head.decoder.weight", Dtype::F32, &[4, 2]),
        tensor("head.decoder.bias", Dtype::F32, &[4]),
        tensor("head.bias", Dtype::F32, &[4]),
    ];
    assert_eq!(warned(&file, &needs, None)[0], "unused: head.decoder.bias");
    // The same where the weight is absent and a twin stands for it.
    let twin = Need {
        tied_to: Some(0),
        ..needs[0].clone()
    };
    let twins = [need("embed.weight", &[4, 2]), twin, needs[1].clone()];
    let embed = tensor("embed.weight", Dtype::F32, &[4, 2]);
    let of_twins = [&[embed], &file[1..]].concat();
    assert_eq!(
        warned(&of_twins, &twins, None)[0],
        "unused: head.decoder.bias"
    );
    // Of another shape it is none of that.
    let needs = [
        need("head.decoder.weight", &[4, 2]),
        need("head.bias", &[1]),
    ];
    let file = [&file[..2], &[tensor("head.bias", Dtype::F32, &[1])]].concat();
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let found = lines(&expected, &checkpoint(&file));
    assert_eq!(found[0], "unexpected: head.decoder.bias");
}

#[test]
fn stacks_of_matrices_may_be_transposed_too() {
    let file = [tensor("e.up", Dtype::F32, &[8, 4, 2])];
    let needs = [need("e.up", &[8, 2, 4])];
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let found = lines(&expected, &checkpoint(&file));
    assert_eq!(
        found[0],
        "transposed: e.up is [8, 4, 2], the trace has [8, 2, 4]"
    );
}

/// Names of a file are anyone's text.
#[test]
fn names_do_not_reach_a_terminal_as_they_are() {
    let needs = [need("a.weight", &[1]), need("b.\u{1b}[2J", &[1])];
    let file = [
        tensor("a.weight", Dtype::F32, &[1]),
        tensor("b.\u{1b}[3J", Dtype::F32, &[1]),
        tensor("x\nerror: forged \u{202e}", Dtype::F32, &[1]),
    ];
    let expected = Expected {
        needs: &needs,
        strict: true,
        ..Expected::DEFAULT
    };
    let mismatch = validate(&expected, &checkpoint(&file)).expect_err("another name");
    let text = mismatch.to_string();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("error:")),
        "{text:?}"
    );
    assert!(text.contains(r"missing: b.\u{1b}[2J"), "{text}");
    assert!(text.contains(r"x\nerror: forged \u{202e}"), "{text}");
    // Nor by the rules that are proposed, however a front end writes them.
    let hostile = "\u{1b}[31m'\n\u{202e}";
    let params: Vec<_> = ["a", "b", "c"]
        .map(|name| (format!("m.{name}.weight"), vec![2]))
        .into();
    let needs = super::needs(&params);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    for (to, pattern) in [
        (
            format!("{hostile}.m."),
            r"^\x{1b}\[31m'\x{a}\x{202e}\.".to_owned(),
        ),
        (
            format!("m.{hostile}."),
            r"^m\.\x{1b}\[31m'\x{a}\x{202e}\.".to_owned(),
        ),
    ] {
        let file = renamed(&params, |name| name.replace("m.", &to));
        let mismatch = validate(&expected, &checkpoint(&tensors(&file))).expect_err("other names");
        let lines = mismatch.findings().iter().flat_map(|f| &f.lines);
        let rules: Vec<_> = lines.flat_map(|line| &line.renames).collect();
        assert_eq!(rules[0].pattern, pattern);
        let text = mismatch.written(|rules| rules[0].pattern.clone() + &rules[0].replacement);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    // A name of the trace would stand in the replacement: there is no rule.
    let needs = super::needs(&renamed(&params, |name| format!("{hostile}.{name}")));
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let mismatch = validate(&expected, &checkpoint(&tensors(&params))).expect_err("other names");
    assert!(!mismatch.to_string().contains("rename"), "{mismatch}");
}
