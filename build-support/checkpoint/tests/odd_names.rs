//! Names of any kind on either side: validation says what it has to say, and never panics.

use proptest::collection::{hash_set, vec};
use proptest::prelude::*;
use std::borrow::Cow;

use pycandle_checkpoint::{Dtype, Expected, Need, Rules, Snapshot, Source, Value, validate};

/// Segments that mean something to somebody, and some that do not.
fn name() -> impl Strategy<Value = String> {
    let segments = [
        "",
        "0",
        "07",
        "4294967296",
        "*",
        "$1",
        "ü",
        "\"",
        "(",
        "weight",
        "qweight",
        "scales",
        "model",
        "layers",
        "blk",
        "attn_q",
        "self_attn",
        "q_proj",
        "lm_head",
        "weight_scale",
    ];
    vec(prop::sample::select(segments.to_vec()), 1..6).prop_map(|parts| parts.join("."))
}

fn config() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        Some("{}"),
        Some("[]"),
        Some(
            "{\"hidden_size\": {\"a\": [1]}, \"rope_scaling\": 3, \"text_config\": {\"n_layer\": 2}}",
        ),
        Some("{\"num_hidden_layers\": 1e400}"),
        Some("{\"n_layer\": 3, \"rope_parameters\": {\"x\": {}, \"rope_theta\": \"y\"}}"),
    ])
}

/// A rule that makes a name of several keys, and of some none.
#[derive(Debug)]
struct Behind(String);

impl Rules for Behind {
    fn name<'k>(&self, key: &'k str) -> Cow<'k, str> {
        key.strip_prefix(&*self.0).unwrap_or(key).into()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_names_do_not_panic(
        needs in hash_set(name(), 0..12),
        keys in hash_set(name(), 0..12),
        shapes in vec(vec(0usize..3, 0..3), 24),
        ties in vec(prop::option::of(0usize..20), 12),
        renames in vec((name(), name()), 0..3),
        rules in prop::option::of(name().prop_map(Behind)),
        (ours, theirs) in (config(), config()),
        (gguf, strict) in any::<(bool, bool)>(),
    ) {
        let mut snapshot = Snapshot::default();
        snapshot.gguf(gguf);
        snapshot.metadata("general.architecture", Value::Text("llama".into()));
        snapshot.metadata("llama.attention.head_count", Value::Integer(0));
        if let Some(config) = theirs {
            snapshot.config(config);
        }
        let dtypes = [Dtype::F32, Dtype::U8, Dtype::F8_E4M3];
        for (i, (key, shape)) in keys.iter().zip(&shapes).enumerate() {
            prop_assert_eq!(snapshot.tensor(key, dtypes[i % 3], shape), Ok(()));
        }
        let checkpoint = snapshot.into_checkpoint("a/m".as_ref(), "m".as_ref());
        let of_needs = needs.iter().zip(shapes.iter().rev()).zip(ties);
        let needs: Vec<_> = of_needs
            .map(|((name, shape), tied_to)| Need {
                name: name.into(),
                shape,
                dtype: Dtype::F32,
                tied_to,
            })
            .collect();
        let renames: Vec<_> = renames.iter().map(|(need, key)| (&**need, &**key)).collect();
        let expected = Expected {
            trace: "m.json",
            needs: &needs,
            renames: &renames,
            rules: rules.as_ref().map(|rules| rules as &dyn Rules),
            config: ours,
            strict,
        };
        match validate(&expected, &checkpoint) {
            Ok(validated) => {
                let sources = (0..needs.len()).map(|id| (id, validated.source(id)));
                let sources = sources.filter(|(_, source)| *source != Source::default());
                prop_assert!(validated.sources().eq(sources));
                for (id, need) in needs.iter().enumerate() {
                    let key = validated.source(id).key(&checkpoint).unwrap_or(&need.name);
                    let tensor = checkpoint.get(key);
                    prop_assert_eq!(tensor.map(|tensor| tensor.shape()), Some(need.shape));
                }
            }
            Err(mismatch) => {
                let is_finding = |f: &pycandle_checkpoint::Finding| !f.is_note() && f.count > 0;
                prop_assert!(mismatch.findings().iter().any(is_finding), "{}", mismatch);
            }
        }
    }
}
