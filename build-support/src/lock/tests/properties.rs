//! What holds of every lock, and of every text that is taken for one.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn tensor_text() -> impl Strategy<Value = (String, Vec<u16>)> {
    let name = "([a-z{}é]|[0-9]{1,2})(\\.([a-z]|[0-9]{1,2})){0,3}";
    (name, prop::collection::vec(0u16..4, 0..3))
}

/// Configs of the names that are compared, and of values that a lock leaves out.
fn config_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        prop::sample::select(vec!["silu", "linear", "/home/me", "C:\\me", "llama"])
            .prop_map(Value::from),
        Just(Value::from("x".repeat(300))),
        Just(Value::from(vec![7; 1025])),
    ];
    let keys = [
        "model_type",
        "architectures",
        "_commit_hash",
        "hidden_size",
        "n_embd",
        "n_layer",
        "num_hidden_layers",
        "hidden_act",
        "layer_types",
        "sliding_window",
        "use_sliding_window",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "type",
        "rope_type",
        "factor",
        "text_config",
        "vision_config",
        "llm_config",
        "quantization_config",
        "_name_or_path",
        "id2label",
        "full_attention",
    ];
    leaf.prop_recursive(7, 24, 5, move |inner| {
        let entries = prop::collection::btree_map(prop::sample::select(keys.to_vec()), inner.clone(), 0..6);
        prop_oneof![
            4 => entries.prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn a_lock_says_every_fact_of_a_config(config in config_value()) {
        let place = Path::new("m");
        let text = config.to_string();
        let Ok(kept) = facts::kept_of(&text, place) else {
            prop_assert!(!config.is_object());
            return Ok(());
        };
        let facts = Facts { config: Some(kept), ..Facts::default() };
        let empty = pycandle_checkpoint::Snapshot::default().into_checkpoint(place, place);
        let lock = write::text(&facts, &empty);
        let lock = read::parse(&lock, place, place).map_err(|e| TestCaseError::fail(e.join("\n")))?;
        let locked = lock.checkpoint.config().expect("text").expect("a config");
        let facts = |config: &str| {
            let facts = pycandle_checkpoint::config_facts(config)?;
            serde_json::from_str::<serde_json::Value>(&facts).ok()
        };
        prop_assert_eq!(facts(&locked), facts(&text));
    }

    #[test]
    fn what_is_locked_is_read_back(tensors in prop::collection::hash_map(".{0,5}", 0u16..4, 0..5),
                                   header in ".{0,5}",
                                   origin in prop::option::of((prop::option::of(".{1,5}"), ".{0,5}")),
                                   more in prop::collection::btree_map("[a-z]", 0u8..1, 0..2),
                                   pairs in prop::collection::vec(tensor_text(), 0..30)) {
        let mut snapshot = pycandle_checkpoint::Snapshot::default();
        let mut count = 0;
        let odd = tensors.into_iter().map(|(name, dim)| (name, vec![dim]));
        for (name, shape) in odd.chain(pairs) {
            let shape: Vec<usize> = shape.into_iter().map(usize::from).collect();
            count += u64::from(snapshot.tensor(&name, pycandle_checkpoint::Dtype::F16, &shape).is_ok());
        }
        let place = Path::new("m");
        let checkpoint = snapshot.into_checkpoint(place, place);
        let mut facts = Facts::default();
        facts.files.insert("m".into(), facts::File { bytes: 1, tensors: count });
        facts.origin = origin.map(|(repository, commit)| pycandle_checkpoint::Origin { repository, commit });
        facts.headers.insert("m".into(), header);
        facts.metadata = more.into_iter().map(|(key, value)| (key, value.into())).collect();
        let text = write::text(&facts, &checkpoint);
        let lock = read::parse(&text, place, place).map_err(|e| TestCaseError::fail(e.join("\n")))?;
        prop_assert_eq!(write::text(&lock.facts, &lock.checkpoint), text);
        prop_assert_eq!(lock.facts, facts);
    }

    #[test]
    fn no_text_panics_the_reader(cuts in prop::collection::vec((any::<Index>(), any::<Index>(), ".{0,6}"), 1..4)) {
        let text = r#"{"pycandle_lock": 1, "sha256": "00", "format": "gguf", "files": {"m": {"bytes": 9, "header": "00", "tensors": 4}}, "origin": {"repository": "o/n", "commit": "c"}, "metadata": {"a": 1.5, "b": [3]}, "config": {"c": {"d": [1]}}, "weights": {"a.{0..2}.{{b": "Q4_K [2, 256]", "h": "F32 []"}}"#;
        let mut bytes = text.as_bytes().to_vec();
        for (start, len, with) in cuts {
            let start = start.index(bytes.len() + 1);
            let end = start + len.index(bytes.len() - start + 1).min(8);
            bytes.splice(start..end, with.into_bytes());
        }
        let place = Path::new("m.lock.json");
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let problems = read::parse(text, place, place).err().unwrap_or_default();
            prop_assert!(!problems.is_empty(), "the hash cannot fit: {}", text);
            prop_assert!(problems.iter().all(|problem| problem.starts_with("line ")), "{:?}", problems);
        }
    }
}

/// 80 billion parameters of experts: 512 of them in 48 layers, 3 matrices each, in 6 parts.
#[test]
fn a_lock_of_half_a_million_tensors_is_a_screen_of_text() {
    use pycandle_checkpoint::{Dtype, Snapshot};
    let mut snapshot = Snapshot::default();
    let parts = [
        "",
        ".absmax",
        ".nested_absmax",
        ".nested_quant_map",
        ".quant_map",
        ".quant_state",
    ];
    for layer in 0..48 {
        for expert in 0..512 {
            for matrix in ["gate", "up", "down"] {
                for (i, part) in parts.iter().enumerate() {
                    let name =
                        format!("m.layers.{layer}.mlp.experts.{expert}.{matrix}.weight{part}");
                    snapshot
                        .tensor(&name, Dtype::U8, &[i + 1])
                        .expect("a tensor");
                }
            }
        }
    }
    let place = Path::new("m");
    let checkpoint = snapshot.into_checkpoint(place, place);
    let mut facts = Facts::default();
    let file = facts::File {
        bytes: 1,
        tensors: 442_368,
    };
    facts.files.insert("m".into(), file);
    let text = write::text(&facts, &checkpoint);
    assert_eq!(text.lines().count(), 11 + 18, "{text}");
    let lock = read::parse(&text, place, place).expect("a lock");
    assert_eq!(lock.checkpoint.len(), 442_368);
    assert_eq!(write::text(&lock.facts, &lock.checkpoint), text);
}
