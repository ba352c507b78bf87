//! Indices of shards, whatever they say: no panic, nothing outside the folder, and in every refusal
//! the file, and the byte wherever the index itself is wrong.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use pycandle_checkpoint::Checkpoint;

const INDEX: &str = "model.safetensors.index.json";

/// What is said of an index beside two shards, which hold `a` and `b`, and a file outside.
fn outcome(text: &[u8]) -> Result<Checkpoint, String> {
    let outside = crate::folder();
    let folder = outside.path().join("in");
    fs::create_dir(&folder).expect("a folder");
    let shard = |name: &str| {
        let json = format!(r#"{{"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        crate::header(&json, 1)
    };
    fs::write(folder.join("a.safetensors"), shard("a")).expect("a file");
    fs::write(folder.join("b.safetensors"), shard("b")).expect("a file");
    fs::write(outside.path().join("out.safetensors"), shard("a")).expect("a file");
    fs::write(folder.join(INDEX), text).expect("a file");
    let opened = Checkpoint::open_shown(&folder.join(INDEX), &Path::new("w").join(INDEX));
    if let Ok(checkpoint) = &opened {
        for file in checkpoint.files() {
            assert!(file.starts_with(&folder), "{file:?}");
        }
    }
    opened.map_err(|error| error.to_string())
}

/// The index is refused by its name, its byte, and this text.
#[track_caller]
fn refused(text: &[u8], expected: &str) {
    let error = outcome(text).expect_err("something to refuse");
    assert!(error.starts_with(&format!("w/{INDEX}: ")), "{error}");
    assert!(error.contains(expected), "`{expected}` is not in: {error}");
    assert!(crate::names_a_byte(&error), "no byte in: {error}");
}

#[test]
fn an_index_that_is_not_one() {
    refused(
        b"",
        "index is not whole, it ends at byte 0: the file was cut",
    );
    refused(b"{", "index is not whole, it ends at byte 1");
    refused(
        b"{}",
        "index is not valid at byte 1: missing field `weight_map`: download",
    );
    refused(
        br#"[{"a":"a.safetensors"}]"#,
        "invalid type: sequence, expected an object",
    );
    refused(
        br#"{"weight_map":[]}"#,
        "expected an object of file names by tensor name",
    );
    refused(br#"{"weight_map":{"a":1}}"#, "index is not valid at byte");
    refused(
        br#"{"weight_map":{},"weight_map":{}}"#,
        "duplicate field `weight_map`",
    );
    refused(
        br#"{"weight_map":{}} {}"#,
        "index is not valid at byte 18: trailing",
    );
    refused(b"\0", "index is not valid at byte 0");
    refused(
        b"{\"weight_map\":{\"\xff\":\"\"}}",
        "index is not UTF-8 at byte 16",
    );
    let deep = format!(r#"{{"x":{}"#, "[".repeat(200_000));
    refused(
        deep.as_bytes(),
        "index is not whole, it ends at byte 200005",
    );
    let deep = format!(r#"{{"weight_map":{}"#, "{\"a\":".repeat(200_000));
    refused(deep.as_bytes(), "index is not valid at byte");
}

#[test]
fn keys_are_counted_where_they_are() {
    // Keys under other keys, names written with escapes, and colons in texts.
    let text = r#"{"metadata":{"a":{"b":1},"c":": \""},"weight_map":{"a":"a.safetensors","\u0062":"../out.safetensors"}}"#;
    let at = text.find(r#""\u0062""#).expect("the key");
    let expected =
        format!("`b` at byte {at} is in the file `../out.safetensors`, which is not inside");
    refused(text.as_bytes(), &expected);
    let twice = r#"{"weight_map":{"a":"a.safetensors","b":"b.safetensors",
        "\u0061":"a.safetensors"}}"#;
    let at = twice.find(r#""\u0061""#).expect("the key");
    refused(
        twice.as_bytes(),
        &format!("`a` at byte {at} is listed twice"),
    );
}

#[test]
fn names_are_escaped() {
    refused(
        b"{\"weight_map\":{\"a\\n\\u001b[2J\":\"x\\u202e\"}}",
        r"`a\n\u{1b}[2J` at byte 15 is in the file `x\u{202e}`, which is not there",
    );
}

/// A file that the index names: good, absent, outside, or no name of a file at all.
fn file() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a.safetensors", "b.safetensors"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "no.safetensors", "../out.safetensors", "", ".", "..", "/", "a.safetensors/", "./a.safetensors",
            "../in/a.safetensors", INDEX, "a\u{0}", "a\\b", "c:x",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// A text as JSON has it, with escapes where it does not have to.
fn quoted(text: &str, escape: bool) -> String {
    match escape {
        true => {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            format!("\"{}\"", units.collect::<String>())
        }
        false => serde_json::to_string(text).expect("a text"),
    }
}

fn index() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let pair = (name, file(), any::<bool>());
    let before = prop::sample::select(vec![
        "",
        r#""metadata":{"weight_map":{"a":1}},"#,
        r#""x":[{"y":"z:\""}],"#,
    ]);
    let after = prop::sample::select(vec!["", " \n", r#","metadata":null"#, ",", "}"]);
    (prop::collection::vec(pair, 0..5), before, after).prop_map(|(pairs, before, after)| {
        let pairs = pairs.iter().map(|(name, file, escape)| {
            format!("{}:{}", quoted(name, *escape), quoted(file, !escape))
        });
        let pairs = pairs.collect::<Vec<_>>().join(", ");
        format!(r#"{{{before}"weight_map":{{{pairs}}}{after}}}"#)
    })
}

/// What an index says, by another reader: pairs in order, if it is one.
fn pairs(text: &[u8]) -> Option<serde_json::Map<String, serde_json::Value>> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    json.get("weight_map")?.as_object().cloned()
}

/// Opens it, and holds what comes of that against what the text says.
fn exercise(text: &[u8]) {
    let said = pairs(text);
    match outcome(text) {
        Ok(checkpoint) => {
            let said = said.expect("an index");
            for (name, file) in &said {
                let tensor = checkpoint.get(name).expect("a tensor of the index");
                let path = checkpoint.shards()[tensor.shard()].path();
                assert!(path.ends_with(file.as_str().expect("a name")), "{path:?}");
            }
        }
        Err(error) => {
            assert!(error.starts_with("w/"), "{error}");
            assert!(error.contains(INDEX), "{error}");
            // That a shard is of another checkpoint is no mistake at a byte of the index.
            let elsewhere = error.contains("where the index puts");
            assert!(elsewhere || crate::names_a_byte(&error), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn indices_made_of_hostile_parts(text in index()) {
        exercise(text.as_bytes());
    }

    #[test]
    fn cut_and_flipped_indices(
        text in index(),
        cut in 0usize..400,
        flips in prop::collection::vec((0usize..10_000, 0u8..8), 0..4),
    ) {
        let mut bytes = text.into_bytes();
        bytes.truncate(cut.max(1));
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        exercise(&bytes);
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        exercise(&bytes);
    }
}
