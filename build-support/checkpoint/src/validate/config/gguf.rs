//! The settings in a GGUF's metadata, by the names of a config.

use serde_json::{Map, Value as Json, json};

use crate::header::Value;
use crate::open::Checkpoint;
use crate::validate::gguf::{architecture, metadata};

/// Models have fewer layers.
const MAX_LAYERS: u64 = 1 << 12;

/// The facts that a GGUF says of itself; `None` of other files.
pub(super) fn facts(checkpoint: &Checkpoint) -> Option<Map<String, Json>> {
    if !checkpoint.is_gguf() {
        return None;
    }
    let mut facts = Map::new();
    if architecture(checkpoint).is_none() {
        return Some(facts);
    }
    let get = |key: &str| match metadata(checkpoint, key)? {
        Value::Integer(0) => None,
        Value::Integer(value) => Some(json!(i64::try_from(*value).ok()?)),
        Value::Float(value) => Some(json!(value)),
        Value::Text(text) => Some(json!(text)),
        Value::Bool(value) => Some(json!(value)),
        Value::Array(_) => None,
    };
    let heads = |key: &str| match metadata(checkpoint, key)? {
        // One that is not the same throughout.
        Value::Array(layers @ 2..=MAX_LAYERS) => Some(vec![Json::Null; *layers as usize].into()),
        _ => get(key),
    };
    let mut add = |name: &str, value: Option<Json>| {
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    // Layers that predict further tokens are counted among the blocks.
    let further = get("nextn_predict_layers").and_then(|n| n.as_i64());
    let blocks = get("block_count").and_then(|n| n.as_i64());
    let blocks = blocks.and_then(|n| n.checked_sub(further.unwrap_or(0)));
    add("num_hidden_layers", blocks.map(|n| json!(n)));
    add("hidden_size", get("embedding_length"));
    add("num_attention_heads", heads("attention.head_count"));
    add("num_experts", get("expert_count"));
    add("num_experts_per_tok", get("expert_used_count"));
    add("moe_intermediate_size", get("expert_feed_forward_length"));
    add("vocab_size", get("vocab_size"));
    add("rms_norm_eps", get("attention.layer_norm_rms_epsilon"));
    add("layer_norm_eps", get("attention.layer_norm_epsilon"));
    // Latent attention counts its heads in another way.
    if get("attention.kv_lora_rank").is_none() {
        add("num_key_value_heads", heads("attention.head_count_kv"));
        add("head_dim", get("attention.key_length"));
    }
    add("clip_qkv", get("attention.clamp_kqv"));
    add("attn_logit_softcapping", get("attn_logit_softcapping"));
    add("final_logit_softcapping", get("final_logit_softcapping"));
    add("attention_multiplier", get("attention.scale"));
    add("embedding_multiplier", get("embedding_scale"));
    add("residual_multiplier", get("residual_scale"));
    // Models have the one or the other.
    add("logit_scale", get("logit_scale"));
    add("logits_scaling", get("logit_scale"));
    if let Some(theta) = get("rope.freq_base") {
        let mut rope = Map::from_iter([("rope_theta".to_owned(), theta)]);
        rope.extend(kind(checkpoint).map(|kind| ("rope_type".to_owned(), json!(kind))));
        let others = [
            ("factor", "rope.scaling.factor"),
            (
                "original_max_position_embeddings",
                "rope.scaling.original_context_length",
            ),
        ];
        for (name, key) in others {
            rope.extend(get(key).map(|value| (name.to_owned(), value)));
        }
        add("rope_parameters", Some(Json::Object(rope)));
    }
    Some(facts)
}

/// The kind of rotary embedding: by its name or, where llama.cpp has none for it, by the table of its
/// factors. A file with neither need not be of the usual kind: old ones left the table out.
fn kind(checkpoint: &Checkpoint) -> Option<&str> {
    let named = metadata(checkpoint, "rope.scaling.type").and_then(Value::as_text);
    let tables = [
        ("rope_freqs.weight", "llama3"),
        ("rope_factors_long.weight", "longrope"),
    ];
    let mut tables = tables.into_iter();
    let table = tables.find(|(key, _)| checkpoint.get(key).is_some());
    named
        .filter(|name| *name != "none")
        .or(table.map(|(_, kind)| kind))
}

/// Whether it stands for values that differ from layer to layer.
pub(super) fn is_per_layer(value: &Json) -> bool {
    let items = value.as_array().filter(|items| !items.is_empty());
    items.is_some_and(|items| items.iter().all(Json::is_null))
}
