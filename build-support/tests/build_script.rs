//! `Builder` on every checkpoint of the table, each in a process of its own as Cargo runs a build
//! script: this program is the build script when it is given the name of a case.

use std::path::Path;
use std::process::Command;

use pycandle_build::Builder;
use pycandle_test_checkpoints::{Case, cases};

fn main() {
    let given = std::env::var("PYCANDLE_CASE").ok();
    match given.and_then(|name| cases().into_iter().find(|case| case.name == name)) {
        Some(case) => build(&case),
        None => cases().iter().for_each(check),
    }
}

/// What a user's `build.rs` does.
fn build(case: &Case) {
    let builder = Builder::new()
        .manifest(format!("{}/llama_manifest.json", case.name))
        .weights(format!("{}/{}", case.name, case.weights))
        .strict(case.strict);
    let rules = case.rename.iter();
    let builder = rules.fold(builder, |builder, (pattern, with)| {
        builder.rename(pattern, with)
    });
    builder.compile("llama");
}

fn check(case: &Case) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    case.write(&folder.path().join(case.name)).expect("files");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .env("PYCANDLE_CASE", case.name)
        .env("CARGO_MANIFEST_DIR", folder.path())
        .env("OUT_DIR", folder.path())
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}", case.name);
    let written = Path::new("llama.rs");
    let fits = case.report.is_empty();
    assert_eq!(
        folder.path().join(written).exists(),
        fits,
        "{}: {text}",
        case.name
    );
    assert_eq!(
        text.contains("cargo::error="),
        !fits,
        "{}: {text}",
        case.name
    );
    if !fits {
        let said = case.is_said_in(&text, case.name, "cargo::error=");
        assert!(said, "{}:\n{text}", case.name);
    }
}
