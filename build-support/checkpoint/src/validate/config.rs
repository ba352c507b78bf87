//! `config.json` beside the weights, or a GGUF's metadata, held against the config of the trace.
//!
//! Only what changes the numbers that a model computes is compared, and only what both sides say.

use serde_json::{Map, Value as Json, json};

use super::Expected;
use super::mismatch::{Class, Finding, path};
use crate::header::Value;
use crate::open::Checkpoint;

/// What is compared: its usual name, and other names that models give it.
const NAMES: &[(&str, &[&str])] = &[
    ("num_hidden_layers", &["n_layer", "n_layers", "num_layers"]),
    ("encoder_layers", &[]),
    ("decoder_layers", &["num_decoder_layers"]),
    (
        "num_experts",
        &["num_local_experts", "n_routed_experts", "moe_num_experts"],
    ),
    (
        "num_experts_per_tok",
        &["num_experts_per_token", "moe_top_k"],
    ),
    ("hidden_size", &["n_embd", "d_model", "n_embed", "dim"]),
    (
        "intermediate_size",
        &[
            "n_inner",
            "ffn_dim",
            "d_ff",
            "ffn_hidden_size",
            "hidden_dim",
        ],
    ),
    ("moe_intermediate_size", &[]),
    ("num_attention_heads", &["n_head", "n_heads", "num_heads"]),
    (
        "num_key_value_heads",
        &["n_head_kv", "n_kv_heads", "num_kv_heads"],
    ),
    ("encoder_attention_heads", &[]),
    ("decoder_attention_heads", &[]),
    ("head_dim", &["d_kv"]),
    ("vocab_size", &["padded_vocab_size"]),
    ("type_vocab_size", &[]),
    ("image_size", &[]),
    ("patch_size", &[]),
    ("sliding_window", &[]),
    ("layer_types", &[]),
    ("partial_rotary_factor", &["rotary_pct"]),
    ("rms_norm_eps", &["norm_eps"]),
    (
        "layer_norm_eps",
        &["layer_norm_epsilon", "layernorm_epsilon", "norm_epsilon"],
    ),
    (
        "hidden_act",
        &["activation_function", "hidden_activation", "activation"],
    ),
    ("tie_word_embeddings", &[]),
    ("norm_topk_prob", &[]),
    ("routed_scaling_factor", &[]),
    ("first_k_dense_replace", &[]),
    ("attn_logit_softcapping", &[]),
    ("final_logit_softcapping", &[]),
    ("query_pre_attn_scalar", &[]),
    ("logit_scale", &[]),
    ("attention_multiplier", &[]),
    ("embedding_multiplier", &[]),
    ("residual_multiplier", &[]),
    ("logits_scaling", &[]),
];

/// Rotary embedding, within `rope_parameters`; older configs have the first one outside.
const ROPE: &[(&str, &[&str])] = &[
    ("rope_theta", &["rotary_emb_base"]),
    ("rope_type", &["type"]),
    ("factor", &[]),
    ("original_max_position_embeddings", &[]),
    ("low_freq_factor", &[]),
    ("high_freq_factor", &[]),
    ("attention_factor", &[]),
    ("beta_fast", &[]),
    ("beta_slow", &[]),
    ("partial_rotary_factor", &[]),
];

/// Configs of the language model within that of a larger one; they are what the larger one is.
const TEXT: &[&str] = &["text_config", "llm_config", "language_config"];
/// Configs that are about something else than a part of the model.
const OTHERS: &[&str] = &[
    "quantization_config",
    "generation_config",
    "compression_config",
];
/// Configs within configs deeper than this are none.
const DEPTH: usize = 4;

/// The facts of a `config.json` that are compared, as JSON on one line; `None` where it is no JSON
/// object. The facts of facts are the facts.
///
/// ```
/// let config = r#"{"n_layer": 12, "n_embd": 768, "use_cache": true}"#;
/// let facts = pycandle_checkpoint::config_facts(config);
/// assert_eq!(facts.as_deref(), Some(r#"{"hidden_size":768,"num_hidden_layers":12}"#));
/// ```
pub fn config_facts(config: &str) -> Option<String> {
    parse(config).map(|facts| Json::Object(facts).to_string())
}

fn parse(config: &str) -> Option<Map<String, Json>> {
    match serde_json::from_str(config) {
        Ok(Json::Object(config)) => Some(facts(&config, DEPTH)),
        _ => None,
    }
}

fn facts(config: &Map<String, Json>, depth: usize) -> Map<String, Json> {
    let mut facts = Map::new();
    for key in ["model_type", "architectures", "_commit_hash"] {
        facts.extend(config.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    collect(config, NAMES, &mut facts);
    // A window that is switched off, or that is said to be none, are the same; one that is not
    // spoken of is not known.
    let off = config.get("use_sliding_window") == Some(&Json::Bool(false));
    if off || config.get("sliding_window") == Some(&Json::Null) {
        facts.insert("sliding_window".into(), Json::Null);
    }
    let rope = rope(config);
    if !rope.is_empty() {
        facts.insert("rope_parameters".into(), Json::Object(rope));
    }
    for (key, value) in config {
        let Some(inner) = value.as_object().filter(|_| depth > 0) else {
            continue;
        };
        let text = TEXT.contains(&&**key);
        if !key.ends_with("_config") || OTHERS.contains(&&**key) {
            continue;
        }
        let mut inner = self::facts(inner, depth - 1);
        if text {
            let own = inner.remove("model_type");
            inner.remove("architectures");
            facts.extend(inner);
            inner = own
                .into_iter()
                .map(|own| ("model_type".to_owned(), own))
                .collect();
        }
        if !inner.is_empty() {
            facts.insert(key.clone(), Json::Object(inner));
        }
    }
    facts
}

/// What is there under one of its names, by its usual name.
fn collect(from: &Map<String, Json>, names: &[(&str, &[&str])], into: &mut Map<String, Json>) {
    for (name, others) in names {
        let mut all = [*name].into_iter().chain(others.iter().copied());
        let value = all.find_map(|name| from.get(name).filter(|value| !value.is_null()));
        into.extend(value.map(|value| ((*name).to_owned(), value.clone())));
    }
}

/// Rotary embedding; where layers differ in it, by the type of layer.
fn rope(config: &Map<String, Json>) -> Map<String, Json> {
    let mut rope = Map::new();
    collect(config, &ROPE[..1], &mut rope);
    let told = ["rope_parameters", "rope_scaling"];
    let objects = told.iter().filter_map(|key| config.get(*key)?.as_object());
    for object in objects {
        collect(object, ROPE, &mut rope);
        for (key, inner) in object {
            if let Some(inner) = inner.as_object() {
                let mut by_type = Map::new();
                collect(inner, ROPE, &mut by_type);
                rope.insert(key.clone(), Json::Object(by_type));
            }
        }
    }
    let by_type = rope.values().any(Json::is_object);
    if rope.contains_key("rope_theta") && !by_type {
        rope.entry("rope_type").or_insert_with(|| json!("default"));
    }
    rope
}

/// What the two sides say differently of one thing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub name: String,
    pub file: Json,
    pub trace: Json,
}

/// Where the config of the trace and that of the weights differ.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub differences: Vec<Difference>,
    pub findings: Vec<Finding>,
    /// Whether there is a `config.json` from which to record again.
    pub has_config: bool,
}

/// Holds the config of the trace against what is beside, or in, the weights.
pub(super) fn compare(expected: &Expected<'_>, checkpoint: &Checkpoint) -> Compared {
    let mut compared = Compared::default();
    let Some(trace) = expected.config.and_then(parse) else {
        return compared;
    };
    let place = place(checkpoint);
    let text = match checkpoint.config() {
        Ok(text) => text,
        Err(error) => {
            let line = format!("origin: config not compared: {error}");
            compared
                .findings
                .push(Finding::new(Class::Origin, 1, [line]));
            None
        }
    };
    let mut file = Map::new();
    if let Some(text) = text {
        match parse(&text) {
            Some(facts) => {
                compared.has_config = true;
                file = facts;
            }
            None => {
                let line = format!("origin: {place} is no JSON object, and was not compared");
                compared
                    .findings
                    .push(Finding::new(Class::Origin, 1, [line]));
            }
        }
    }
    // What a file says of itself comes before what lies beside it.
    let (mut file, place) = match of_gguf(checkpoint) {
        Some(facts) => (facts, path(checkpoint.shown())),
        None => (file, place),
    };
    file = section_of(&trace, file);
    differences(&trace, &file, "", &mut compared.differences);
    if !compared.differences.is_empty() {
        let lines = compared.differences.iter().map(|d| {
            format!(
                "config: {} is {} in {place}, {} in the trace",
                d.name, d.file, d.trace
            )
        });
        let finding = Finding::new(Class::Config, compared.differences.len(), lines);
        compared.findings.push(finding);
    }
    compared
        .findings
        .extend(revision(&trace, &file, checkpoint));
    if let (Some(trace), Some(file)) = (trace.get("architectures"), file.get("architectures"))
        && trace != file
    {
        let line = format!("origin: architectures are {file} in {place}, {trace} in the trace");
        compared
            .findings
            .push(Finding::new(Class::Origin, 1, [line]));
    }
    compared
}

/// `weights/config.json`, or the snapshot that holds what was in it.
fn place(checkpoint: &Checkpoint) -> String {
    let shown = checkpoint.shown();
    match (checkpoint.is_snapshot(), checkpoint.path().is_dir()) {
        (true, _) => path(shown),
        (_, true) => path(&shown.join("config.json")),
        (_, false) => path(&shown.with_file_name("config.json")),
    }
}

/// The part of a config that the trace is of: of a model of several parts, one may have been traced.
fn section_of(trace: &Map<String, Json>, mut file: Map<String, Json>) -> Map<String, Json> {
    let Some(kind) = trace.get("model_type") else {
        return file;
    };
    let is_kind = |config: &Map<String, Json>| config.get("model_type") == Some(kind);
    if is_kind(&file) {
        return file;
    }
    let sections = file
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_object()?)));
    let section = sections.into_iter().find(|(_, config)| is_kind(config));
    match section.map(|(key, config)| (TEXT.contains(&&**key), config.clone())) {
        // A language model's facts are those of the whole.
        Some((true, _)) => {
            file.remove("model_type");
            file.remove("architectures");
            file
        }
        Some((false, config)) => config,
        None => file,
    }
}

fn differences(
    trace: &Map<String, Json>,
    file: &Map<String, Json>,
    within: &str,
    found: &mut Vec<Difference>,
) {
    let order = |key: &str| NAMES.iter().position(|(name, _)| *name == key);
    let mut keys: Vec<&String> = trace.keys().filter(|key| file.contains_key(*key)).collect();
    // The number of layers first: it says most.
    keys.sort_by_key(|key| (order(key).is_none() && *key != "model_type", order(key)));
    for key in keys {
        let (ours, theirs) = (&trace[key], &file[key]);
        let name = match (within, &**key) {
            ("", key) => key.to_owned(),
            ("rope_parameters", key) if key.starts_with("rope_") => key.to_owned(),
            (within, key) => format!("{within}.{key}"),
        };
        match (ours, theirs) {
            (Json::Object(ours), Json::Object(theirs)) => differences(ours, theirs, &name, found),
            _ if matches!(&**key, "architectures" | "_commit_hash") => {}
            _ if is_same(ours, theirs) => {}
            _ => found.push(Difference {
                name,
                file: theirs.clone(),
                trace: ours.clone(),
            }),
        }
    }
}

/// Whether two values mean the same; a GGUF has its numbers in 32 bits.
fn is_same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()),
            _ => a == b,
        },
        (Json::String(a), Json::String(b)) => usual(a) == usual(b),
        _ => a == b,
    }
}

/// The usual name of what has several: activations, kinds of rotary embedding.
fn usual(name: &str) -> &str {
    match name {
        "swish" => "silu",
        "gelu_new" | "gelu_fast" | "gelu_python_tanh" | "gelu_pytorch_tanh" => "gelu_tanh",
        "su" => "longrope",
        name => name,
    }
}

/// Another commit of the same repository: `_commit_hash` on both sides, or a folder of the hub's
/// cache (`snapshots/COMMIT`) against that of the trace. Versions of libraries show nothing: files
/// are written again without changing.
fn revision(
    trace: &Map<String, Json>,
    file: &Map<String, Json>,
    checkpoint: &Checkpoint,
) -> Option<Finding> {
    let traced = trace.get("_commit_hash")?.as_str()?;
    let own = file.get("_commit_hash").and_then(Json::as_str);
    let stored = own.map(str::to_owned).or_else(|| {
        let mut parts = checkpoint.path().iter().filter_map(|part| part.to_str());
        let commit = parts
            .find(|part| *part == "snapshots")
            .and_then(|_| parts.next())?;
        let is_hash = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then(|| commit.to_owned())
    })?;
    (stored != traced).then(|| {
        let line = format!(
            "revision: the weights are of commit {stored}, the trace of {traced}: take both from one"
        );
        Finding::new(Class::Revision, 1, [line])
    })
}

/// The facts in a GGUF's metadata, by the names of a config.
fn of_gguf(checkpoint: &Checkpoint) -> Option<Map<String, Json>> {
    if !checkpoint.is_gguf() {
        return None;
    }
    let mut facts = Map::new();
    let Some(architecture) = super::gguf::architecture(checkpoint) else {
        return Some(facts);
    };
    let get = |key: &str| match checkpoint.metadata(&format!("{architecture}.{key}"))? {
        Value::Integer(0) => None,
        Value::Integer(value) => Some(json!(i64::try_from(*value).ok()?)),
        Value::Float(value) => Some(json!(value)),
        Value::Text(text) => Some(json!(text)),
        Value::Bool(value) => Some(json!(value)),
        Value::Array(_) => None,
    };
    let mut add = |name: &str, value: Option<Json>| {
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    // Layers that predict further tokens are counted among the blocks.
    let further = get("nextn_predict_layers").and_then(|n| n.as_i64());
    let blocks = get("block_count").and_then(|n| n.as_i64());
    add(
        "num_hidden_layers",
        blocks.map(|n| json!(n - further.unwrap_or(0))),
    );
    add("hidden_size", get("embedding_length"));
    add("num_attention_heads", get("attention.head_count"));
    add("num_experts", get("expert_count"));
    add("num_experts_per_tok", get("expert_used_count"));
    add("moe_intermediate_size", get("expert_feed_forward_length"));
    add("vocab_size", get("vocab_size"));
    add("rms_norm_eps", get("attention.layer_norm_rms_epsilon"));
    add("layer_norm_eps", get("attention.layer_norm_epsilon"));
    // Latent attention counts its heads in another way.
    if get("attention.kv_lora_rank").is_none() {
        add("num_key_value_heads", get("attention.head_count_kv"));
        add("head_dim", get("attention.key_length"));
    }
    // A kind of rotary embedding without a name of its own stands in a table of factors.
    let theta = get("rope.freq_base").map(|theta| json!({"rope_theta": theta}));
    add("rope_parameters", theta);
    Some(facts)
}

#[cfg(test)]
mod tests;
