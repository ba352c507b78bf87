//! Headers that are cut, lie or are hostile: each is refused, and the text says why and where.

use proptest::prelude::*;
use pycandle::Weights;

use crate::{folder, write};

/// The error of opening a file with this header and that many bytes of data.
fn check(json: &str, data: usize, expected: &str) {
    let dir = folder();
    let path = dir.path().join("hostile.safetensors");
    write(&path, json, &vec![0; data]);
    refuse(&path, expected);
}

fn check_bytes(bytes: &[u8], expected: &str) {
    let dir = folder();
    let path = dir.path().join("hostile.safetensors");
    std::fs::write(&path, bytes).expect("a writable folder");
    refuse(&path, expected);
}

fn refuse(path: &std::path::Path, expected: &str) {
    let text = match Weights::open(path) {
        Ok(weights) => panic!("opened with {:?}", weights.names()),
        Err(err) => err.to_string(),
    };
    assert!(text.contains("hostile.safetensors"), "no file in: {text}");
    assert!(text.contains(expected), "`{expected}` is not in: {text}");
}

#[test]
fn length_lies() {
    check_bytes(&[], "file has 0 bytes");
    check_bytes(&[1, 2, 3], "file has 3 bytes");
    check_bytes(
        &100u64.to_le_bytes(),
        "header length at byte 0 is 100, but only 0 bytes follow",
    );
    check_bytes(
        &u64::MAX.to_le_bytes(),
        "the file was cut or is not safetensors",
    );
    let dir = folder();
    let path = dir.path().join("hostile.safetensors");
    std::fs::write(&path, 200_000_000u64.to_le_bytes()).expect("a writable folder");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("the file");
    file.set_len(300_000_000).expect("a sparse file");
    refuse(
        &path,
        "header length at byte 0 is 200000000, the format allows 100000000",
    );
}

#[test]
fn not_json() {
    check("", 0, "does not start with `{`");
    check(" {}", 0, "does not start with `{` at byte 8");
    check("{", 0, "header is not valid at byte 8");
    check("{}x", 0, "header is not valid at byte 10");
    check("[]", 0, "does not start with `{`");
    check(r#"{"a":3}"#, 0, "dtype, shape and data_offsets of `a`");
    check(
        &format!(r#"{{"a":{}"#, "[".repeat(100_000)),
        0,
        "header is not valid",
    );
    let mut bytes = 3u64.to_le_bytes().to_vec();
    bytes.extend([b'{', 0xff, b'}']);
    check_bytes(&bytes, "header is not UTF-8 at byte 9");
}

#[test]
fn fields() {
    let a = |fields: &str| format!(r#"{{"a":{{{fields}}}}}"#);
    check(
        &a(r#""dtype":"F32","shape":[1]"#),
        4,
        "`a` has no data_offsets",
    );
    check(
        &a(r#""shape":[1],"data_offsets":[0,4]"#),
        4,
        "`a` has no dtype",
    );
    check(
        &a(r#""dtype":"F32","data_offsets":[0,4]"#),
        4,
        "`a` has no shape",
    );
    check(
        &a(r#""dtype":"F33","shape":[1],"data_offsets":[0,4]"#),
        4,
        "unknown variant `F33`",
    );
    check(
        &a(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#),
        4,
        "invalid value",
    );
    check(
        &a(r#""dtype":"F32","shape":[1.0],"data_offsets":[0,4]"#),
        4,
        "invalid type",
    );
    check(
        &a(r#""dtype":"F32","shape":[1],"data_offsets":[0,4,8]"#),
        4,
        "header is not valid",
    );
    check(
        &a(r#""dtype":"F32","shape":[1],"offset":3"#),
        4,
        "unknown variant `offset`, expected one of `dtype`",
    );
    check(
        &a(r#""dtype":"F32","dtype":"F32""#),
        4,
        "`a` has dtype twice",
    );
    let deep = a(&format!(
        r#""dtype":"F32","shape":[{}1],"data_offsets":[0,4]"#,
        "1,".repeat(64)
    ));
    check(&deep, 4, "more than 64 dimensions");
    check(r#"{"__metadata__":{"a":1}}"#, 0, "expected a string");
    check(
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        0,
        "`a` is listed twice in `__metadata__`",
    );
}

#[test]
fn sizes_and_offsets() {
    let a = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    check(
        &a("[2]", 0, 4),
        4,
        "`a`: F32 [2] takes 8 bytes, data_offsets [0, 4] hold 4",
    );
    check(&a("[1]", 4, 0), 4, "run backwards");
    check(&a("[1]", 0, 4), 3, "the file was cut");
    check(&a("[1]", 0, 4), 5, "1 bytes after the last tensor");
    check(&a("[1]", 4, 8), 8, "belong to no tensor");
    let max = u64::MAX;
    check(
        &a(&format!("[{max}]"), 0, 4),
        4,
        "more bytes than 64 bits can count",
    );
    check(
        &a(&format!("[{max},{max}]"), 0, 4),
        4,
        "more bytes than 64 bits can count",
    );
    check(&a("[0]", max, max), 0, "the file was cut");
    check(&a("[1]", max - 4, max), 4, "the file was cut");
}

#[test]
fn overlaps_and_duplicates() {
    let two = |a: &str, from: usize, to: usize| {
        format!(
            r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"{a}":{{"dtype":"F32","shape":[2],"data_offsets":[{from},{to}]}}}}"#
        )
    };
    check(&two("y", 4, 12), 12, "`y` overlaps `x` at byte");
    check(&two("y", 0, 8), 8, "`y` overlaps `x` at byte");
    check(
        &two("y", 9, 17),
        17,
        "between `x` and `y` belong to no tensor",
    );
    check(&two("x", 8, 16), 16, "`x` is listed twice in the header");
    // The same name, written differently.
    check(
        &two("\\u0078", 8, 16),
        16,
        "`x` is listed twice in the header",
    );
}

#[test]
fn several_problems_are_one_error() {
    let entry = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#;
    let json = format!(r#"{{"a":{entry},"b":{entry},"a":{entry}}}"#);
    let dir = folder();
    let path = dir.path().join("hostile.safetensors");
    write(&path, &json, &[0; 4]);
    let text = Weights::open(&path)
        .expect_err("three problems")
        .to_string();
    assert!(text.contains("3 problems"), "{text}");
    assert!(text.contains("`b`: F32 [2] takes 8 bytes"), "{text}");
}

#[test]
fn what_is_allowed() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    // Padding after the JSON, no alignment, an empty tensor, a scalar, a dtype that we cannot load.
    let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"empty":{"shape":[0,3],"dtype":"F32","data_offsets":[1,1]},"scalar":{"dtype":"F32","shape":[],"data_offsets":[1,5]},"c":{"dtype":"C64","shape":[1],"data_offsets":[5,13]}}   "#;
    write(&path, json, &[0; 13]);
    let weights = Weights::open(&path).expect("a good file");
    assert_eq!(weights.names(), ["b", "c", "empty", "scalar"]);
    assert_eq!(weights.shape("empty"), Some(&[0, 3][..]));
    assert_eq!(weights.shape("scalar"), Some(&[][..]));
    assert_eq!(weights.metadata("format"), Some("pt"));
    write(&path, "{}", &[]);
    assert!(Weights::open(&path).expect("an empty file").is_empty());
}

/// A small good file, as the reference implementation writes it.
fn good() -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let data: Vec<u8> = (0..48).collect();
    let view = |shape: Vec<usize>, bytes| TensorView::new(Dtype::F32, shape, bytes);
    let tensors = [
        ("model.a", view(vec![2, 3], &data[..24])),
        ("model.b", view(vec![6], &data[24..])),
    ];
    let tensors = tensors.map(|(name, view)| (name, view.expect("a view")));
    safetensors::serialize(tensors, None).expect("a file")
}

/// Opens the bytes and, when that works, reads every tensor; must never panic.
fn exercise(bytes: &[u8]) -> Option<Vec<String>> {
    let dir = folder();
    let path = dir.path().join("fuzz.safetensors");
    std::fs::write(&path, bytes).expect("a writable folder");
    let weights = match Weights::open(&path) {
        Ok(weights) => weights,
        Err(err) => {
            assert!(err.to_string().contains("fuzz.safetensors"), "{err}");
            return None;
        }
    };
    let scope = weights.scope(pycandle::DType::F32, &pycandle::Device::Cpu);
    for name in weights.names() {
        let shape = weights.shape(name).expect("a shape").to_vec();
        if let Ok(param) = scope.param(name, shape) {
            param.tensor().expect("a tensor that the header describes");
        }
    }
    Some(
        weights
            .names()
            .iter()
            .map(|name| name.to_string())
            .collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn cut_files_are_refused(len in 0usize..1000) {
        let good = good();
        let len = len % good.len();
        prop_assert!(exercise(&good[..len]).is_none());
    }

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((0usize..10_000, 0u8..8), 1..4)) {
        let mut bytes = good();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        let ours = exercise(&bytes);
        // What the reference implementation refuses, we refuse.
        if safetensors::SafeTensors::deserialize(&bytes).is_err() {
            prop_assert_eq!(ours, None);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        exercise(&bytes);
    }

    #[test]
    fn random_json_never_panics(json in r#"\{("[ab]":(\{("(dtype|shape|data_offsets|x)":("F32"|"BOOL"|"F4"|\[[0-9]?\]|\[0,[0-9]{1,20}\]|null),?){0,4}\}|[0-9]|"s"),?){0,3}\}"#) {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend([0; 8]);
        exercise(&bytes);
    }
}
