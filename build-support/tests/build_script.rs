//! `Builder` on every checkpoint of the table, each in a process of its own as Cargo runs a build
//! script: this program is the build script when it is given the name of a case.

use std::path::Path;
use std::process::{Command, Output};

use pycandle_build::{Builder, Config, generate, lock};
use pycandle_test_checkpoints::{Case, FrontEnd, cases, safetensors};

fn main() {
    let given = std::env::var("PYCANDLE_CASE").ok();
    match given.and_then(|name| cases().into_iter().find(|case| case.name == name)) {
        Some(case) => build(&case),
        None => {
            cases().iter().for_each(check);
            without_weights();
            without_a_config();
            written_source();
        }
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
    let output = run(case, folder.path());
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
        let said = case.is_said_in(&text, case.name, FrontEnd::Builder);
        assert!(said, "{}:\n{text}", case.name);
    }
}

fn run(case: &Case, package: &Path) -> Output {
    Command::new(std::env::current_exe().expect("this program"))
        .env("PYCANDLE_CASE", case.name)
        .env("CARGO_MANIFEST_DIR", package)
        .env("OUT_DIR", package)
        .output()
        .expect("this program runs")
}

/// The lock stands for weights that are absent, and Cargo watches it and no file that is not there.
fn without_weights() {
    let mut cases = cases().into_iter();
    let case = cases
        .find(|case| case.report.is_empty())
        .expect("a case that fits");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inside = folder.path().join(case.name);
    case.write(&inside).expect("files");
    let weights = inside.join(case.weights);
    let place = lock::path_of(&weights).expect("a path");
    let text = lock::text(&weights, Path::new("w")).expect("a lock");
    std::fs::write(&place, text).expect("written");
    std::fs::remove_file(&weights).expect("removed");
    let watched = |path: &Path| format!("cargo::rerun-if-changed={}\n", path.display());

    let text = run(&case, folder.path()).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(!text.contains("cargo::error="), "{text}");
    assert!(folder.path().join("llama.rs").exists(), "{text}");
    assert!(text.contains(&watched(&place)), "{text}");
    assert!(!text.contains(&watched(&weights)), "{text}");

    let mend = format!(
        "cargo pycandle lock --weights {}/{}",
        case.name, case.weights
    );
    let whole = std::fs::read_to_string(&place).expect("a lock");
    let edited = whole.replacen("BF16 [", "F16 [", 1);
    let conflict = whole.replacen("  \"files\"", "<<<<<<< HEAD\n  \"files\"", 1);
    for (spoiled, why) in [
        (
            &edited,
            "line 3: sha256: does not belong to the rest of the lock",
        ),
        (&conflict, "line 5: is in the middle of a merge conflict"),
    ] {
        assert_ne!(spoiled, &whole);
        std::fs::write(&place, spoiled).expect("written");
        let text = run(&case, folder.path()).stdout;
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(&format!("cargo::error={why}")), "{text}");
        assert!(text.contains("is not a lock that can be used"), "{text}");
        assert!(text.contains(&mend), "{text}");
    }
    std::fs::write(&place, whole).expect("written");

    std::fs::write(&weights, safetensors(&[])).expect("written");
    let text = run(&case, folder.path()).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("does not describe the checkpoint"), "{text}");
    assert!(text.contains(&mend), "{text}");
}

/// A config that cannot be read is a warning, which Cargo shows.
fn without_a_config() {
    let case = cases().into_iter().find(|case| case.name == "fits_config");
    let case = case.expect("a case");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inside = folder.path().join(case.name);
    case.write(&inside).expect("files");
    std::fs::write(inside.join("config.json"), "{").expect("written");
    let text = run(&case, folder.path()).stdout;
    let text = String::from_utf8_lossy(&text);
    let said = "cargo::warning=unread: fits_config/config.json is no JSON object";
    assert!(text.contains(said), "{text}");
    assert!(folder.path().join("llama.rs").exists(), "{text}");
}

/// The file is byte for byte what [`generate`] gives, which the attribute and the command are held
/// against as well.
fn written_source() {
    let mut cases = cases().into_iter();
    let case = cases
        .find(|case| case.report.is_empty() && case.rename.is_empty())
        .expect("a case that fits");
    let folder = tempfile::tempdir().expect("a temporary folder");
    case.write(&folder.path().join(case.name)).expect("files");
    run(&case, folder.path());
    let written = std::fs::read_to_string(folder.path().join("llama.rs")).expect("a file");
    let config = Config::new(format!("{}/llama_manifest.json", case.name))
        .root(folder.path())
        .weights(format!("{}/{}", case.name, case.weights))
        .strict(case.strict);
    let source = generate(&config).expect("a model").source;
    assert!(written == source, "{written}");
}
