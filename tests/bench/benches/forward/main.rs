//! Generated models side by side with the hand-written ones of candle-transformers: the same weights,
//! one process, taking turns. Fails when ours is the slower one, or computes something else.

mod measure;
mod weights;

use std::path::Path;
use std::process::ExitCode;

use candle_nn::VarBuilder;
use candle_transformers::models::{bert, llama};
use measure::{Case, compare};
use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_bench::{llama as ours_llama, minilm};

/// Tokens that a decoding step looks back on.
const PAST: usize = 128;

fn main() -> ExitCode {
    // `cargo bench` passes `--bench`; what else there is selects cases by name.
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    match run(filter.as_deref()) {
        Ok(cases) => measure::report(&cases),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(filter: Option<&str>) -> Result<Vec<Case>> {
    println!(
        "read roof {:.1} GB/s, {} threads",
        measure::roof(),
        rayon::current_num_threads()
    );
    let mut cases = Vec::new();
    let wanted = |name: &str| filter.is_none_or(|f| name.contains(f));
    for (batch, sequence) in [(1, 16), (8, 64), (1, 256)] {
        let name = format!("minilm {batch}x{sequence}");
        if wanted(&name) {
            cases.push(encode(&name, batch, sequence)?);
        }
    }
    if wanted("llama prefill") || wanted("llama decode") {
        let file = weights::file(ours_llama::MANIFEST)?;
        if wanted("llama prefill") {
            cases.push(prefill(&file)?);
        }
        if wanted("llama decode") {
            cases.push(decode(&file)?);
        }
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
    let theirs = bert::BertModel::load(builder(&file)?, &config)?;
    let ours = minilm::MiniLm::load(&Weights::open(&file)?, device)?;
    let ids = ids(batch, sequence, 30522)?;
    let types = ids.zeros_like()?;
    let lengths = (0..batch).map(|b| sequence - b * sequence / (2 * batch));
    let mask = lengths.flat_map(|n| (0..sequence).map(move |i| i64::from(i < n)));
    let mask = Tensor::from_iter(mask, device)?.reshape((batch, sequence))?;
    compare(
        name,
        || ours.forward(&ids, &mask, &types),
        || Ok(theirs.forward(&ids, &types, Some(&mask))?),
    )
}

/// A prompt through the causal model, up to the logits of the last token.
fn prefill(file: &Path) -> Result<Case> {
    let Llamas {
        ours,
        theirs,
        config,
    } = Llamas::load(file)?;
    let (ids, mask) = (ids(1, PAST, 32000)?, ones(PAST)?);
    let cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
    compare(
        "llama prefill 1x128",
        || {
            Ok(ours
                .forward(&ids, &mask, &mut ours.cache())?
                .flatten_all()?)
        },
        || Ok(theirs.forward(&ids, 0, &mut cache.clone())?.flatten_all()?),
    )
}

/// One more token after as many as [`PAST`].
fn decode(file: &Path) -> Result<Case> {
    let Llamas {
        ours,
        theirs,
        config,
    } = Llamas::load(file)?;
    let prompt = ids(1, PAST, 32000)?;
    let mut our_cache = ours.cache();
    ours.forward(&prompt, &ones(PAST)?, &mut our_cache)?;
    let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
    theirs.forward(&prompt, 0, &mut cache)?;
    let (ids, mask) = (ids(1, 1, 32000)?, ones(PAST + 1)?);
    compare(
        "llama decode 1 after 128",
        || {
            our_cache.truncate(PAST);
            Ok(ours.forward(&ids, &mask, &mut our_cache)?.flatten_all()?)
        },
        || {
            Ok(theirs
                .forward(&ids, PAST, &mut cache.clone())?
                .flatten_all()?)
        },
    )
}

struct Llamas {
    ours: ours_llama::Llama,
    theirs: llama::Llama,
    config: llama::Config,
}

impl Llamas {
    fn load(file: &Path) -> Result<Self> {
        let config = llama::Config {
            hidden_size: 896,
            intermediate_size: 4864,
            vocab_size: 32000,
            num_hidden_layers: 24,
            num_attention_heads: 14,
            num_key_value_heads: 2,
            rms_norm_eps: 1e-5,
            max_position_embeddings: 2048,
            ..llama::Config::config_7b_v2(false)
        };
        Ok(Self {
            ours: ours_llama::Llama::load(&Weights::open(file)?, &Device::Cpu)?,
            theirs: llama::Llama::load(builder(file)?, &config)?,
            config,
        })
    }
}

fn builder(file: &Path) -> Result<VarBuilder<'static>> {
    // SAFETY: the file is ours, in the build folder, and nothing writes to it while we run.
    let weights =
        unsafe { VarBuilder::from_mmaped_safetensors(&[file], DType::F32, &Device::Cpu)? };
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
