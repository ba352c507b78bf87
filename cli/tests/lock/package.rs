//! A package to lock and check.

use std::path::PathBuf;
use std::process::{Command, Output};

use pycandle_test_checkpoints::cases;
use serde_json::Value;

/// A package with a model, its weights and `build.rs`.
pub struct Package(tempfile::TempDir);

pub const ATTRIBUTE: &str = r#"
/// Not `#[pycandle_model(manifest = "in/a/comment.json")]`.
#[pycandle::pycandle_model(manifest = "m/llama_manifest.json", weights = "m/model.safetensors")]
/// Documented.
pub struct Llama;
"#;

impl Package {
    pub fn new() -> Self {
        let package = Self(tempfile::tempdir().expect("a folder"));
        let tied = cases().into_iter().find(|case| case.report.is_empty());
        tied.expect("a case that fits")
            .write(&package.path("m"))
            .expect("files");
        package.write("Cargo.toml", "");
        package.write("src/lib.rs", ATTRIBUTE);
        package
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
        command
            .current_dir(self.0.path())
            .args(args)
            .output()
            .expect("the program runs")
    }

    /// Runs it, and returns what it prints.
    #[track_caller]
    pub fn gives(&self, args: &[&str], code: i32, parts: &[&str]) -> String {
        let output = self.run(args);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        assert_eq!(output.status.code(), Some(code), "{text}");
        for part in parts {
            assert!(text.contains(part), "expected `{part}` in\n{text}");
        }
        text
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.run(args).stdout).expect("JSON")
    }
}

pub const WEIGHTS: &str = "m/model.safetensors";
/// Generates the code of the package's model.
pub const CODEGEN: &[&str] = &[
    "codegen",
    "--manifest",
    "m/llama_manifest.json",
    "--weights",
    WEIGHTS,
];
pub const LOCK: &str = "m/model.safetensors.lock.json";
