//! Generated models side by side with the hand-written ones of candle-transformers: the same weights,
//! one process, taking turns. Fails when ours is the slower one, or computes something else.
//! What loading holds in memory, and the products of a few rows, beside what memory can be read at.

mod causal;
mod loading;
mod measure;
mod products;
mod weights;

use std::path::Path;
use std::process::ExitCode;

use candle_nn::VarBuilder;
use candle_transformers::models::bert;
use measure::{Case, compare};
use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_bench::{llama, llama_bf16, minilm};

fn main() -> ExitCode {
    // `cargo bench` passes `--bench`; what else there is selects cases by name.
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    if let Ok(model) = std::env::var(loading::MODEL) {
        return loading::measure(&model);
    }
    match run(filter.as_deref()) {
        Ok(cases) => measure::report(cases),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(filter: Option<&str>) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let wanted = |name: &str| filter.is_none_or(|f| name.contains(f));
    loading::run(&wanted)?;
    for (batch, sequence) in [(1, 16), (8, 64), (1, 256)] {
        let name = format!("minilm {batch}x{sequence}");
        if wanted(&name) {
            cases.push(encode(&name, batch, sequence)?);
        }
    }
    causal::cases::<llama::Llama>(&wanted, &mut cases)?;
    causal::cases::<llama_bf16::Llama>(&wanted, &mut cases)?;
    if wanted("products") {
        products::run()?;
    }
    Ok(cases)
}

/// Sentences of different lengths through the encoder.
fn encode(name: &str, batch: usize, sequence: usize) -> Result<Case> {
    let device = &Device::Cpu;
    let file = weights::file(minilm::MANIFEST)?;
    let config = bert::Config {
        hidden_size: 384,
        num_hidden_layers: 6,
        intermediate_size: 1536,
        ..bert::Config::default()
    };
    let theirs = bert::BertModel::load(builder(&file, DType::F32)?, &config)?;
    let ours = minilm::MiniLm::load(&Weights::open(&file)?, device)?;
    let ids = ids(batch, sequence, 30522)?;
    let types = ids.zeros_like()?;
    let lengths = (0..batch).map(|b| sequence - b * sequence / (2 * batch));
    let mask = lengths.flat_map(|n| (0..sequence).map(move |i| i64::from(i < n)));
    let mask = Tensor::from_iter(mask, device)?.reshape((batch, sequence))?;
    compare(
        Case::new(name, 1e-4),
        || ours.forward(&ids, &mask, &types),
        || Ok(theirs.forward(&ids, &types, Some(&mask))?),
    )
}

fn builder(file: &Path, dtype: DType) -> Result<VarBuilder<'static>> {
    // SAFETY: the file is ours, in the build folder, and nothing writes to it while we run.
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&[file], dtype, &Device::Cpu)? };
    Ok(weights)
}

fn ids(batch: usize, sequence: usize, vocabulary: i64) -> Result<Tensor> {
    let count = (batch * sequence) as i64;
    let ids = (0..count).map(|i| (i * 7919 + 13) % vocabulary);
    Ok(Tensor::from_iter(ids, &Device::Cpu)?.reshape((batch, sequence))?)
}

fn ones(sequence: usize) -> Result<Tensor> {
    Ok(Tensor::ones((1, sequence), DType::I64, &Device::Cpu)?)
}
