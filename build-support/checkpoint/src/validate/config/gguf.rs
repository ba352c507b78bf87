//! The settings in a GGUF's metadata, by the names of a config.

use serde_json::{Map, Value as Json, json};

use super::{Difference, TEXT, is_same};
use crate::header::Value;
use crate::open::Checkpoint;
use crate::validate::gguf::{architecture, metadata, model_types};

/// Models have fewer layers.
const MAX_LAYERS: u64 = 1 << 12;

/// The facts that a GGUF says of itself, for a trace that says this; `None` of other files.
pub(super) fn facts(
    checkpoint: &Checkpoint,
    trace: &Map<String, Json>,
) -> Option<Map<String, Json>> {
    if !checkpoint.is_gguf() {
        return None;
    }
    let mut facts = Map::new();
    let Some(architecture) = architecture(checkpoint) else {
        return Some(facts);
    };
    let get = |key: &str| get(checkpoint, key);
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
    add("model_type", model_type(architecture, trace));
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
    add("routed_scaling_factor", get("expert_weights_scale"));
    // Models have the one or the other.
    let names = ["logits_scaling", "logit_scale"];
    let name = names.iter().find(|name| trace.contains_key(**name));
    add(name.unwrap_or(&names[1]), get("logit_scale"));
    add("sliding_window", window(checkpoint, trace));
    let rope = rope(checkpoint, trace);
    add(
        "rope_parameters",
        (!rope.is_empty()).then_some(Json::Object(rope)),
    );
    Some(facts)
}

fn get(checkpoint: &Checkpoint, key: &str) -> Option<Json> {
    match metadata(checkpoint, key)? {
        Value::Integer(0) => None,
        Value::Integer(value) => Some(json!(i64::try_from(*value).ok()?)),
        Value::Float(value) => Some(json!(shortest(*value))),
        Value::Text(text) => Some(json!(text)),
        Value::Bool(value) => Some(json!(value)),
        Value::Array(_) => None,
    }
}

/// The number that was meant by one that was stored in 32 bits: 0.22, not 0.2199999988079071.
fn shortest(value: f64) -> f64 {
    let stored = value as f32;
    let meant = stored.to_string().parse();
    match f64::from(stored) == value {
        true => meant.unwrap_or(value),
        false => value,
    }
}

/// The kind of model that the file is of: the trace's where models of it, or of its language model,
/// become files of this architecture, and otherwise the usual one.
fn model_type(architecture: &str, trace: &Map<String, Json>) -> Option<Json> {
    let types = model_types(architecture);
    let traced = trace.get("model_type");
    let texts = TEXT
        .iter()
        .filter_map(|key| trace.get(*key)?.get("model_type"));
    let mut all = traced.into_iter().chain(texts).filter_map(Json::as_str);
    match all.any(|name| types.contains(&name)) {
        true => traced.cloned(),
        false => types.first().map(|name| json!(name)),
    }
}

/// Positions that attention reaches back; a window that holds all that the file is for is none, unless
/// the trace has one too.
fn window(checkpoint: &Checkpoint, trace: &Map<String, Json>) -> Option<Json> {
    let told = trace.get("sliding_window").and_then(Json::as_f64);
    match metadata(checkpoint, "attention.sliding_window")? {
        Value::Integer(0) => Some(Json::Null),
        Value::Integer(window) => {
            let context = match metadata(checkpoint, "context_length") {
                Some(Value::Integer(context)) => *context,
                _ => i128::MAX,
            };
            let window = (told.is_some() || *window < context).then_some(window);
            Some(json!(i64::try_from(*window?).ok()?))
        }
        _ => None,
    }
}

/// Rotary embedding.
fn rope(checkpoint: &Checkpoint, trace: &Map<String, Json>) -> Map<String, Json> {
    let get = |key: &str| get(checkpoint, key);
    let mut rope = Map::new();
    let mut add = |name: &str, value: Option<Json>| {
        rope.extend(value.map(|value| (name.to_owned(), value)));
    };
    add(
        PARTIAL.1,
        partial(checkpoint, trace).map(|part| json!(part)),
    );
    let theta = get("rope.freq_base");
    // Where nothing is said, llama.cpp turns by what the first of these models did.
    let told = trace.get(PARTIAL.0).and_then(|rope| rope.get("rope_theta"));
    let unsaid = told.filter(|told| told.is_number() && theta.is_none());
    add("rope_theta", unsaid.map(|_| json!(10000.0)));
    if theta.is_some() {
        add("rope_theta", theta);
        add("rope_type", kind(checkpoint).map(|kind| json!(kind)));
        add("factor", get("rope.scaling.factor"));
        let context = get("rope.scaling.original_context_length");
        add("original_max_position_embeddings", context);
    }
    rope
}

/// The part of a head that is rotated, where it is another than the trace's.
fn partial(checkpoint: &Checkpoint, trace: &Map<String, Json>) -> Option<f64> {
    let number = |key: &str| get(checkpoint, key)?.as_f64();
    // Latent attention rotates dimensions of its own.
    if number("attention.kv_lora_rank").is_some() {
        return None;
    }
    let rotated = number("rope.dimension_count")?;
    let width = head_dim(checkpoint, trace)?;
    let told = trace.get(PARTIAL.0).and_then(Json::as_object);
    // Where types of layers differ in it, the file has one for some of them.
    if told.is_some_and(|told| told.values().any(Json::is_object)) {
        return None;
    }
    let told = told
        .and_then(|told| told.get(PARTIAL.1)?.as_f64())
        .unwrap_or(1.0);
    ((told * width).floor() != rotated).then(|| rotated / width)
}

const PARTIAL: (&str, &str) = ("rope_parameters", "partial_rotary_factor");

/// How wide a head is; where the file does not say, it is as in the trace.
fn head_dim(checkpoint: &Checkpoint, trace: &Map<String, Json>) -> Option<f64> {
    let told = |name: &str| trace.get(name).and_then(Json::as_f64);
    let own = |key: &str| get(checkpoint, key)?.as_f64();
    let ratio = |whole: Option<f64>, heads: Option<f64>| Some((whole? / heads?).floor());
    let traced = || ratio(told("hidden_size"), told("num_attention_heads"));
    let all = || ratio(own("embedding_length"), own("attention.head_count"));
    let width = own("attention.key_length").or_else(|| told("head_dim"));
    width
        .or_else(traced)
        .or_else(all)
        .filter(|width| *width >= 1.0)
}

/// What a trace says, with what follows from it by other names: of the factors that some models make
/// of their sizes.
pub(super) fn told(trace: &Map<String, Json>) -> Map<String, Json> {
    let number = |name: &str| trace.get(name).and_then(Json::as_f64);
    let residual = || Some(number("scale_depth")? / number("num_hidden_layers")?.sqrt());
    let logits = || Some(number("hidden_size")? / number("dim_model_base")?);
    let mut told = trace.clone();
    for (name, value) in [
        ("residual_multiplier", residual()),
        ("logits_scaling", logits()),
    ] {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            told.entry(name).or_insert_with(|| json!(value));
        }
    }
    told
}

/// Settings that change what is computed as soon as they are there, and what they are where a model
/// does not have them.
const ADDED: &[(&str, Option<f64>)] = &[
    ("clip_qkv", None),
    ("attn_logit_softcapping", None),
    ("final_logit_softcapping", None),
    ("attention_multiplier", None),
    ("sliding_window", None),
    ("embedding_multiplier", Some(1.0)),
    ("residual_multiplier", Some(1.0)),
    ("logit_scale", Some(1.0)),
    ("routed_scaling_factor", Some(1.0)),
];

/// What a GGUF says of which the trace does not speak, and without which the model would compute
/// something else.
pub(super) fn added(
    checkpoint: &Checkpoint,
    trace: &Map<String, Json>,
    file: &Map<String, Json>,
) -> Vec<Difference> {
    // Attention is scaled by the width of its heads, or by what stands for it.
    let told = trace.get("query_pre_attn_scalar").and_then(Json::as_f64);
    let usual = told.or_else(|| head_dim(checkpoint, trace));
    let usual = usual.map(|width| json!(width.sqrt().recip()));
    let is_usual = |name: &str, value: &Json| {
        name == "attention_multiplier" && usual.as_ref().is_some_and(|usual| is_same(usual, value))
    };
    let added = ADDED.iter().filter_map(|(name, neutral)| {
        let value = file.get(*name).filter(|_| !trace.contains_key(*name))?;
        let neutral = neutral.map_or(Json::Null, |neutral| json!(neutral));
        let off = value.is_null() || value.as_f64() == Some(0.0);
        let differs = !off && !is_same(&neutral, value) && !is_usual(name, value);
        differs.then(|| ((*name).to_owned(), value.clone(), neutral))
    });
    let rope = |facts: &Map<String, Json>| facts.get(PARTIAL.0)?.get(PARTIAL.1).cloned();
    let partial = rope(file).filter(|_| rope(trace).is_none());
    let partial = partial.map(|value| (format!("{}.{}", PARTIAL.0, PARTIAL.1), value, json!(1.0)));
    let all = added.chain(partial);
    all.map(|(name, file, trace)| Difference { name, file, trace })
        .collect()
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
