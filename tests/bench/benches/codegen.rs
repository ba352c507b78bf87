//! Code generation for an 80-layer Llama of the geometry of Llama-3-70B: by itself, which is to stay
//! below a second, and inside the attribute in a `cargo check` of a crate, below five.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pycandle_build::{Config, generate};

const LAYERS: usize = 80;
const MANIFEST: &str = "llama_70b_manifest.json";

fn benches(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deep-crate");
    if let Err(error) = prepare(&folder) {
        panic!("{}: {error}", folder.display());
    }
    let mut group = c.benchmark_group("codegen");
    group.sample_size(10);
    let config = Config::new(MANIFEST).root(&folder).name("Llama");
    group.bench_function("70B generate", |b| {
        b.iter(|| generate(&config).map(|g| g.source.len()).ok());
    });
    group.bench_function("70B cargo check", |b| {
        // Dependencies are checked once, outside the measurement.
        checked(&folder);
        b.iter_custom(|turns| (0..turns).map(|_| checked(&folder)).sum());
    });
    group.finish();
}

criterion_group!(codegen, benches);
criterion_main!(codegen);

/// A crate that uses the attribute, with cargo's own profiles, outside this workspace.
fn prepare(folder: &Path) -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let manifest = std::fs::read_to_string(root.join("tests/bench/manifests").join(MANIFEST))?;
    std::fs::create_dir_all(folder.join("src"))?;
    std::fs::write(
        folder.join(MANIFEST),
        pycandle_deepen::deepen(&manifest, LAYERS)?,
    )?;
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    std::fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[package]\nname = \"deep-crate\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [dependencies]\npycandle = {{ path = {:?} }}\n\n[workspace]\n",
            root.join("runtime")
        ),
    )?;
    std::fs::write(
        folder.join("src/lib.rs"),
        format!("#[pycandle::pycandle_model(manifest = {MANIFEST:?})]\npub struct Llama;\n"),
    )?;
    Ok(())
}

/// Time of a `cargo check` after the manifest has changed.
fn checked(folder: &Path) -> Duration {
    let manifest = folder.join(MANIFEST);
    let touched = std::fs::read(&manifest).and_then(|bytes| std::fs::write(&manifest, bytes));
    let begin = Instant::now();
    match touched.map_err(Into::into).and_then(|()| check(folder)) {
        Ok(()) => begin.elapsed(),
        Err(error) => panic!("{error}"),
    }
}

fn check(folder: &Path) -> Result<(), Box<dyn Error>> {
    let target: PathBuf = folder.join("target");
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}
