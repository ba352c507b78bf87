use super::*;
use crate::Snapshot;

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
        shape: shape.clone().into(),
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
fn check(needs: &[Need<'_>], tensors: &[(String, Dtype, Vec<usize>)], expected: &[&str]) {
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
        &["missing: model.layers.0.mlp.down_proj.weight", ok],
    );
    check(
        &needs,
        &without(&["lm_head.weight", "model.embed_tokens.weight"]),
        &[
            "missing (2):",
            "  lm_head.weight",
            "  model.embed_tokens.weight",
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
    let validated = validate(&expected, &checkpoint(&tensors)).expect("it fits");
    let keys: Vec<_> = validated.sources.iter().map(|s| s.key.as_deref()).collect();
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
    check(&needs(&llama(2)), &file, &[line]);
}

#[test]
fn a_renamed_key_is_recognised_among_many() {
    let mut renamed = tensors(&llama(1));
    renamed[3].0 = "lm_heads.weight".into();
    let near =
        "the checkpoint has lm_heads.weight, was it lm_head.weight when the model was traced?";
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
