//! Names that are not those of the trace, where nothing or several things may be meant.

use super::{AGAIN, Case, Tensors, case, config, kept, llama, named};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = renamed();
    cases.extend(ruled());
    cases.extend(adapters());
    cases
}

fn renamed() -> Vec<Case> {
    let wrapped = |name: &str| name.replace("mlp.", "mlp._checkpoint_wrapped_module.");
    let split = |name: &str| !name.contains("gate_proj");
    let mut pieces = kept(llama(2, "F16"), split);
    for layer in 0..2 {
        for part in ["a", "b"] {
            let name = format!("model.layers.{layer}.mlp.gate_{part}.weight");
            pieces.push((name, "F16", vec![48, 32]));
        }
    }
    vec![
        case(
            "renamed_module",
            &named(llama(2, "F16"), wrapped),
            &[
                "missing (4):",
                "model.layers.{0,1}.mlp.down_proj.weight",
                "model.layers.{0,1}.mlp.gate_proj.weight",
                "renamed: model.layers.0.mlp.gate_proj.weight may be called \
                 model.layers.0.mlp._checkpoint_wrapped_module.gate_proj.weight in the checkpoint, and 3 \
                 others in the same way: if so, add RULE",
            ],
        )
        .ruled([
            r#"rename = [("^model\\.layers\\.(\\d+)\\.mlp\\._checkpoint_wrapped_module\\.", "model.layers.${1}.mlp.")]"#,
            r#".rename("^model\\.layers\\.(\\d+)\\.mlp\\._checkpoint_wrapped_module\\.", "model.layers.${1}.mlp.")"#,
            r"--rename '^model\.layers\.(\d+)\.mlp\._checkpoint_wrapped_module\.=model.layers.${1}.mlp.'",
        ]),
        case(
            "missing_module",
            &named(llama(2, "F16"), |name| {
                name.replace("model.norm", "projector.norm")
            }),
            &["missing: model.norm.weight", AGAIN],
        ),
        case(
            "missing_pieces",
            &pieces,
            &[
                "missing (2): model.layers.{0,1}.mlp.gate_proj.weight",
                "in place of model.layers.0.mlp.gate_proj.weight there may be \
                 model.layers.0.mlp.gate_a.weight and model.layers.0.mlp.gate_b.weight, which loading \
                 does not put together",
                "the config is that of the trace, so these may be the names as they are stored, which the \
                 library renames when it loads them: record again with `python -m pycandle record CASE/`, \
                 without `--no-goldens`, and take the safetensors file with the model's names that it \
                 writes beside the manifest",
            ],
        )
        .beside(&config(2)),
    ]
}

/// Under rules that are right as far as they go, and of a part of the layers.
fn ruled() -> Vec<Case> {
    let slip = |name: &str| format!("net.{}", name.replace("model.norm", "model.norms"));
    let of_a_layer = |name: &str| match name.contains("layers.1.") {
        true => format!("module.{name}"),
        false => name.to_owned(),
    };
    vec![
        case(
            "renamed_after_rules",
            &named(llama(2, "F16"), slip),
            &[
                "missing: model.norm.weight",
                "renamed: model.norm.weight may be called net.model.norms.weight in the checkpoint: if \
                 so, add after those given RULE",
            ],
        )
        .renamed(&[(r"^net\.", "")])
        .ruled([
            r#"rename = [("^model\\.norms\\.weight$", "model.norm.weight")]"#,
            r#".rename("^model\\.norms\\.weight$", "model.norm.weight")"#,
            r"--rename '^model\.norms\.weight$=model.norm.weight'",
        ]),
        case(
            "tied_renamed",
            &named(llama(2, "F16"), |name| name.replace("embed_tokens", "embed_token")),
            &[
                "renamed: model.embed_tokens.weight is absent, and may be called model.embed_token.weight in \
                 the checkpoint; lm_head.weight, to which it is tied in the trace, would stand for it: if \
                 so, add RULE",
                "if it is another tensor, rename it to a name that is none of the model's",
            ],
        )
        .ruled([
            r#"rename = [("^model\\.embed_token\\.weight$", "model.embed_tokens.weight")]"#,
            r#".rename("^model\\.embed_token\\.weight$", "model.embed_tokens.weight")"#,
            r"--rename '^model\.embed_token\.weight$=model.embed_tokens.weight'",
        ]),
        case("fits_after_rules", &named(llama(2, "F16"), slip), &[]).renamed(&[
            (r"^net\.", ""),
            (r"^model\.norms\.weight$", "model.norm.weight"),
        ]),
        case(
            "prefix_after_rules",
            &named(llama(2, "F16"), |name| format!("net.{name}")),
            &[
                "prefix: after the renames given, 8 keys lack the `model.` that the trace expects: add \
                 after those given RULE",
                "everything else fits",
            ],
        )
        .renamed(&[(r"^net\.(model\.)?", "")])
        .ruled([
            r#"rename = [("^(embed_tokens|layers|norm)\\.", "model.${1}.")]"#,
            r#".rename("^(embed_tokens|layers|norm)\\.", "model.${1}.")"#,
            r"--rename '^(embed_tokens|layers|norm)\.=model.${1}.'",
        ]),
        case(
            "renamed_of_a_layer",
            &named(llama(2, "F16"), of_a_layer),
            &[
                "missing (3): model.layers.1.* (3 keys)",
                "renamed: model.layers.1.input_layernorm.weight may be called \
                 module.model.layers.1.input_layernorm.weight in the checkpoint, and 2 others in the same \
                 way: if so, add RULE",
            ],
        )
        .ruled([
            r#"rename = [("^module\\.", "")]"#,
            r#".rename("^module\\.", "")"#,
            r"--rename '^module\.='",
        ]),
    ]
}

fn adapters() -> Vec<Case> {
    let parts: Tensors = [("lora_A", vec![4, 32]), ("lora_B", vec![96, 4])]
        .into_iter()
        .map(|(part, shape)| {
            let name = format!("base_model.model.model.layers.0.mlp.gate_proj.{part}.weight");
            (name, "F32", shape)
        })
        .collect();
    vec![
        case(
            "converted_adapter_file",
            &[llama(2, "F16"), parts.clone()].concat(),
            &[
                "converted (2): base_model.model.model.layers.0.* (2 keys)",
                "these are of a LoRA adapter, which loading does not add to the weights: load it on the \
                 model with PEFT, call `merge_and_unload()` and save the model again",
            ],
        ),
        case(
            "missing_adapter",
            &parts,
            &[
                "missing (9):",
                "lm_head.weight",
                "model.embed_tokens.weight",
                "model.layers.{0,1}.* (3 keys each)",
                "model.norm.weight",
                "lm_head.weight is tied to model.embed_tokens.weight: one of the two has to be there",
                "this is a LoRA adapter, not the model that it is for: load it on its model with PEFT, \
                 call `merge_and_unload()`, save the model again, and take that",
            ],
        ),
    ]
}
