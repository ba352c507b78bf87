//! Names that Rust or generated code has another use for.

use std::path::Path;

use pycandle_build::{Config, generate};

fn config() -> Config {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    Config::new("mlp_manifest.json").root(models)
}

fn refusal(name: &str) -> String {
    let refused = generate(&config().name(name));
    refused.expect_err("an unfit name").to_string()
}

#[test]
fn a_chosen_name_is_one_of_rust() {
    for name in [
        "fn",
        "a b",
        "",
        "9x",
        "r#type",
        "_",
        "a::B",
        "Tensor<T>",
        "gen",
    ] {
        let said = refusal(name);
        assert!(
            said.contains(&format!("`{name}` cannot be the name of a Rust struct")),
            "{said}"
        );
    }
}

#[test]
fn a_chosen_name_is_free() {
    // Whatever the generated file imports, and what it names without importing it.
    for name in imported()
        .into_iter()
        .chain(["Vec".to_owned(), "Default".to_owned()])
    {
        let said = refusal(&name);
        assert!(
            said.contains(&format!("a model cannot be named `{name}`")),
            "{said}"
        );
        assert!(said.contains(&format!("`My{name}`")), "{said}");
    }
}

#[test]
fn a_fit_name_is_taken_as_it_is() {
    for name in ["Model", "llama", "Modèle", "T5"] {
        let generated = generate(&config().name(name)).expect("a fit name");
        assert!(
            generated.source.contains(&format!("pub struct {name} {{")),
            "{name}"
        );
    }
}

#[test]
fn a_class_does_not_hide_an_import() {
    for name in imported() {
        let manifest = std::fs::read_to_string(config().manifest_path()).expect("a manifest");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("m_manifest.json");
        let renamed = manifest.replace("Mlp", &name);
        assert!(renamed != manifest);
        std::fs::write(&path, renamed).expect("a written file");
        let source = generate(&Config::new(path)).expect("a model").source;
        assert!(!source.contains(&format!("struct {name} {{")), "{source}");
    }
}

/// The types that generated code imports in `tests/models`.
fn imported() -> Vec<String> {
    let models = config().manifest_path();
    let models = models
        .parent()
        .expect("a folder")
        .read_dir()
        .expect("models");
    let mut names = std::collections::BTreeSet::new();
    for file in models.map(|entry| entry.expect("an entry").path()) {
        if !file.to_string_lossy().ends_with("_manifest.json") {
            continue;
        }
        let source = generate(&Config::new(file)).expect("a model").source;
        let (_, imports) = source.split_once("use pycandle::").expect("imports");
        let (imports, _) = imports.split_once(';').expect("their end");
        let words = imports.split(|c: char| !c.is_ascii_alphanumeric());
        let types = words.filter(|w| w.starts_with(|c: char| c.is_ascii_uppercase()));
        names.extend(types.map(str::to_owned));
    }
    assert!(names.len() > 20, "{names:?}");
    names.into_iter().collect()
}
