use super::*;
use crate::{Origin, Snapshot, Value};

fn snapshot(config: &str) -> Checkpoint {
    let mut snapshot = Snapshot::default();
    snapshot.config(config);
    snapshot.into_checkpoint("w/lock.json".as_ref(), "w/lock.json".as_ref())
}

/// What is said of a trace with the one config and weights with the other.
fn lines(trace: &str, checkpoint: &Checkpoint) -> Vec<String> {
    let expected = Expected {
        config: Some(trace),
        ..Expected::DEFAULT
    };
    let compared = compare(&expected, checkpoint);
    compared
        .findings
        .into_iter()
        .flat_map(|f| f.lines)
        .map(|line| line.text)
        .collect()
}

#[track_caller]
fn check(trace: &str, file: &str, expected: &[&str]) {
    assert_eq!(lines(trace, &snapshot(file)), expected);
    // What generated code holds of the trace's config says the same.
    let facts = config_facts(trace).expect("an object");
    assert_eq!(lines(&facts, &snapshot(file)), expected);
    assert_eq!(config_facts(&facts), Some(facts));
}

#[test]
fn what_differs_is_shown_with_both_values() {
    check(
        r#"{"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 7}"#,
        r#"{"model_type": "llama", "n_layer": 16, "hidden_size": 2048, "vocab_size": 7}"#,
        &[
            "config: num_hidden_layers is 16 in w/lock.json, 32 in the trace",
            "config: hidden_size is 2048 in w/lock.json, 4096 in the trace",
        ],
    );
}

#[test]
fn what_no_shape_shows_is_compared() {
    for (setting, trace, file) in [
        ("rotary_dim", "64", "32"),
        ("rope_ratio", "1", "50"),
        ("sliding_window_pattern", "6", "2"),
        ("attention_window", "[512, 512]", "[256, 256]"),
        ("apply_residual_connection_post_layernorm", "false", "true"),
        ("position_buckets", "256", "128"),
        ("num_kv_shared_layers", "15", "10"),
        ("attn_temperature_tuning", "true", "false"),
    ] {
        let config = |value: &str| format!(r#"{{"{setting}": {value}}}"#);
        let lines = lines(&config(trace), &snapshot(&config(file)));
        assert_eq!(lines.len(), 1, "{setting}");
        assert!(
            lines[0].starts_with(&format!("config: {setting} is ")),
            "{lines:?}"
        );
    }
}

#[test]
fn what_means_the_same_is_no_difference() {
    for (trace, file) in [
        // What is not said on one side, or does not matter.
        (
            r#"{"num_hidden_layers": 2, "use_cache": true}"#,
            r#"{"use_cache": false}"#,
        ),
        (
            r#"{"num_key_value_heads": null}"#,
            r#"{"num_key_value_heads": 8}"#,
        ),
        // Other names, other ways to write a number.
        (
            r#"{"hidden_act": "silu"}"#,
            r#"{"activation_function": "swish"}"#,
        ),
        (
            r#"{"hidden_act": "gelu_pytorch_tanh"}"#,
            r#"{"hidden_act": "gelu_new"}"#,
        ),
        (r#"{"rope_theta": 10000}"#, r#"{"rope_theta": 10000.0}"#),
        (r#"{"mlp_only_layers": [1]}"#, r#"{"mlp_only_layers": []}"#),
        (
            r#"{"rope_parameters": {"rope_theta": 1, "partial_rotary_factor": 0.5}}"#,
            r#"{"rope_theta": 1, "rotary_pct": 0.5}"#,
        ),
        // Rotary embedding before and after it was one object.
        (
            r#"{"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}}"#,
            r#"{"rope_theta": 500000, "rope_scaling": {"type": "llama3", "factor": 8}}"#,
        ),
        (
            r#"{"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}"#,
            r#"{"rope_theta": 10000.0, "rope_scaling": null}"#,
        ),
        // A window that is not used.
        (
            r#"{"sliding_window": null}"#,
            r#"{"sliding_window": 4096, "use_sliding_window": false}"#,
        ),
        // A language model of a larger one, and the tower of one.
        (
            r#"{"model_type": "llama", "hidden_size": 8}"#,
            r#"{"model_type": "llava", "text_config": {"model_type": "llama", "hidden_size": 8}}"#,
        ),
        (
            r#"{"model_type": "clip_vision_model", "hidden_size": 4}"#,
            r#"{"model_type": "llava", "hidden_size": 8,
                "vision_config": {"model_type": "clip_vision_model", "hidden_size": 4}}"#,
        ),
    ] {
        check(trace, file, &[]);
    }
}

#[test]
fn rotary_embedding_and_parts_of_a_model_are_compared() {
    check(
        r#"{"rope_theta": 10000, "vision_config": {"hidden_size": 4}, "sliding_window": null,
            "tie_word_embeddings": true}"#,
        r#"{"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn"}, "sliding_window": 512,
            "vision_config": {"hidden_size": 5}, "tie_word_embeddings": false}"#,
        &[
            "config: sliding_window is 512 in w/lock.json, null in the trace",
            "config: tie_word_embeddings is false in w/lock.json, true in the trace",
            "config: rope_theta is 1000000.0 in w/lock.json, 10000 in the trace",
            "config: rope_type is \"yarn\" in w/lock.json, \"default\" in the trace",
            "config: vision_config.hidden_size is 5 in w/lock.json, 4 in the trace",
        ],
    );
}

#[test]
fn only_a_commit_shows_another_revision() {
    check(
        r#"{"_commit_hash": "abc", "transformers_version": "5.0"}"#,
        r#"{"_commit_hash": "def", "transformers_version": "4.0"}"#,
        &["revision: the weights are of commit def, the trace of abc: take both from one commit"],
    );
    check(
        r#"{"_commit_hash": "abc", "architectures": ["A"]}"#,
        r#"{"architectures": ["B"]}"#,
        &[r#"origin: architectures are ["B"] in w/lock.json, ["A"] in the trace"#],
    );
    // A folder of the hub's cache is named after the commit.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let path = format!("models--a--b/snapshots/{commit}/model.safetensors");
    let mut cached = Snapshot::default();
    cached.origin(Origin::of(path.as_ref()).expect("a commit"));
    let cached = cached.into_checkpoint("w/lock.json".as_ref(), "m".as_ref());
    let trace = format!(r#"{{"_commit_hash": "{commit}"}}"#);
    assert_eq!(lines(&trace, &cached), [""; 0]);
    assert_eq!(lines(r#"{"_commit_hash": "abc"}"#, &cached).len(), 1);
    // Commits of two repositories are not compared.
    let of = |name: &str| format!(r#"{{"_commit_hash": "abc", "_repository": "{name}"}}"#);
    assert_eq!(lines(&of("a/b"), &cached).len(), 1);
    assert_eq!(lines(&of("a/b-GGUF"), &cached), [""; 0]);
}

#[test]
fn odd_configs_are_no_mistake_of_the_weights() {
    check(
        "{}",
        "[1]",
        &["unread: w/lock.json is no JSON object, and was not compared"],
    );
    let deep = |n: usize| format!("{}1{}", r#"{"a_config": "#.repeat(n), "}".repeat(n));
    check(&deep(3), &deep(100), &[]);
    check(
        r#"{"hidden_size": [1]}"#,
        r#"{"hidden_size": {"a": 1}}"#,
        &[r#"config: hidden_size is {"a":1} in w/lock.json, [1] in the trace"#],
    );
}

#[test]
fn the_metadata_of_a_gguf_is_compared() {
    let mut gguf = Snapshot::default();
    gguf.gguf(true);
    for (key, value) in [
        ("general.architecture", Value::Text("llama".into())),
        ("llama.block_count", Value::Integer(16)),
        ("llama.attention.head_count", Value::Array(16)),
        ("llama.attention.head_count_kv", Value::Array(16)),
        ("llama.final_logit_softcapping", Value::Float(30.0)),
        ("llama.rope.scaling.factor", Value::Float(4.0)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::Float(1e-5_f32.into()),
        ),
        ("llama.rope.freq_base", Value::Float(10000.0)),
    ] {
        gguf.metadata(key, value);
    }
    gguf.tensor("rope_freqs.weight", crate::Dtype::F32, &[4])
        .expect("a new name");
    let gguf = gguf.into_checkpoint("w/m.gguf".as_ref(), "w/m.gguf".as_ref());
    let trace = r#"{"model_type": "mistral", "num_hidden_layers": 32, "num_attention_heads": 8,
        "num_key_value_heads": [8, 4], "final_logit_softcapping": 50.0,
        "rms_norm_eps": 1e-5, "rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 4}}"#;
    let expected = [
        "config: num_hidden_layers is 16 in w/m.gguf, 32 in the trace",
        "config: num_attention_heads is not the same in every layer in w/m.gguf, 8 in the trace",
        "config: final_logit_softcapping is 30.0 in w/m.gguf, 50.0 in the trace",
        "config: rope_theta is 10000.0 in w/m.gguf, 1000000.0 in the trace",
        "config: rope_type is \"llama3\" in w/m.gguf, \"linear\" in the trace",
    ];
    assert_eq!(lines(trace, &gguf), expected);
}

/// What is said of a trace and a GGUF of an architecture with this metadata, of heads of 8.
#[track_caller]
fn check_gguf(trace: &str, architecture: &str, metadata: &[(&str, f64)], expected: &[&str]) {
    let mut gguf = Snapshot::default();
    gguf.gguf(true);
    gguf.metadata("general.architecture", Value::Text(architecture.into()));
    let sizes = [
        ("context_length", 64.0),
        ("embedding_length", 32.0),
        ("attention.head_count", 4.0),
    ];
    for (key, value) in sizes.iter().chain(metadata) {
        let value = match value.fract() == 0.0 {
            true => Value::Integer(*value as i128),
            false => Value::Float(*value),
        };
        gguf.metadata(&format!("{architecture}.{key}"), value);
    }
    let gguf = gguf.into_checkpoint("m.gguf".as_ref(), "m.gguf".as_ref());
    assert_eq!(lines(trace, &gguf), expected, "{trace} {architecture}");
    let facts = config_facts(trace).expect("an object");
    assert_eq!(lines(&facts, &gguf), expected, "{facts} {architecture}");
}

#[test]
fn the_architecture_of_a_gguf_is_a_kind_of_model() {
    for (kind, architecture) in [
        ("llama", "llama"),
        ("mistral", "llama"),
        ("mixtral", "llama"),
        ("distilbert", "bert"),
        ("cohere", "command-r"),
        ("olmo3", "olmo2"),
        // Of these it is not known, and their values are refused where they are used.
        ("llama", "brandnew"),
    ] {
        check_gguf(
            &format!(r#"{{"model_type": "{kind}"}}"#),
            architecture,
            &[],
            &[],
        );
    }
    let whole = r#"{"model_type": "llava", "text_config": {"model_type": "llama"}}"#;
    check_gguf(whole, "llama", &[], &[]);
    check_gguf("{}", "granite", &[], &[]);
    for (architecture, line) in [
        (
            "granite",
            r#"config: model_type is "granite" in m.gguf, "llama" in the trace"#,
        ),
        (
            "smollm3",
            r#"config: model_type is "smollm3" in m.gguf, "llama" in the trace"#,
        ),
        (
            "qwen2",
            r#"config: model_type is "qwen2" in m.gguf, "llama" in the trace"#,
        ),
    ] {
        check_gguf(r#"{"model_type": "llama"}"#, architecture, &[], &[line]);
    }
}

#[test]
fn what_a_gguf_adds_to_a_model_is_not_passed_over() {
    let llama = r#"{"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4,
        "rope_theta": 1e4}"#;
    for (key, value, line) in [
        (
            "residual_scale",
            0.5,
            "residual_multiplier is 0.5 in m.gguf, 1.0 in the trace",
        ),
        (
            "embedding_scale",
            12.0,
            "embedding_multiplier is 12 in m.gguf, 1.0 in the trace",
        ),
        (
            "attention.scale",
            0.1,
            "attention_multiplier is 0.1 in m.gguf, null in the trace",
        ),
        (
            "logit_scale",
            8.0,
            "logit_scale is 8 in m.gguf, 1.0 in the trace",
        ),
        (
            "expert_weights_scale",
            2.5,
            "routed_scaling_factor is 2.5 in m.gguf, 1.0 in the trace",
        ),
        (
            "attention.clamp_kqv",
            8.0,
            "clip_qkv is 8 in m.gguf, null in the trace",
        ),
        (
            "attn_logit_softcapping",
            50.0,
            "attn_logit_softcapping is 50 in m.gguf, null in the trace",
        ),
        (
            "final_logit_softcapping",
            30.0,
            "final_logit_softcapping is 30 in m.gguf, null in the trace",
        ),
        (
            "attention.sliding_window",
            16.0,
            "sliding_window is 16 in m.gguf, null in the trace",
        ),
        (
            "rope.dimension_count",
            4.0,
            "rope_parameters.partial_rotary_factor is 0.5 in m.gguf, 1.0 in the trace",
        ),
    ] {
        check_gguf(
            llama,
            "llama",
            &[(key, value)],
            &[&format!("config: {line}")],
        );
        // What is there and changes nothing.
        check_gguf(llama, "llama", &[(key, 0.0)], &[]);
    }
    for neutral in [
        ("residual_scale", 1.0),
        ("embedding_scale", 1.0),
        ("attention.scale", 8_f64.sqrt().recip()),
        ("logit_scale", 1.0),
        ("attention.sliding_window", 64.0),
        ("rope.dimension_count", 8.0),
    ] {
        check_gguf(llama, "llama", &[neutral], &[]);
    }
}

#[test]
fn what_a_trace_says_of_a_gguf_is_compared_by_either_name() {
    let granite =
        r#"{"model_type": "granite", "logits_scaling": 8.0, "residual_multiplier": 0.22}"#;
    let scales = [("logit_scale", 8.0), ("residual_scale", 0.22)];
    check_gguf(granite, "granite", &scales, &[]);
    let line = "config: logits_scaling is 4 in m.gguf, 8.0 in the trace";
    check_gguf(granite, "granite", &[("logit_scale", 4.0)], &[line]);
    check_gguf(
        r#"{"model_type": "cohere", "logit_scale": 0.5}"#,
        "command-r",
        &[("logit_scale", 0.5)],
        &[],
    );

    let minicpm = r#"{"model_type": "minicpm", "scale_emb": 12, "scale_depth": 1.5,
        "dim_model_base": 16, "hidden_size": 32, "num_hidden_layers": 4}"#;
    let scales = [
        ("embedding_scale", 12.0),
        ("residual_scale", 0.75),
        ("logit_scale", 2.0),
    ];
    check_gguf(minicpm, "minicpm", &scales, &[]);
    let line = "config: residual_multiplier is 0.5 in m.gguf, 0.75 in the trace";
    check_gguf(minicpm, "minicpm", &[("residual_scale", 0.5)], &[line]);

    let window = |window: &str| format!(r#"{{"model_type": "phi3", "sliding_window": {window}}}"#);
    let told = [("attention.sliding_window", 16.0)];
    check_gguf(&window("16"), "phi3", &told, &[]);
    check_gguf(
        &window("32"),
        "phi3",
        &told,
        &["config: sliding_window is 16 in m.gguf, 32 in the trace"],
    );
    check_gguf(
        &window("32"),
        "phi3",
        &[("attention.sliding_window", 0.0)],
        &["config: sliding_window is null in m.gguf, 32 in the trace"],
    );

    let phi = |part: f64| {
        format!(r#"{{"model_type": "phi", "rope_theta": 1e4, "partial_rotary_factor": {part}}}"#)
    };
    let told = [("rope.freq_base", 1e4), ("rope.dimension_count", 3.0)];
    // Three of eight dimensions, as a factor makes it that does not divide them.
    check_gguf(&phi(0.4), "phi2", &told, &[]);
    check_gguf(
        &phi(0.5),
        "phi2",
        &told,
        &["config: rope_parameters.partial_rotary_factor is 0.375 in m.gguf, 0.5 in the trace"],
    );
}

#[test]
fn a_gguf_that_says_nothing_of_its_rotation_has_llama_cpps() {
    let trace = |theta: &str| format!(r#"{{"model_type": "llama", "rope_theta": {theta}}}"#);
    check_gguf(&trace("1e4"), "llama", &[], &[]);
    check_gguf(
        &trace("5e5"),
        "llama",
        &[],
        &["config: rope_theta is 10000.0 in m.gguf, 500000.0 in the trace"],
    );
}

#[test]
fn of_long_lists_the_first_difference_is_shown() {
    let list = |of: &[&str]| {
        let all: Vec<_> = (0..100).map(|i| of[i % of.len()]).collect();
        serde_json::json!({ "layer_types": all }).to_string()
    };
    let (full, mixed) = (
        list(&["full_attention"]),
        list(&["full_attention", "window"]),
    );
    check(
        &full,
        &mixed,
        &[
            r#"config: layer_types[1] is "window" in w/lock.json, "full_attention" in the trace, and 49 more of its 100 entries differ"#,
        ],
    );
    check(
        &full,
        r#"{"layer_types": ["full_attention"]}"#,
        &["config: layer_types has 1 entries in w/lock.json, 100 in the trace"],
    );
    check(
        r#"{"mlp_only_layers": [1, 2]}"#,
        r#"{"mlp_only_layers": [1.0, 3]}"#,
        &["config: mlp_only_layers is [1.0,3] in w/lock.json, [1,2] in the trace"],
    );
    let long = serde_json::json!({ "feed_forward_proj": "x".repeat(1000) }).to_string();
    let line = lines(&long, &snapshot(r#"{"feed_forward_proj": 1}"#)).concat();
    assert!(
        line.len() < 200 && line.contains("xxx… in the trace"),
        "{line}"
    );
}

/// Of several parts of the kind that was traced, the one that fits is meant, wherever it is.
#[test]
fn the_part_of_a_model_is_found_in_it() {
    let whole = r#"{"model_type": "pair", "encoder": {"model_type": "bert", "hidden_size": 4},
        "decoder": {"model_type": "bert", "hidden_size": 8},
        "inner_config": {"model_type": "half", "text_config": {"model_type": "llama",
            "num_hidden_layers": 2}}}"#;
    for (trace, expected) in [
        (r#"{"model_type": "bert", "hidden_size": 8}"#, &[][..]),
        (r#"{"model_type": "bert", "hidden_size": 4}"#, &[]),
        (r#"{"model_type": "llama", "num_hidden_layers": 2}"#, &[]),
        (
            r#"{"model_type": "llama", "num_hidden_layers": 3}"#,
            &["config: num_hidden_layers is 2 in w/lock.json, 3 in the trace"],
        ),
    ] {
        check(trace, whole, expected);
    }
}
