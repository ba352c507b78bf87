//! Code generation for an 80-layer Llama of the geometry of Llama-3-70B: by itself, which is to stay
//! below a second, and inside the attribute in a `cargo check` of a crate, below five. And a mixture
//! of experts of 442,369 tensors, whose checkpoint is to be open in a second and validated in two.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pycandle_build::{Config, check, checkpoint, generate, raw};
use pycandle_checkpoint::Checkpoint;
use pycandle_deepen::experts;

const LAYERS: usize = 80;
const MANIFEST: &str = "llama_70b_manifest.json";

/// What generating may take by itself, and what a check of the crate may.
const GENERATE: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_secs(5);

/// What opening a checkpoint of half a million tensors may take, and validating it besides.
const OPEN: Duration = Duration::from_secs(1);
const VALIDATE: Duration = Duration::from_secs(2);

fn benches(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deep-crate");
    if let Err(error) = prepare(&folder) {
        panic!("{}: {error}", folder.display());
    }
    let mut group = c.benchmark_group("codegen");
    group.sample_size(10);
    let config = Config::new(MANIFEST).root(&folder).name("Llama");
    let mut taken = Vec::new();
    group.bench_function("70B generate", |b| {
        b.iter_custom(|turns| sum(turns, &mut taken, || generated(&config)));
    });
    hold("generate", taken, GENERATE);
    let mut taken = Vec::new();
    group.bench_function("70B cargo check", |b| {
        // Dependencies are checked once, outside the measurement.
        checked(&folder);
        b.iter_custom(|turns| sum(turns, &mut taken, || checked(&folder)));
    });
    hold("cargo check", taken, CHECK);
    group.finish();
}

fn many_tensors(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("experts");
    let (manifest, weights) = (folder.join("manifest.json"), folder.join("w.safetensors"));
    let prefixed = folder.join("prefixed.safetensors");
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&manifest, experts::manifest(false)))
        .and_then(|()| experts::write_checkpoint(&weights, ""))
        .and_then(|()| experts::write_checkpoint(&prefixed, "wrapped."));
    if let Err(error) = written {
        panic!("{}: {error}", folder.display());
    }
    let mut group = c.benchmark_group("442,369 tensors");
    group.sample_size(10);
    let mut taken = Vec::new();
    group.bench_function("open", |b| {
        b.iter_custom(|turns| sum(turns, &mut taken, || timed(|| Checkpoint::open(&weights))));
    });
    hold("open", taken, OPEN);
    let config = Config::new(&manifest);
    let with_weights = config.clone().weights(&weights);
    let traced = match raw::read(&manifest) {
        Ok(traced) => traced,
        Err(report) => panic!("{report}"),
    };
    for (name, weights, fits) in [("fits", &weights, true), ("is prefixed", &prefixed, false)] {
        let config = config.clone().weights(weights);
        let validate = || checkpoint::check(&traced, &config).is_ok();
        assert_eq!(validate(), fits, "{}", weights.display());
        let mut taken = Vec::new();
        group.bench_function(format!("open and validate what {name}"), |b| {
            b.iter_custom(|turns| sum(turns, &mut taken, || timed(validate)));
        });
        hold("open and validate", taken, VALIDATE);
    }
    group.bench_function("read the manifest", |b| b.iter(|| check(&config).is_ok()));
    group.bench_function("generate", |b| {
        b.iter(|| generate(&with_weights).map(|g| g.source.len()).ok());
    });
    group.finish();
}

criterion_group!(codegen, benches, many_tensors);
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

/// What several turns take together; each is kept.
fn sum(turns: u64, taken: &mut Vec<Duration>, mut turn: impl FnMut() -> Duration) -> Duration {
    let first = taken.len();
    taken.extend((0..turns).map(|_| turn()));
    taken[first..].iter().sum()
}

/// Holds the median against its limit; a benchmark that was not asked for took no turns.
fn hold(name: &str, mut taken: Vec<Duration>, limit: Duration) {
    taken.sort_unstable();
    let Some(median) = taken.get(taken.len() / 2) else {
        return;
    };
    assert!(
        *median < limit,
        "{name}: {median:?}, the limit is {limit:?}"
    );
}

/// Time of a turn, without that of dropping what it gives.
fn timed<T>(turn: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    let given = turn();
    let elapsed = begin.elapsed();
    std::hint::black_box(given);
    elapsed
}

/// Time of generating by itself.
fn generated(config: &Config) -> Duration {
    let begin = Instant::now();
    match generate(config) {
        Ok(generated) => {
            std::hint::black_box(generated);
            begin.elapsed()
        }
        Err(report) => panic!("{report}"),
    }
}

/// Time of a `cargo check` after the manifest has changed.
fn checked(folder: &Path) -> Duration {
    let manifest = folder.join(MANIFEST);
    let touched = std::fs::read(&manifest).and_then(|bytes| std::fs::write(&manifest, bytes));
    let begin = Instant::now();
    match touched
        .map_err(Into::into)
        .and_then(|()| check_crate(folder))
    {
        Ok(()) => begin.elapsed(),
        Err(error) => panic!("{error}"),
    }
}

fn check_crate(folder: &Path) -> Result<(), Box<dyn Error>> {
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
