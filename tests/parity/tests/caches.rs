//! Caches that are plain lists, tuples and dicts: filled step by step against PyTorch's one full
//! forward, whose inputs and outputs are the golden `other`.

use std::collections::HashMap;
use std::path::Path;

use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_parity_tests::models::{block_caches, layer_caches, two_caches};

/// As in `generation.rs`: at most twice as far from the truth as PyTorch is, or 1e-6.
const FACTOR: f64 = 2.0;
const FLOOR: f64 = 1e-6;

/// A prefill, and then one position at a time.
const STEPS: [usize; 5] = [3, 1, 1, 1, 1];

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn open(name: &str) -> Result<(Self, Weights)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let golden = folder.join(format!("{name}_trace.other.safetensors"));
        let tensors = pycandle::candle_core::safetensors::load(golden, &Device::Cpu)?;
        let weights = Weights::open(folder.join(format!("{name}.safetensors")))?;
        Ok((Self(tensors), weights))
    }

    /// An input, cut along its second dimension into parts of these lengths.
    fn parts(&self, input: &str, lengths: [usize; 5]) -> Result<Vec<Tensor>> {
        let input = &self.0[&format!("input.{input}")];
        assert_eq!(input.dim(1)?, lengths.iter().sum::<usize>());
        let mut at = 0;
        let mut parts = Vec::new();
        for length in lengths {
            parts.push(input.narrow(1, at, length)?);
            at += length;
        }
        Ok(parts)
    }

    fn check(&self, output: &str, steps: &[Tensor]) -> Result<()> {
        let truth = &self.0[&format!("truth:output.{output}")];
        let torch = distance(&self.0[&format!("output.{output}")], truth)?;
        let ours = distance(&Tensor::cat(steps, 1)?, truth)?;
        let limit = (FACTOR * torch).max(FLOOR);
        assert!(
            ours <= limit,
            "`{output}` is {ours:e} off, PyTorch {torch:e}"
        );
        Ok(())
    }
}

/// Largest difference over the largest magnitude.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let a = a.to_dtype(DType::F64)?.flatten_all()?;
    let b = b.to_dtype(DType::F64)?.flatten_all()?;
    let difference = (&a - &b)?.abs()?.max(0)?.to_scalar::<f64>()?;
    Ok(difference / b.abs()?.max(0)?.to_scalar::<f64>()?)
}

#[test]
fn a_list_of_pairs_is_one_cache_of_layers() -> Result<()> {
    let (golden, weights) = Golden::open("layer_caches")?;
    let model = layer_caches::Model::load(&weights, &Device::Cpu)?;
    let mut cache = model.cache();
    assert_eq!(cache.num_layers(), 4);
    let mut logits = Vec::new();
    for ids in golden.parts("ids", STEPS)? {
        logits.push(model.forward(&ids, &mut cache)?);
    }
    assert_eq!(cache.len(), 7);
    golden.check("logits", &logits)
}

#[test]
fn a_dict_of_lists_is_one_cache_of_layers() -> Result<()> {
    let (golden, weights) = Golden::open("block_caches")?;
    let model = block_caches::Model::load(&weights, &Device::Cpu)?;
    let mut cache = model.cache();
    assert_eq!(cache.num_layers(), 6);
    let mut hidden = Vec::new();
    for x in golden.parts("x", STEPS)? {
        hidden.push(model.forward(&x, &mut cache)?);
    }
    golden.check("hidden", &hidden)
}

#[test]
fn separate_caches_grow_by_themselves() -> Result<()> {
    let (golden, weights) = Golden::open("two_caches")?;
    let model = two_caches::Model::load(&weights, &Device::Cpu)?;
    let (mut read, mut heard) = (model.read_cache(), model.heard_cache());
    let (mut text, mut audio) = (Vec::new(), Vec::new());
    let sounds = golden.parts("sounds", [1, 1, 2, 2, 1])?;
    for (words, sounds) in golden.parts("words", STEPS)?.iter().zip(&sounds) {
        let out = model.forward(words, sounds, &mut read, &mut heard)?;
        text.push(out.text);
        audio.push(out.audio);
    }
    assert_eq!((read.len(), heard.len()), (7, 7));
    golden.check("text", &text)?;
    golden.check("audio", &audio)
}
