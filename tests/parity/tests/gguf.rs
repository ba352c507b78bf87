//! A model recorded from PyTorch, loaded from GGUF files that the Python package `gguf` wrote under
//! llama.cpp's names and in its row order.

use std::path::{Path, PathBuf};

use candle_core::safetensors;
use pycandle::parity::{Goldens, run};
use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_parity_tests::models::llama::Model;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The logits of sixteen tokens.
fn logits(weights: impl AsRef<Path>) -> Result<Tensor> {
    let model = Model::load(&Weights::open(weights)?, &Device::Cpu)?;
    let ids: Vec<i64> = (0..16).map(|i| (i * 23 + 5) % 64).collect();
    let ids = Tensor::from_vec(ids, (1, 16), &Device::Cpu)?;
    let mask = Tensor::ones((1, 16), DType::I64, &Device::Cpu)?;
    model.forward(&ids, &mask, &mut model.cache())
}

/// Distance over the norm of the truth.
fn distance(ours: &Tensor, truth: &Tensor) -> Result<f32> {
    let norm = |t: &Tensor| -> Result<f32> { Ok(t.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()) };
    Ok(norm(&(ours - truth)?)? / norm(truth)?)
}

#[test]
fn f32_is_at_parity() -> Result<()> {
    let weights = Weights::open(file("gguf/llama_F32.gguf"))?;
    for golden in ["llama_trace", "llama_trace.prefill", "llama_trace.decode"] {
        let goldens = Goldens::open(file(&format!("models/{golden}.safetensors")))?;
        let report = run::<Model>(&weights, &goldens, &Device::Cpu)?;
        assert!(report.passed(), "{report}");
    }
    let ours = logits(file("gguf/llama_F32.gguf"))?;
    let plain = logits(file("models/llama.safetensors"))?;
    assert_eq!(distance(&ours, &plain)?, 0.);
    Ok(())
}

/// Half-precision GGUF is, bit for bit, the same weights rounded in a safetensors file.
#[test]
fn half_precision_is_that_of_safetensors() -> Result<()> {
    let folder = tempfile::tempdir().map_err(pycandle::Error::msg)?;
    let weights = safetensors::load(file("models/llama.safetensors"), &Device::Cpu)?;
    for (name, dtype) in [("F16", DType::F16), ("BF16", DType::BF16)] {
        let rounded = weights.iter().map(|(key, tensor)| {
            // The norms stay in F32.
            let dtype = if tensor.rank() == 1 {
                DType::F32
            } else {
                dtype
            };
            Ok((key.clone(), tensor.to_dtype(dtype)?))
        });
        let rounded = rounded.collect::<Result<std::collections::HashMap<_, _>>>()?;
        let path = folder.path().join(format!("{name}.safetensors"));
        safetensors::save(&rounded, &path)?;
        let ours = logits(file(&format!("gguf/llama_{name}.gguf")))?;
        assert_eq!(distance(&ours, &logits(path)?)?, 0., "{name}");
    }
    Ok(())
}

/// A product by blocks rounds its input to 8 bits in blocks of 32. PyTorch with the same weights and
/// inputs rounded by the `gguf` package is where ours has to be. An input that differs in its last
/// bit may be rounded to the other side, so the two are not equal; but the rounding explains all but
/// a quarter of what is off.
#[test]
fn blocks_of_8_bits_round_as_the_reference_does() -> Result<()> {
    let ours = logits(file("gguf/llama_Q8_0.gguf"))?;
    let golden = safetensors::load(file("gguf/llama_Q8_0_logits.safetensors"), &Device::Cpu)?;
    let rounding = distance(
        &logits(file("gguf/llama_Q8_0.safetensors"))?,
        &golden["logits"],
    )?;
    let off = distance(&ours, &golden["logits"])?;
    assert!(off <= rounding / 4., "{off}, the rounding makes {rounding}");
    // The weights are rounded as much as the inputs are, and independently of them.
    let exact = distance(&ours, &logits(file("models/llama.safetensors"))?)?;
    assert!(
        exact <= 2. * rounding,
        "{exact}, the rounding makes {rounding}"
    );
    Ok(())
}

/// 4-bit weights are off by up to a sixteenth of their block's largest, but they are these weights.
#[test]
fn blocks_of_4_bits_are_the_same_model() -> Result<()> {
    let ours = logits(file("gguf/llama_Q4_0.gguf"))?;
    let off = distance(&ours, &logits(file("models/llama.safetensors"))?)?;
    assert!(off > 0.01 && off < 0.5, "{off}");
    Ok(())
}
