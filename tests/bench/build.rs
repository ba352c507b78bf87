//! Generates the benchmarks' models: the recorded MiniLM, and a Llama made as deep as its size asks.

use std::error::Error;
use std::path::{Path, PathBuf};

use pycandle_build::{Config, generate, write_if_changed};

/// Layers of the Llama of half a billion parameters.
const LAYERS: usize = 24;

fn main() {
    if let Err(error) = run() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let manifests = root.join("manifests");
    println!("cargo::rerun-if-changed={}", manifests.display());
    let minilm = std::fs::read_to_string(manifests.join("minilm_manifest.json"))?;
    model(&out, "minilm", "MiniLm", &minilm)?;
    for (file, from) in [
        ("llama", "llama_half_b"),
        ("llama_bf16", "llama_half_b_bf16"),
    ] {
        let llama = std::fs::read_to_string(manifests.join(format!("{from}_manifest.json")))?;
        let deep = pycandle_deepen::deepen(&llama, LAYERS)?;
        model(&out, file, "Llama", &deep)?;
    }
    Ok(())
}

fn model(out: &Path, file: &str, name: &str, manifest: &str) -> Result<(), Box<dyn Error>> {
    let path = format!("{file}_manifest.json");
    write_if_changed(&out.join(&path), manifest).map_err(|report| report.to_string())?;
    let config = Config::new(path).root(out).name(name);
    let generated = generate(&config).map_err(|report| report.to_string())?;
    write_if_changed(&out.join(format!("{file}.rs")), &generated.source)
        .map_err(|report| report.to_string())?;
    Ok(())
}
