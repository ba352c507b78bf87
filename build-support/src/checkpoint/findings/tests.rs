use super::*;
use crate::manifest::ParamId;

/// A trace with these parameters, in the notation `name: shape`.
fn trace(params: &[(String, &[usize])]) -> Manifest {
    let mut manifest =
        crate::raw::parse("llama_manifest.json", SMALLEST).unwrap_or_else(|r| panic!("{r}"));
    manifest.params = params
        .iter()
        .map(|(name, shape)| Param {
            name: name.clone(),
            buffer: false,
            dtype: Dtype::Float32,
            shape: shape.to_vec(),
            tied_to: None,
        })
        .collect();
    manifest
}

const SMALLEST: &str = r#"{"version": [1, 0], "recorder": {}, "dtype": "float32", "symbols": [], "inputs": [],
"model": {"name": "llama", "class": "Llama", "output_class": null}, "states": [], "parameters": [],
"outputs": [{"name": "out", "path": "", "value": {"const": "c"}}], "modules": [{"path": "", "class": "Llama"}],
"constants": [{"name": "c", "dtype": "bool", "shape": [], "data": {"full": true}}],
"calls": [{"module": "", "index": 0, "parent": null, "outputs": []}], "nodes": [], "config": null}"#;

fn llama(layers: usize) -> Vec<(String, &'static [usize])> {
    let mut params = vec![("model.embed_tokens.weight".to_owned(), &[100, 8][..])];
    for layer in 0..layers {
        params.push((
            format!("model.layers.{layer}.mlp.gate_proj.weight"),
            &[16, 8],
        ));
        params.push((
            format!("model.layers.{layer}.mlp.down_proj.weight"),
            &[8, 16],
        ));
    }
    params.push(("lm_head.weight".to_owned(), &[100, 8]));
    params
}

fn headers(params: &[(String, &[usize])]) -> Headers {
    let tensor = |shape: &[usize]| Tensor {
        dtype: "F16".into(),
        shape: shape.to_vec(),
        bytes: 0,
    };
    let tensors = params
        .iter()
        .map(|(name, shape)| (name.clone(), tensor(shape)));
    Headers {
        tensors: tensors.collect(),
        shards: 1,
        ..Headers::default()
    }
}

#[track_caller]
fn check(manifest: &Manifest, headers: &Headers, expected: &[&str]) {
    assert_eq!(validate(manifest, headers), expected);
}

#[test]
fn what_fits_says_nothing() {
    let mut larger = llama(3);
    larger.push(("vision.weight".to_owned(), &[1]));
    check(&trace(&llama(3)), &headers(&larger), &[]);
}

#[test]
fn a_shallower_and_narrower_model_is_two_lines() {
    let mut small = headers(&llama(2));
    for (name, tensor) in &mut small.tensors {
        if name.ends_with("gate_proj.weight") {
            tensor.shape = vec![12, 8];
        }
    }
    check(
        &trace(&llama(4)),
        &small,
        &[
            "missing (4): model.layers.{2,3}.* (2 keys each)",
            "shape: model.layers.{0,1}.mlp.gate_proj.weight is [12, 8], the trace has [16, 8]",
        ],
    );
}

#[test]
fn tied_weights_need_one_of_their_names() {
    let mut manifest = trace(&llama(1));
    manifest.params[3].tied_to = Some(ParamId(0));
    let all = headers(&llama(1));
    for absent in ["lm_head.weight", "model.embed_tokens.weight"] {
        let mut headers = all.clone();
        headers.tensors.remove(absent);
        check(&manifest, &headers, &[]);
    }
    let mut headers = all;
    headers.tensors.remove("lm_head.weight");
    headers
        .tensors
        .remove("model.layers.0.mlp.down_proj.weight");
    check(
        &manifest,
        &headers,
        &[
            "missing: model.layers.0.mlp.down_proj.weight",
            "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: ok",
        ],
    );
}

#[test]
fn floats_convert_to_floats_only() {
    let mut file = headers(&llama(2));
    for (name, tensor) in &mut file.tensors {
        if name.contains("down_proj") {
            tensor.dtype = "I8".into();
        }
    }
    let line = "dtype: model.layers.{0,1}.mlp.down_proj.weight is I8, the trace has float32";
    check(&trace(&llama(2)), &file, &[line]);
}

#[test]
fn a_renamed_key_and_a_prefix_are_recognised() {
    let mut renamed = headers(&llama(1));
    if let Some(tensor) = renamed.tensors.remove("lm_head.weight") {
        renamed.tensors.insert("lm_heads.weight".into(), tensor);
    }
    check(
        &trace(&llama(1)),
        &renamed,
        &[
            "missing: lm_head.weight",
            "the checkpoint has lm_heads.weight, was it lm_head.weight when the model was traced?",
        ],
    );
    // However many others come before it in the alphabet.
    for i in 0..=CANDIDATES {
        renamed.tensors.insert(
            format!("adapter.{i}.lora"),
            renamed.tensors["lm_heads.weight"].clone(),
        );
    }
    let lines = validate(&trace(&llama(1)), &renamed);
    assert!(
        lines[1].starts_with("the checkpoint has lm_heads.weight"),
        "{lines:?}"
    );
    let inner: Vec<_> = llama(2)
        .into_iter()
        .map(|(name, shape)| (format!("base.{name}"), shape))
        .collect();
    let lines = validate(&trace(&llama(2)), &headers(&inner));
    assert_eq!(
        lines.last().map(String::as_str),
        Some(
            "prefix: the checkpoint has the missing 6 keys under `base.`: \
             load the inner module in Python and record again, or rename the keys"
        )
    );
    let lines = validate(&trace(&inner), &headers(&llama(2)));
    assert!(
        lines
            .last()
            .is_some_and(|line| line.contains("6 keys without `base.`")),
        "{lines:?}"
    );
}
