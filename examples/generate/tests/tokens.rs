//! Decoding against transformers' `generate`, and sampling against itself.
//!
//! They hold for the model of the tests, which is what is built unless `GENERATE_MODEL` is set.

use std::path::{Path, PathBuf};

use generate::model::Model;
use generate::{Decoder, Sampler, Settings};
use pycandle::{Device, Result, Weights};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/models")
        .join(name)
}

fn decode(prompt: &[i64], settings: Settings, steps: usize) -> Result<Vec<i64>> {
    let model = Model::load(&Weights::open(file("llama.safetensors"))?, &Device::Cpu)?;
    let sampler = Sampler::new(settings)?;
    let decoder = Decoder::new(&model, &Device::Cpu, prompt.to_vec(), sampler)?;
    decoder.take(steps).collect()
}

#[test]
fn greedy_tokens_are_those_of_transformers() -> Result<()> {
    let golden =
        pycandle::candle_core::safetensors::load(file("llama_generate.safetensors"), &Device::Cpu)?;
    let prompt = golden["prompt"].to_vec2::<i64>()?.concat();
    let tokens = golden["tokens"].to_vec2::<i64>()?.concat();
    let greedy = decode(&prompt, Settings::default(), tokens.len())?;
    assert_eq!(greedy, tokens);

    // Sampling among one token is greedy, at every temperature.
    let settings = Settings {
        temperature: 2.0,
        top_k: 1,
        ..Settings::default()
    };
    assert_eq!(decode(&prompt, settings, tokens.len())?, tokens);
    Ok(())
}

#[test]
fn sampling_repeats_with_its_seed() -> Result<()> {
    let settings = |seed| Settings {
        temperature: 1.5,
        top_k: 20,
        top_p: 0.95,
        seed,
    };
    let first = decode(&[3, 14, 15], settings(1), 24)?;
    assert_eq!(first, decode(&[3, 14, 15], settings(1), 24)?);
    assert_ne!(first, decode(&[3, 14, 15], settings(2), 24)?);
    Ok(())
}

#[test]
fn an_empty_prompt_is_an_error() {
    assert!(decode(&[], Settings::default(), 1).is_err());
}
