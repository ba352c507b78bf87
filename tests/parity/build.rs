//! Generates every manifest under `tests/models` and `tests/ops`, with fusions and without, and one
//! test per recorded golden; and one model as often as `tests/long.rs` applies it, as one graph.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pycandle_build::{Config, Report, generate, write_if_changed};
use pycandle_deepen::iterate;

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    for set in ["models", "ops"] {
        let folder = root.join("..").join(set);
        println!("cargo::rerun-if-changed={}", folder.display());
        let (mut modules, mut tests, mut keys) = (String::new(), String::new(), String::new());
        for name in names(&folder, "_manifest.json") {
            let cases = cases(&folder, &name);
            for (fuse, suffix) in [(true, ""), (false, "_unfused")] {
                if set == "ops" && !fuse {
                    continue;
                }
                model(&folder, &out, &name, fuse, suffix, &mut modules);
                let _ = writeln!(
                    keys,
                    "#[test] fn {name}{suffix}() {{ \
                     check({name:?}, {set}::{name}{suffix}::Model::required_keys()); }}"
                );
                for (case, file) in &cases {
                    let _ = writeln!(
                        tests,
                        "#[test] fn {name}{suffix}{case}() {{ \
                         check::<{set}::{name}{suffix}::Model>({set:?}, {name:?}, {file:?}); }}"
                    );
                }
            }
        }
        for (file, text) in [("modules", modules), ("tests", tests), ("keys", keys)] {
            let path = out.join(format!("{set}_{file}.rs"));
            if let Err(report) = write_if_changed(&path, &text) {
                fail(&report);
            }
        }
    }
    if let Err(report) = long(&root.join("../models"), &out) {
        fail(&report);
    }
}

/// How often the long model applies the short one: it is 3000 operations then.
const TIMES: usize = 12;

/// Writes the manifest of a long model and generates it into a module of its own.
fn long(models: &Path, out: &Path) -> Result<(), Report> {
    let text = std::fs::read_to_string(models.join("flat_manifest.json")).unwrap_or_default();
    let long = iterate(&text, TIMES).unwrap_or_else(|error| error.to_string());
    write_if_changed(&out.join("long_manifest.json"), &long)?;
    let generated = generate(&Config::new("long_manifest.json").root(out).name("Model"))?;
    let source = format!(
        "/// How often this model applies the short one.\npub const TIMES: usize = {TIMES};\n{}",
        generated.source
    );
    write_if_changed(&out.join("long.rs"), &source)?;
    Ok(())
}

/// Generates one model into a module of its own; a model that cannot be generated fails the build.
fn model(folder: &Path, out: &Path, name: &str, fuse: bool, suffix: &str, modules: &mut String) {
    let weights = format!("{name}.safetensors");
    let mut config = Config::new(format!("{name}_manifest.json"))
        .root(folder)
        .name("Model")
        .fuse(fuse);
    if folder.join(&weights).exists() {
        config = config.weights(weights);
    }
    let generated = generate(&config).and_then(|generated| {
        let file = out.join(format!("{name}{suffix}.rs"));
        write_if_changed(&file, &generated.source)?;
        let _ = writeln!(
            modules,
            "#[doc = {name:?}] pub mod {name}{suffix} {{ \
             include!(concat!(env!(\"OUT_DIR\"), \"/{name}{suffix}.rs\")); }}"
        );
        Ok(())
    });
    if let Err(report) = generated {
        fail(&report);
    }
}

fn fail(report: &Report) {
    for line in report.to_string().lines() {
        println!("cargo::error={line}");
    }
}

/// Names of the files with this ending, sorted.
fn names(folder: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|n| n.strip_suffix(ending).map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The goldens of a model: test name suffix and file.
fn cases(folder: &Path, name: &str) -> Vec<(String, String)> {
    let all = names(folder, ".safetensors");
    let cases = all.iter().filter_map(|file| {
        let case = file.strip_prefix(&format!("{name}_trace"))?;
        let suffix = match case.strip_prefix('.') {
            Some(case) => format!("_{case}"),
            None if case.is_empty() => String::new(),
            None => return None,
        };
        Some((suffix, format!("{file}.safetensors")))
    });
    cases.collect()
}
