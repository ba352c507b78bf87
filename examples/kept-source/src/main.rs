//! Runs the kept model on the tokens given and prints the likeliest next one.
//!
//! The weights are random: only that PyTorch chooses the same token means anything.
//!
//! ```text
//! cargo run -p kept-source -- 3 14 15 9
//! ```

use std::path::Path;
use std::process::ExitCode;

use kept_source::Llama;
use pycandle::{DType, Device, Error, Result, Tensor, Weights};

fn main() -> ExitCode {
    match run() {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u32> {
    let mut tokens = Vec::new();
    for text in std::env::args().skip(1) {
        let token = text.parse::<i64>();
        tokens.push(token.map_err(|err| Error::msg(format!("token `{text}`: {err}")))?);
    }
    if tokens.is_empty() {
        return Err(Error::msg(
            "give the prompt's tokens as numbers, as in `3 14 15 9`",
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/llama.safetensors");
    let model = Llama::load(&Weights::open(path)?, &Device::Cpu)?;
    let count = tokens.len();
    let ids = Tensor::from_vec(tokens, (1, count), &Device::Cpu)?;
    let mask = Tensor::ones((1, count), DType::I64, &Device::Cpu)?;
    let logits = model.forward(&ids, &mask, &mut model.cache())?;
    Ok(logits.get(0)?.get(count - 1)?.argmax(0)?.to_scalar()?)
}
