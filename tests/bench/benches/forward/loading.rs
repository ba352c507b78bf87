//! What loading a model and its first run hold in memory: at most the weights, once. Each model in a
//! process of its own, because the count is of the process. On Linux.

use std::fmt::Display;
use std::process::{Command, ExitCode};

use pycandle::{Device, Error, RequiredKey, Result, Weights};
use pycandle_bench::{llama, llama_bf16, minilm};
use pycandle_deepen::memory;

use super::causal::Causal;
use super::{ids, ones, weights};

/// Names the model in the environment of the process that loads it.
pub const MODEL: &str = "PYCANDLE_BENCH_LOADS";

/// Most anonymous memory, of the bytes of the weights.
const MOST: f64 = 1.05;

/// Whether loading a model stays within what it may hold.
type Measure = fn(&str) -> Result<bool>;

const MODELS: [(&str, Measure); 3] = [
    ("loading minilm", encoder),
    ("loading llama f32", causal::<llama::Llama>),
    ("loading llama bf16", causal::<llama_bf16::Llama>),
];

/// Loads each model in another process, which prints what it held.
pub fn run(wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    for (name, _) in MODELS.iter().filter(|(name, _)| wanted(name)) {
        let failed = |what: &dyn Display| Error::msg(format!("{name}: {what}"));
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let child = Command::new(program).env(MODEL, name).status();
        let child = child.map_err(|error| failed(&error))?;
        if !child.success() {
            return Err(failed(&child));
        }
    }
    Ok(())
}

/// In that process: fails when more was held than the weights and a twentieth.
pub fn measure(name: &str) -> ExitCode {
    let measure = MODELS.iter().find(|(model, _)| *model == name);
    match measure.map(|(name, measure)| measure(name)) {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    }
}

fn encoder(name: &str) -> Result<bool> {
    let keys = minilm::MiniLm::required_keys()?;
    within(name, minilm::MANIFEST, &keys, |weights| {
        let model = minilm::MiniLm::load(weights, &Device::Cpu)?;
        let ids = ids(1, 16, 30522)?;
        model.forward(&ids, &ones(16)?, &ids.zeros_like()?)?;
        Ok(model)
    })
}

fn causal<M: Causal>(name: &str) -> Result<bool> {
    within(name, M::MANIFEST, &M::required_keys()?, |weights| {
        let model = M::load(weights, &Device::Cpu)?;
        let mut cache = model.cache();
        for past in 0..2 {
            model.run(&ids(1, 1, 32000)?, &ones(past + 1)?, &mut cache)?;
        }
        drop(cache);
        Ok(model)
    })
}

fn within<M>(
    name: &str,
    manifest: &str,
    keys: &[RequiredKey],
    load: impl FnOnce(&Weights) -> Result<M>,
) -> Result<bool> {
    let file = weights::file(manifest)?;
    let own = keys.iter().filter(|key| key.tied_to.is_none());
    let bytes = |key: &RequiredKey| key.shape.elem_count() * key.dtype.size_in_bytes();
    let used = own.map(bytes).sum::<usize>() as f64;
    let (model, held) = memory::peak(|| load(&Weights::open(&file)?));
    let _model = model?;
    let ratio = held as f64 / used;
    println!(
        "{name:28} {:.1} MB held for {:.1} MB of weights, {ratio:.3}",
        held as f64 / 1e6,
        used / 1e6
    );
    Ok(ratio <= MOST)
}
