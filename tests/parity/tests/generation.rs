//! Causal models: decoding with a cache against one full forward and against `generate`.

use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_parity_tests::{distance, file, models};

fn argmax(logits: &Tensor) -> Result<i64> {
    let (_, sequence, _) = logits.dims3()?;
    let last = logits.narrow(1, sequence - 1, 1)?.flatten_all()?;
    Ok(i64::from(last.argmax(0)?.to_scalar::<u32>()?))
}

/// PyTorch's own distance from the run in a higher precision decides how far ours may be: at most
/// twice as far, or 1e-6.
const FACTOR: f64 = 2.0;
const FLOOR: f64 = 1e-6;

macro_rules! causal {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            use models::$name::Model;
            let device = Device::Cpu;
            let name = stringify!($name);
            let weights = Weights::open(file(&format!("{name}.safetensors")))?;
            let model = Model::load(&weights, &device)?;
            let golden = pycandle::candle_core::safetensors::load(
                file(&format!("{name}_generate.safetensors")),
                &device,
            )?;
            let (prompt, expected) = (&golden["prompt"], golden["tokens"].to_vec2::<i64>()?);
            let (batch, length) = prompt.dims2()?;
            assert_eq!(batch, 1);
            let ones = |n: usize| Tensor::ones((1, n), DType::I64, &device);

            // Prefill, then one token at a time from the cache, choosing greedily.
            let mut cache = model.cache();
            let mut steps = vec![model.forward(prompt, &ones(length)?, &mut cache)?];
            let mut tokens = Vec::new();
            for step in 0..expected[0].len() {
                let next = argmax(&steps[step])?;
                tokens.push(next);
                if step + 1 < expected[0].len() {
                    let input = Tensor::new(&[[next]], &device)?;
                    let mask = ones(cache.len() + 1)?;
                    steps.push(model.forward(&input, &mask, &mut cache)?);
                }
            }
            assert_eq!(steps.len(), 1 + 64, "prefill and so many steps");
            assert_eq!(tokens, expected[0], "greedy decoding differs from transformers' generate");

            // The same tokens at once, without anything cached.
            let all: Vec<i64> = prompt.to_vec2::<i64>()?.concat().into_iter()
                .chain(tokens.iter().copied().take(tokens.len() - 1))
                .collect();
            let all = Tensor::new(all, &device)?.unsqueeze(0)?;
            let full = model.forward(&all, &ones(all.dim(1)?)?, &mut model.cache())?;
            let stepwise = Tensor::cat(&steps, 1)?;
            let truth = &golden["truth"];
            let torch = distance(&golden["logits"], truth)?;
            let limit = (FACTOR * torch).max(FLOOR);
            let (whole, cached) = (distance(&full, truth)?, distance(&stepwise, truth)?);
            assert!(whole <= limit, "the full forward is {whole:e} off, PyTorch {torch:e}");
            assert!(cached <= limit, "cached decoding is {cached:e} off, PyTorch {torch:e}");

            // A truncated cache goes on as if the rest had never been there.
            let mut again = cache.clone();
            again.truncate(length);
            let input = Tensor::new(&[[tokens[0]]], &device)?;
            let step = model.forward(&input, &ones(length + 1)?, &mut again)?;
            assert_eq!(distance(&step, &steps[1])?, 0.0);
            Ok(())
        }
    )*};
}

causal! {
    gemma2 gpt2 llama mistral qwen2 qwen3
    llama_bf16 mistral_bf16 qwen2_bf16 qwen3_bf16
}
