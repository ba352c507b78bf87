use super::*;

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;

/// A file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

/// A folder of its own for one test.
fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("write");
    }
    folder
}

fn open_in(folder: &tempfile::TempDir, name: &str) -> Result<Headers, String> {
    open(&folder.path().join(name), &Path::new("w").join(name)).map_err(|report| report.to_string())
}

#[track_caller]
fn check_file(bytes: Vec<u8>, message: &str) {
    let error =
        open_in(&folder(&[("m.safetensors", bytes)]), "m.safetensors").expect_err("an error");
    assert!(error.contains(message), "expected `{message}` in `{error}`");
    assert!(error.contains("`w/m.safetensors`"), "{error}");
}

#[test]
fn reads_names_shapes_and_dtypes() {
    let headers = open_in(
        &folder(&[("m.safetensors", file(HEADER, 26))]),
        "m.safetensors",
    )
    .expect("fits");
    assert_eq!(headers.tensors.len(), 2);
    assert_eq!(
        headers.tensors["a"],
        Tensor {
            dtype: "F32".into(),
            shape: vec![2, 3],
            bytes: 24
        }
    );
    assert_eq!(headers.tensors["b"].bytes, 2);
}

#[test]
fn damaged_files_say_what_is_wrong() {
    check_file(vec![1, 2, 3], "the file is cut short");
    check_file(file(HEADER, 25), "the file has 25: the file is cut short");
    check_file(file(HEADER, 27), "1 bytes belong to no tensor");
    check_file(file(HEADER, 0)[..50].to_vec(), "the file is cut short");
    check_file(vec![255; 64], "not a safetensors file");
    check_file(file("[]", 0), "does not begin with `{`");
    let change = |from: &str, to: &str| file(&HEADER.replace(from, to), 26);
    check_file(
        change("[24,26]", "[22,24]"),
        "`b` overlaps the tensor before it",
    );
    check_file(change("[24,26]", "[25,27]"), "`b` leaves a gap before it");
    check_file(change("[24,26]", "[26,24]"), "`b` ends before it begins");
    check_file(
        change("[2,3]", "[2,4]"),
        "`a` takes 32 bytes by its shape, 24 by its offsets",
    );
    check_file(
        change("[2,3]", "[9999999999,9999999999]"),
        "`a` has an impossible shape",
    );
    check_file(change("F32", "F33"), "`a` has the unknown dtype `F33`");
    check_file(change("\"b\"", "\"a\""), "`a` occurs twice");
    check_file(change("\"pt\"", "1"), "the header is damaged");
    check_file(
        file(&("{\"a\":".repeat(50_000)), 0),
        "the header is damaged",
    );
}

#[test]
fn every_cut_and_flipped_bit_is_an_error_or_harmless() {
    let good = file(HEADER, 26);
    for end in 0..good.len() {
        assert!(
            open_in(
                &folder(&[("m.safetensors", good[..end].to_vec())]),
                "m.safetensors"
            )
            .is_err()
        );
    }
    for bit in 0..HEADER.len() * 8 {
        let mut bytes = HEADER.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = parse(&bytes, 26);
    }
}

#[test]
fn folders_and_indexes() {
    let one = file(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        1,
    );
    let two = file(
        r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        1,
    );
    let index = |map: &str| format!("{{\"metadata\":{{}},\"weight_map\":{map}}}").into_bytes();
    let shards = folder(&[
        ("1.safetensors", one.clone()),
        ("2.safetensors", two.clone()),
    ]);
    let headers = open_in(&shards, "").expect("two shards");
    assert_eq!((headers.shards, headers.tensors.len()), (2, 2));

    let twice = folder(&[
        ("1.safetensors", one.clone()),
        ("2.safetensors", one.clone()),
    ]);
    assert!(
        open_in(&twice, "")
            .expect_err("twice")
            .contains("`a` is also in `w/1.safetensors`")
    );

    let check = |map: &str, expected: &str| {
        let folder = folder(&[
            ("m.safetensors.index.json", index(map)),
            ("1.safetensors", one.clone()),
        ]);
        let error = open_in(&folder, "").expect_err("an error");
        assert!(
            error.contains(expected),
            "expected `{expected}` in `{error}`"
        );
    };
    check(
        r#"{"a":"1.safetensors","b":"2.safetensors"}"#,
        "the index names `2.safetensors`, which is absent: `b` should be in it",
    );
    check(
        r#"{"b":"1.safetensors"}"#,
        "the index puts `b` in `1.safetensors`, which does not hold it",
    );
    check(
        r#"{"b":"../1.safetensors"}"#,
        "is not the name of a file beside the index",
    );
    check(
        r#"{"a":"1.safetensors","a":"1.safetensors"}"#,
        "`a` occurs twice",
    );
    assert!(
        open_in(&folder(&[]), "")
            .expect_err("empty")
            .contains("no safetensors file in the folder")
    );
    assert!(
        open_in(&folder(&[]), "x")
            .expect_err("absent")
            .contains("no checkpoint at `w/x`")
    );
    assert!(
        open_in(&folder(&[("x.bin", vec![])]), "x.bin")
            .expect_err("bin")
            .contains("is not a safetensors file")
    );
}
