//! The table.

mod forms;
mod names;
mod settings;
mod values;

use serde_json::{Value as Json, json};

use crate::{Case, Value, gguf, safetensors};

/// Names, types and shapes.
type Tensors = Vec<(String, &'static str, Vec<usize>)>;

const MANIFEST: &str = "llama_manifest.json";
const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// A model of so many layers with tied embeddings, in the dtype.
fn llama(layers: usize, dtype: &'static str) -> Tensors {
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), dtype, vec![64, 32])];
    for layer in 0..layers {
        let mut add = |part: &str, shape: &[usize]| {
            let name = format!("model.layers.{layer}.{part}.weight");
            tensors.push((name, dtype, shape.to_vec()));
        };
        add("input_layernorm", &[32]);
        add("mlp.gate_proj", &[96, 32]);
        add("mlp.down_proj", &[32, 96]);
    }
    tensors.push(("model.norm.weight".to_owned(), dtype, vec![32]));
    tensors.push(("lm_head.weight".to_owned(), dtype, vec![64, 32]));
    tensors
}

/// The manifest of these tensors, traced in float32; integers are buffers.
fn manifest(tensors: &Tensors, config: &Json) -> Vec<u8> {
    let tied = |name: &str| (name == "lm_head.weight").then_some("model.embed_tokens.weight");
    let parameters: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape)| {
            let (kind, dtype) = match *dtype {
                "I64" => ("buffer", "int64"),
                "I32" => ("buffer", "int32"),
                "BOOL" => ("buffer", "bool"),
                _ => ("parameter", "float32"),
            };
            json!({"name": name, "kind": kind, "dtype": dtype, "shape": shape,
                   "tied_to": tied(name)})
        })
        .collect();
    let manifest = json!({
        "version": [1, 0],
        "recorder": {"pycandle": "0.1.0", "torch": "2.15.0"},
        "model": {"name": "llama", "class": "models.Llama", "output_class": null},
        "dtype": "float32",
        "symbols": [{"name": "batch", "min": 1, "max": 64}],
        "inputs": [{"name": "x", "path": "args[0]", "dtype": "float32", "shape": ["batch", 32]}],
        "fixed_inputs": [],
        "outputs": [{"name": "out", "path": "", "value": {"v": "linear"}}],
        "states": [],
        "parameters": parameters,
        "constants": [],
        "modules": [{"path": "", "class": "models.Llama"}],
        "calls": [{"module": "", "index": 0, "parent": null, "outputs": ["linear"]}],
        "nodes": [{
            "op": "aten.linear.default",
            "args": {"input": {"v": "x"}, "weight": {"param": "model.embed_tokens.weight"}},
            "out": [{"name": "linear", "dtype": "float32", "shape": ["batch", 64]}],
            "call": 0,
            "at": "llama.py:9"
        }],
        "config": config,
    });
    manifest.to_string().into_bytes()
}

fn config(layers: usize) -> Json {
    json!({"model_type": "llama", "num_hidden_layers": layers, "rope_theta": 10000.0})
}

/// A trace of two layers and these weights, of which this is said.
fn case(name: &'static str, tensors: &Tensors, report: &[&'static str]) -> Case {
    Case {
        name,
        weights: WEIGHTS,
        rename: Vec::new(),
        strict: false,
        files: vec![
            (MANIFEST, manifest(&llama(2, "F32"), &config(2))),
            (WEIGHTS, safetensors(tensors)),
        ],
        report: report.to_vec(),
        rule: [""; 3],
    }
}

/// The same tensors with other names.
fn named(tensors: Tensors, name: impl Fn(&str) -> String) -> Tensors {
    let tensors = tensors.into_iter();
    tensors
        .map(|(old, dtype, shape)| (name(&old), dtype, shape))
        .collect()
}

/// The same tensors, some of them changed.
fn changed(part: &str, change: impl Fn(&mut &'static str, &mut Vec<usize>)) -> Tensors {
    let mut tensors = llama(2, "F16");
    for (name, dtype, shape) in &mut tensors {
        if name.contains(part) {
            change(dtype, shape);
        }
    }
    tensors
}

/// The tensors of which the name says yes.
fn kept(tensors: Tensors, keep: impl Fn(&str) -> bool) -> Tensors {
    tensors
        .into_iter()
        .filter(|(name, ..)| keep(name))
        .collect()
}

/// The model as llama.cpp writes it.
fn blocks(architecture: &'static str, dtype: &'static str) -> Vec<u8> {
    blocks_with(architecture, dtype, &[])
}

/// The same with more metadata.
fn blocks_with(
    architecture: &'static str,
    dtype: &'static str,
    more: &[(&'static str, Value)],
) -> Vec<u8> {
    let tensors = llama(2, "F32").into_iter().filter_map(|(name, _, shape)| {
        let matrix = shape.len() > 1;
        let name = match name.strip_prefix("model.layers.") {
            Some(layer) => format!("blk.{layer}")
                .replace("input_layernorm", "attn_norm")
                .replace("mlp.gate_proj", "ffn_gate")
                .replace("mlp.down_proj", "ffn_down"),
            None => match &*name {
                "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
                "model.norm.weight" => "output_norm.weight".to_owned(),
                _ => return None,
            },
        };
        Some((name, if matrix { dtype } else { "F32" }, shape))
    });
    let metadata = [
        ("general.architecture", Value::Text(architecture)),
        ("llama.block_count", Value::Integer(2)),
        ("llama.rope.freq_base", Value::Float(10000.0)),
    ];
    let metadata = [&metadata, more].concat();
    gguf(&metadata, &tensors.collect::<Tensors>())
}

impl Case {
    fn renamed(mut self, rename: &[(&'static str, &'static str)]) -> Self {
        self.rename = rename.to_vec();
        self
    }

    /// With the rename rule of its report as each front end writes it.
    fn ruled(mut self, rule: [&'static str; 3]) -> Self {
        self.rule = rule;
        self
    }

    fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// With a file instead of the one of that name.
    fn with(mut self, name: &'static str, bytes: Vec<u8>) -> Self {
        self.files.retain(|(old, _)| *old != name);
        self.files.push((name, bytes));
        self
    }

    /// With a `config.json` beside the weights.
    fn beside(self, config: &Json) -> Self {
        self.with(CONFIG, config.to_string().into_bytes())
    }

    /// With a GGUF file for weights.
    fn of_gguf(mut self, architecture: &'static str, dtype: &'static str) -> Self {
        self.files.retain(|(name, _)| *name != WEIGHTS);
        self.weights = "model.gguf";
        self.with("model.gguf", blocks(architecture, dtype))
    }
}

/// Every class of what can be wrong, and what is right though it looks wrong.
pub fn cases() -> Vec<Case> {
    let doubled = |name: &str| name.replace("model.", "model.model.");
    let mut cases = vec![
        case(
            "missing",
            &kept(llama(2, "F16"), |name| !name.contains("down_proj")),
            &["missing (2): model.layers.{0,1}.mlp.down_proj.weight", AGAIN],
        ),
        case(
            "tied",
            &kept(llama(2, "F16"), |name| {
                !matches!(name, "lm_head.weight" | "model.embed_tokens.weight")
            }),
            &[
                "missing (2):",
                "lm_head.weight",
                "model.embed_tokens.weight",
                "lm_head.weight is tied to model.embed_tokens.weight: one of the two has to be there",
                AGAIN,
            ],
        ),
        case(
            "renamed",
            &named(llama(2, "F16"), |name| name.replace("model.norm", "model.norms")),
            &[
                "missing: model.norm.weight",
                r#"renamed: model.norm.weight may be called model.norms.weight in the checkpoint: if so, add RULE"#,
            ],
        )
        .ruled([
            r#"rename = [("^model\\.norms\\.weight$", "model.norm.weight")]"#,
            r#".rename("^model\\.norms\\.weight$", "model.norm.weight")"#,
            r#"--rename '^model\.norms\.weight$=model.norm.weight'"#,
        ]),
        case(
            "unexpected",
            &named(llama(3, "F16"), |name| name.replace("layers.2", "adapter")),
            &[
                "unexpected (3):",
                "model.adapter.input_layernorm.weight",
                "model.adapter.mlp.down_proj.weight",
                "model.adapter.mlp.gate_proj.weight",
                "nothing needs these: leave `strict` out, or write a checkpoint without them with \
                 `cargo pycandle extract`",
            ],
        )
        .strict(),
        case(
            "shape",
            &changed("gate_proj", |_, shape| *shape = vec![64, 32]),
            &[
                "shape: model.layers.{0,1}.mlp.gate_proj.weight is [64, 32], the trace has [96, 32]",
                AGAIN,
            ],
        ),
        case(
            "transposed",
            &changed("mlp", |_, shape| shape.reverse()),
            &[
                "transposed: model.layers.{0,1}.mlp.down_proj.weight is [96, 32], the trace has [32, 96]",
                "transposed: model.layers.{0,1}.mlp.gate_proj.weight is [32, 96], the trace has [96, 32]",
                "one side stores its matrices as Linear does, the other as Conv1D, and so square ones too, \
                 whose shapes do not show it: record again with the code that this checkpoint is of, or \
                 take a checkpoint that stores them as the trace does",
            ],
        ),
        case(
            "dtype",
            &changed("norm", |dtype, _| *dtype = "I32"),
            &[
                "dtype: model.layers.{0,1}.input_layernorm.weight is I32, the trace has F32",
                "dtype: model.norm.weight is I32, the trace has F32",
                "loading makes F32 only of F64, F32, F16, BF16 or F8_E4M3: convert these tensors in the \
                 checkpoint, or record again with the model that it is of",
            ],
        ),
        case(
            "prefix_doubled",
            &named(llama(2, "F16"), doubled),
            &[
                r#"prefix: 8 keys start with `model.model.`, the trace expects `model.`: add RULE"#,
                "everything else fits",
            ],
        )
        .ruled([
            r#"rename = [("^model\\.model\\.", "model.")]"#,
            r#".rename("^model\\.model\\.", "model.")"#,
            r#"--rename '^model\.model\.=model.'"#,
        ]),
        case(
            "prefix_missing",
            &named(llama(2, "F16"), |name| name.replace("model.", "")),
            &[
                r#"prefix: 8 keys lack the `model.` that the trace expects: add RULE"#,
                "everything else fits",
            ],
        )
        .ruled([
            r#"rename = [("^(embed_tokens|layers|norm)\\.", "model.${1}.")]"#,
            r#".rename("^(embed_tokens|layers|norm)\\.", "model.${1}.")"#,
            r#"--rename '^(embed_tokens|layers|norm)\.=model.${1}.'"#,
        ]),
        case(
            "prefix_foreign",
            &named(llama(2, "F16"), |name| name.replace("model.", "transformer.")),
            &[
                "missing (7):",
                "model.layers.{0,1}.* (3 keys each)",
                "model.norm.weight",
                "renamed: model.layers.0.input_layernorm.weight may be called \
                 transformer.layers.0.input_layernorm.weight in the checkpoint, and 6 others in the same \
                 way: if so, add RULE",
                "tied: model.embed_tokens.weight is absent; it is tied to lm_head.weight in the trace: ok",
            ],
        )
        .ruled([
            r#"rename = [("^transformer\\.", "model.")]"#,
            r#".rename("^transformer\\.", "model.")"#,
            r#"--rename '^transformer\.=model.'"#,
        ]),
        case(
            "quantized_blocks",
            &Vec::new(),
            &[
                "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: ok",
                "quantized: 5 weights are stored as GGUF MXFP4 blocks:",
                "model.embed_tokens.weight",
                "model.layers.{0,1}.mlp.down_proj.weight",
                "model.layers.{0,1}.mlp.gate_proj.weight",
                "loading cannot multiply by these: quantize the model to Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or \
                 Q2_K to Q6_K instead, as llama.cpp's `llama-quantize` does",
            ],
        )
        .of_gguf("llama", "MXFP4"),
        case(
            "converted",
            &Vec::new(),
            &[
                "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: ok",
                "converted: files of the architecture `gemma` have 1 added to the weights of their \
                 norms, which loading does not undo",
                "take the model's safetensors checkpoint instead of the GGUF file",
            ],
        )
        .with(MANIFEST, manifest(&llama(2, "F32"), &json!({"model_type": "gemma"})))
        .of_gguf("gemma", "Q8_0"),
        case(
            "config",
            &llama(2, "F16"),
            &[
                "config: rope_theta is 500000.0 in CASE/config.json, 10000.0 in the trace",
                "take the checkpoint that was traced, or record again with `python -m pycandle record \
                 CASE/`",
            ],
        )
        .beside(&json!({"model_type": "llama", "n_layer": 2, "rope_theta": 500000.0})),
        case(
            "layers",
            &kept(llama(2, "F16"), |name| name != "lm_head.weight"),
            &[
                "config: num_hidden_layers is 2 in CASE/config.json, 6 in the trace",
                "missing (12): model.layers.{2..5}.* (3 keys each)",
                "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: \
                 ok",
                "this looks like a 2-layer checkpoint and a 6-layer trace: record again with `python -m \
                 pycandle record CASE/`",
            ],
        )
        .with(MANIFEST, manifest(&llama(6, "F32"), &config(6)))
        .beside(&config(2)),
        case(
            "revision",
            &llama(2, "F16"),
            &["revision: the weights are of commit 5c8a1f0, the trace of 0b7d22e: take both from one commit"],
        )
        .with(MANIFEST, manifest(&llama(2, "F32"), &json!({"_commit_hash": "0b7d22e"})))
        .beside(&json!({"_commit_hash": "5c8a1f0"})),
        case(
            "another_model",
            &vec![("conv.weight".to_owned(), "F16", vec![3, 3])],
            &[
                "missing (9):",
                "lm_head.weight",
                "model.embed_tokens.weight",
                "model.layers.{0,1}.* (3 keys each)",
                "model.norm.weight",
                "lm_head.weight is tied to model.embed_tokens.weight: one of the two has to be there",
                "nothing that the trace needs is in it, this looks like the checkpoint of another model: \
                 record again with `python -m pycandle record FOLDER`, where FOLDER holds this model and \
                 its config.json",
            ],
        ),
        case(
            "rename_twice",
            &llama(2, "F16"),
            &[
                "rename rules make one name of several keys",
                "--> CASE/model.safetensors",
                "rename: model.layers.0.input_layernorm.weight and model.layers.1.input_layernorm.weight both become model.layers.input_layernorm.weight, by RULE",
                "rename: model.layers.0.mlp.down_proj.weight and model.layers.1.mlp.down_proj.weight both become model.layers.mlp.down_proj.weight, by RULE",
                "rename: model.layers.0.mlp.gate_proj.weight and model.layers.1.mlp.gate_proj.weight both become model.layers.mlp.gate_proj.weight, by RULE",
            ],
        )
        .renamed(&[(r"\.\d+\.", ".")])
        .ruled([
            r#"("\\.\\d+\\.", ".")"#,
            r#".rename("\\.\\d+\\.", ".")"#,
            r"--rename '\.\d+\.=.'",
        ]),
    ];
    cases.extend(fitting());
    cases.extend(forms::cases());
    cases.extend(names::cases());
    cases.extend(settings::cases());
    cases.extend(values::cases());
    cases
}

const AGAIN: &str = "take the checkpoint that was traced, or record again with `python -m pycandle \
    record FOLDER`, where FOLDER holds this model and its config.json";

/// Checkpoints that fit.
fn fitting() -> Vec<Case> {
    let slip = |name: &str| name.replace("down_proj", "down_prj");
    let larger = |name: &str| name.replace("layers.2", "adapter");
    let bare = |name: &str| name.replace("model.", "");
    vec![
        case("fits", &llama(2, "BF16"), &[]).strict(),
        case(
            "fits_tied",
            &kept(llama(2, "F16"), |name| name != "lm_head.weight"),
            &[],
        )
        .strict(),
        case("fits_larger", &named(llama(3, "F16"), larger), &[]),
        case("fits_config", &llama(2, "F16"), &[]).beside(&config(2)),
        case("fits_gguf", &Vec::new(), &[])
            .of_gguf("llama", "Q4_0")
            .strict(),
        case("fits_mended", &named(llama(2, "F16"), slip), &[]).renamed(&[(
            r"^model\.layers\.(\d+)\.mlp\.down_prj\.weight$",
            "model.layers.${1}.mlp.down_proj.weight",
        )]),
        case("fits_renamed", &named(llama(2, "F16"), bare), &[])
            .renamed(&[("^(embed_tokens|layers|norm)\\.", "model.${1}.")])
            .strict(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let cases = super::cases();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
    }
}
