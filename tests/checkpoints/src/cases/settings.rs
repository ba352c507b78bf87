//! Configs beside the weights that say something else than the trace.

use serde_json::{Value as Json, json};

use super::{Case, MANIFEST, blocks_with, case, llama, manifest};
use crate::Value;

const RECORD: &str = "take the checkpoint that was traced, or record again with `python -m pycandle \
    record CASE/`";

fn traced() -> Json {
    json!({
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "num_experts": 8,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "rope_theta": 10000.0,
        "layer_types": vec!["full_attention"; 100],
    })
}

/// Weights that fit, with a config in which these settings are others.
fn settings(name: &'static str, others: &Json, report: &[&'static str]) -> Case {
    let mut beside = traced();
    for (key, value) in others.as_object().into_iter().flatten() {
        beside[key] = value.clone();
    }
    case(name, &llama(2, "F16"), report)
        .with(MANIFEST, manifest(&llama(2, "F32"), &traced()))
        .beside(&beside)
}

/// A GGUF of this architecture that says this of the model.
fn of_gguf(
    name: &'static str,
    architecture: &'static str,
    more: &[(&'static str, Value)],
    report: &[&'static str],
) -> Case {
    let mut case =
        case(name, &Vec::new(), report).with("model.gguf", blocks_with(architecture, "Q8_0", more));
    case.weights = "model.gguf";
    case
}

pub(super) fn cases() -> Vec<Case> {
    let mut types = vec!["full_attention"; 100];
    types[3] = "sliding_attention";
    types[7] = "sliding_attention";
    vec![
        settings(
            "config_experts",
            &json!({"num_experts": 4}),
            &[
                "config: num_experts is 4 in CASE/config.json, 8 in the trace",
                "this looks like a 4-expert checkpoint and an 8-expert trace: record again with `python \
                 -m pycandle record CASE/`",
            ],
        ),
        settings(
            "config_hidden_size",
            &json!({"hidden_size": 64}),
            &[
                "config: hidden_size is 64 in CASE/config.json, 32 in the trace",
                "this looks like a 64-wide checkpoint and a 32-wide trace: record again with `python -m \
                 pycandle record CASE/`",
            ],
        ),
        settings(
            "config_heads",
            &json!({"num_attention_heads": 8, "num_key_value_heads": 4}),
            &[
                "config: num_attention_heads is 8 in CASE/config.json, 4 in the trace",
                "config: num_key_value_heads is 4 in CASE/config.json, 2 in the trace",
                RECORD,
            ],
        ),
        settings(
            "config_vocabulary",
            &json!({"vocab_size": 128}),
            &[
                "config: vocab_size is 128 in CASE/config.json, 64 in the trace",
                "this looks like a 128-token checkpoint and a 64-token trace: record again with `python \
                 -m pycandle record CASE/`",
            ],
        ),
        settings(
            "config_lists",
            &json!({ "layer_types": types }),
            &[
                "config: layer_types[3] is \"sliding_attention\" in CASE/config.json, \
                 \"full_attention\" in the trace, and 1 more of its 100 entries differ",
                RECORD,
            ],
        ),
        settings(
            "config_origin",
            &json!({"architectures": ["LlamaModel"], "rms_norm_eps": 1e-6, "rope_theta": 5e5}),
            &[
                "config: rope_theta is 500000.0 in CASE/config.json, 10000.0 in the trace",
                "origin: architectures are [\"LlamaModel\"] in CASE/config.json, \
                 [\"LlamaForCausalLM\"] in the trace",
                RECORD,
            ],
        ),
        settings(
            "config_rope",
            &json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
            &[
                "config: rope_type is \"llama3\" in CASE/config.json, \"default\" in the trace",
                RECORD,
            ],
        ),
        of_gguf(
            "config_of_gguf",
            "granite",
            &[("granite.residual_scale", Value::Float(0.22))],
            &[
                "config: model_type is \"granite\" in CASE/model.gguf, \"llama\" in the trace",
                "config: residual_multiplier is 0.22 in CASE/model.gguf, 1.0 in the trace",
                "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: ok",
                "this looks like a `granite` checkpoint and a `llama` trace: record again with `python \
                 -m pycandle record FOLDER`, where FOLDER holds this model and its config.json",
            ],
        ),
        of_gguf(
            "config_added_by_gguf",
            "llama",
            &[
                ("llama.attention.clamp_kqv", Value::Float(8.0)),
                ("llama.attention.sliding_window", Value::Integer(16)),
            ],
            &[
                "config: clip_qkv is 8.0 in CASE/model.gguf, null in the trace",
                "config: sliding_window is 16 in CASE/model.gguf, null in the trace",
                "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: ok",
                "take the checkpoint that was traced, or record again with `python -m pycandle record \
                 FOLDER`, where FOLDER holds this model and its config.json",
            ],
        ),
        settings(
            "fits_origin",
            &json!({"architectures": ["LlamaModel"], "use_cache": false}),
            &[],
        ),
    ]
}
