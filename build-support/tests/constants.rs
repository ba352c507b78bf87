//! Files of large constants beside a manifest, as every front end sees them.

use std::path::Path;

use pycandle_build::{Config, generate};

const MANIFEST: &str = include_str!("../../tests/ui/fixtures/tiny_manifest.json");

/// Generates from a manifest with two constants in a file that has this header and these bytes.
fn problems(file: Option<(&str, usize)>) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let constants = r#""constants": [
{"name": "table", "dtype": "float32", "shape": [2], "data": {"file": "m_constants.safetensors"}},
{"name": "mask", "dtype": "bool", "shape": [1, 3], "data": {"file": "m_constants.safetensors"}},
"#;
    let text = MANIFEST.replace("\"constants\": [\n", constants);
    assert_ne!(text, MANIFEST);
    write(&folder.path().join("m_manifest.json"), text.as_bytes());
    if let Some((header, bytes)) = file {
        let length = (header.len() as u64).to_le_bytes();
        let all = [&length, header.as_bytes(), &vec![0; bytes]].concat();
        write(&folder.path().join("m_constants.safetensors"), &all);
    }
    match generate(&Config::new("m_manifest.json").root(folder.path())) {
        Ok(generated) => {
            let file = folder.path().join("m_constants.safetensors");
            assert!(generated.tracked.contains(&file));
            String::new()
        }
        Err(report) => report.to_string(),
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a written file");
}

#[test]
fn constants_that_fit_are_tracked() {
    let good = r#"{"mask":{"dtype":"BOOL","shape":[1,3],"data_offsets":[0,3]},"table":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}"#;
    assert_eq!(problems(Some((good, 11))), "");
}

#[test]
fn constants_that_do_not_fit_are_errors_at_build_time() {
    let says = |file, expected: &[&str]| {
        let report = problems(file);
        assert!(report.contains("m_manifest.json"), "{report}");
        let mended = report.matches("record the model again").count();
        assert_eq!(mended, expected.len(), "{report}");
        for expected in expected {
            assert!(report.contains(expected), "{report}");
        }
    };
    says(
        None,
        &["no file `m_constants.safetensors` beside the manifest, which holds 2 of its constants"],
    );
    says(
        Some(("{", 0)),
        &["cannot read the constants: m_constants.safetensors"],
    );
    says(
        Some((
            r#"{"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#,
            3,
        )),
        &[
            "constant `table` is not in `m_constants.safetensors`",
            "constant `mask` is BOOL [3] in `m_constants.safetensors` and BOOL [1, 3] in the manifest",
        ],
    );
    says(
        Some((
            r#"{"mask":{"dtype":"U8","shape":[1,3],"data_offsets":[0,3]},"table":{"dtype":"F64","shape":[2],"data_offsets":[3,19]}}"#,
            19,
        )),
        &[
            "constant `table` is F64 [2] in `m_constants.safetensors` and F32 [2] in the manifest",
            "constant `mask` is U8 [1, 3]",
        ],
    );
}
