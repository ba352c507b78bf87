//! Continues a prompt, greedily or by sampling, and prints tokens as they come.
//!
//! Without `GENERATE_MODEL` it runs the small Llama of the tests, whose weights are random: its
//! tokens mean nothing, except that PyTorch's are the same.
//!
//! ```text
//! cargo run --release -p generate -- --steps 16 3 14 15 9
//! cargo run --release -p generate -- --temperature 0.8 --top-k 40 --top-p 0.95 --seed 1 3 14 15 9
//! ```
//!
//! For a model of your own, record its folder (`python -m pycandle record FOLDER`) and name where
//! the manifest is when building; weights are given at run time:
//!
//! ```text
//! GENERATE_MODEL=pycandle_trace cargo run --release -p generate -- --weights FOLDER 3 14 15 9
//! ```

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use generate::model::Model;
use generate::{Decoder, Sampler, Settings};
use pycandle::{Device, Error, Result, Weights};

/// Continue a prompt of token ids.
#[derive(Parser)]
struct Args {
    /// The prompt's token ids
    #[arg(required = true)]
    tokens: Vec<i64>,
    /// A checkpoint: a safetensors file, an index or a folder [default: the tests' random Llama]
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Tokens to generate
    #[arg(long, default_value_t = 32)]
    steps: usize,
    /// 0 takes the likeliest token, more makes unlikely tokens likelier
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Choose among this many of the likeliest tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Choose among the likeliest tokens that have this probability together
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the random choices
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let weights = args.weights.unwrap_or_else(|| {
        eprintln!("the weights are random: the tokens have no meaning");
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/llama.safetensors")
    });
    let device = Device::Cpu;
    let model = Model::load(&Weights::open(weights)?, &device)?;
    let sampler = Sampler::new(Settings {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    })?;
    let mut out = std::io::stdout().lock();
    let decoder = Decoder::new(&model, &device, args.tokens, sampler)?;
    for token in decoder.take(args.steps) {
        let token = token?;
        let written = write!(out, "{token} ").and_then(|()| out.flush());
        written.map_err(|err| Error::msg(format!("standard output: {err}")))?;
    }
    writeln!(out).map_err(|err| Error::msg(format!("standard output: {err}")))
}
