//! Headers of safetensors files.

use std::fs::File;

use pycandle_checkpoint::{Checkpoint, Dtype, Value};

use crate::{folder, header, outcome, refused};

#[track_caller]
fn check(json: &str, data: usize, expected: &str) {
    refused(&header(json, data), expected);
}

#[test]
fn what_is_allowed() {
    // Padding after the JSON, no alignment, an empty tensor, a scalar, a name written with escapes.
    let json = r#"{"__metadata__":{"format":"pt"},"\u0062":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"empty":{"shape":[0,3],"dtype":"F32","data_offsets":[1,1]},"scalar":{"dtype":"F32","shape":[],"data_offsets":[1,5]},"c":{"dtype":"C64","shape":[1],"data_offsets":[5,13]}}   "#;
    let checkpoint = outcome(&header(json, 13)).expect("a good file");
    let mut names: Vec<_> = checkpoint.iter().map(|tensor| tensor.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["b", "c", "empty", "scalar"]);
    let tensor = |name| checkpoint.get(name).expect("a tensor");
    assert_eq!(tensor("empty").shape(), [0, 3]);
    assert_eq!(tensor("scalar").shape(), [0; 0]);
    assert_eq!(tensor("c").dtype(), Dtype::C64);
    let start = 8 + json.len() as u64;
    assert_eq!(tensor("scalar").range(), start + 1..start + 5);
    let format = checkpoint.metadata("format").and_then(Value::as_text);
    assert_eq!((format, checkpoint.is_gguf()), (Some("pt"), false));
    assert!(outcome(&header("{}", 0)).expect("no tensor").is_empty());
}

#[test]
fn length_lies() {
    refused(
        &[],
        "file ends at byte 0, the length of the header at byte 0 takes 8 bytes",
    );
    refused(
        &[1, 2, 3],
        "file ends at byte 3, the length of the header at byte 0",
    );
    refused(
        &100u64.to_le_bytes(),
        "header length at byte 0 is 100, but only 0 bytes follow",
    );
    refused(
        &u64::MAX.to_le_bytes(),
        "the file was cut, copy or download it again, or it is not safetensors",
    );
}

#[test]
fn a_header_longer_than_the_format_allows_is_not_read() {
    let folder = folder();
    let path = folder.path().join("long.safetensors");
    std::fs::write(&path, 200_000_000u64.to_le_bytes()).expect("a writable folder");
    let file = File::options().write(true).open(&path).expect("the file");
    file.set_len(300_000_000).expect("a sparse file");
    let text = Checkpoint::open(&path).expect_err("too long").to_string();
    let expected = "header length at byte 0 is 200000000, the format allows 100000000";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn not_json() {
    check("", 0, "does not start with `{` at byte 8");
    check(" {}", 0, "does not start with `{` at byte 8");
    check("{", 0, "header is not valid at byte 8");
    check("{}x", 0, "header is not valid at byte 10");
    check("[]", 0, "does not start with `{`");
    check(r#"{"a":3}"#, 0, "dtype, shape and data_offsets of `a`");
    check(
        &format!(r#"{{"a":{}"#, "[".repeat(100_000)),
        0,
        "header is not valid at byte 12",
    );
    check(&r#"{"a":"#.repeat(50_000), 0, "header is not valid at byte");
    let mut bytes = 3u64.to_le_bytes().to_vec();
    bytes.extend([b'{', 0xff, b'}']);
    refused(&bytes, "header is not UTF-8 at byte 9");
}

#[test]
fn fields() {
    let a = |fields: &str| format!(r#"{{"a":{{{fields}}}}}"#);
    let whole = |dtype: &str, shape: &str, offsets: &str| {
        a(&format!(
            r#""dtype":{dtype},"shape":{shape},"data_offsets":{offsets}"#
        ))
    };
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
        &whole("\"F33\"", "[1]", "[0,4]"),
        4,
        "`a` has the unknown dtype `F33`",
    );
    // A block type is none of this format.
    check(
        &whole("\"Q8_0\"", "[32]", "[0,34]"),
        34,
        "`a` has the unknown dtype `Q8_0`",
    );
    check(&whole("\"F32\"", "[-1]", "[0,4]"), 4, "invalid value");
    check(&whole("\"F32\"", "[1.0]", "[0,4]"), 4, "invalid type");
    check(
        &whole("\"F32\"", "[1]", "[0,4,8]"),
        4,
        "header is not valid at byte",
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
    let deep = format!("[{}1]", "1,".repeat(64));
    check(
        &whole("\"F32\"", &deep, "[0,4]"),
        4,
        "more than 64 dimensions",
    );
    check(r#"{"__metadata__":{"a":1}}"#, 0, "expected a string");
    check(
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        0,
        "`a` at byte 33 is listed twice in `__metadata__`",
    );
}

#[test]
fn sizes_and_offsets() {
    let a = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    check(
        &a("F32", "[2]", 0, 4),
        4,
        "`a` at byte 9: F32 [2] takes 8 bytes, data_offsets [0, 4] hold 4: download",
    );
    check(
        &a("F32", "[1]", 4, 0),
        4,
        "`a` at byte 9: data_offsets [4, 0] run backwards",
    );
    check(
        &a("F32", "[1]", 0, 4),
        3,
        "ends at byte 66, the file at byte 65: the file was cut",
    );
    check(
        &a("F32", "[1]", 0, 4),
        5,
        "bytes 66 to 67 after the last tensor belong to no tensor",
    );
    check(
        &a("F32", "[1]", 4, 8),
        8,
        "bytes 62 to 66 between the header and `a` belong to no tensor",
    );
    let max = u64::MAX;
    let uncountable = "takes more bytes than 64 bits can count";
    check(&a("F32", &format!("[{max}]"), 0, 4), 4, uncountable);
    check(&a("F32", &format!("[{max},{max}]"), 0, 4), 4, uncountable);
    check(
        &a("F4", "[3]", 0, 2),
        2,
        "`a` at byte 9: F4 [3] has 3 elements, which fill no whole number of bytes",
    );
    check(&a("F32", "[0]", max, max), 0, "the file was cut");
    check(&a("F32", "[1]", max - 4, max), 4, "the file was cut");
}

#[test]
fn overlaps_and_duplicates() {
    let two = |a: &str, from: usize, to: usize| {
        format!(
            r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"{a}":{{"dtype":"F32","shape":[2],"data_offsets":[{from},{to}]}}}}"#
        )
    };
    check(&two("y", 4, 12), 12, "`y` overlaps `x` at byte 120");
    check(&two("y", 0, 8), 8, "`y` overlaps `x` at byte 115");
    check(
        &two("y", 9, 17),
        17,
        "between `x` and `y` belong to no tensor",
    );
    check(&two("x", 8, 16), 16, "`x` at byte 62 is listed twice");
    // The same name, written differently.
    check(&two("\\u0078", 8, 16), 16, "`x` at byte 62 is listed twice");
}

#[test]
fn several_problems_are_one_error() {
    let entry = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#;
    let json = format!(r#"{{"a":{entry},"b":{entry},"a":{entry}}}"#);
    let text = outcome(&header(&json, 4)).expect_err("four problems");
    assert!(text.contains("4 problems"), "{text}");
    assert!(
        text.contains("`b` at byte 62: F32 [2] takes 8 bytes"),
        "{text}"
    );
}
