//! What loading holds in memory: the weights once, in the dtype of the model. In a process of its own,
//! because the count is of the process.

#![cfg(target_os = "linux")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use pycandle::{DType, Device, RequiredKey, Tensor, Weights};
use pycandle_deepen::memory;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A tied head, biases, embeddings, norms and transposed weights.
#[pycandle::pycandle_model(manifest = "../tests/bench/manifests/gpt2_manifest.json")]
pub struct Gpt2;

#[test]
fn the_weights_are_held_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let keys = Gpt2::required_keys()?;
    assert!(keys.iter().any(|key| key.tied_to.is_some()));
    let own = keys.iter().filter(|key| key.tied_to.is_none());
    let used = 4 * own.map(|key| key.shape.elem_count() as u64).sum::<u64>();
    assert!(used > 150_000_000, "{used}");
    // The first file holds what is tied twice, the second has to be widened.
    for (dtype, width, twice) in [("F32", 4, true), ("BF16", 2, false)] {
        let path = folder.path().join(format!("{dtype}.safetensors"));
        write(&path, &keys, dtype, width, twice)?;
        let (ran, held) = memory::peak(|| run(&path));
        let (y, _model) = ran?;
        assert!(y.is_finite());
        assert!(
            held * 100 <= used * 105,
            "{dtype} file: {} MB held for {} MB of weights",
            held / 1_000_000,
            used / 1_000_000
        );
        // Less would mean that the peak was missed.
        assert!(
            held * 100 >= used * 95,
            "{dtype} file: only {held} bytes seen"
        );
    }
    Ok(())
}

/// Loads the model as `f32` and runs it once; gives the sum of the result, and the model.
fn run(path: &Path) -> Result<(f32, Gpt2)> {
    let device = Device::Cpu;
    let model = Gpt2::load_as(&Weights::open(path)?, DType::F32, &device)?;
    let ids = Tensor::new(&[[3i64, 1, 4]], &device)?;
    let mask = Tensor::ones((1, 3), DType::I64, &device)?;
    let y = model.forward(&ids, &mask, &mut model.cache())?;
    Ok((y.sum_all()?.to_scalar::<f32>()?, model))
}

/// A checkpoint of small random numbers, with or without the names that are tied to others.
fn write(path: &Path, keys: &[RequiredKey], dtype: &str, width: usize, twice: bool) -> Result<()> {
    let keys: Vec<_> = keys
        .iter()
        .filter(|key| twice || key.tied_to.is_none())
        .collect();
    let mut at = 0;
    let entries = keys.iter().map(|key| {
        let (name, shape, from) = (&key.name, key.shape.dims(), at);
        at += key.shape.elem_count() * width;
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{from},{at}]}}"#)
    });
    let mut header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for key in keys {
        // What is tied is the same numbers.
        let name = key.tied_to.as_ref().unwrap_or(&key.name);
        let mut state = name.bytes().fold(1u32, |state, byte| {
            state.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        for _ in 0..key.shape.elem_count() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // The upper bytes of a small float: either dtype reads a number near 0.01.
            let value = (0.01 + (state >> 8) as f32 / (1u32 << 31) as f32).to_le_bytes();
            out.write_all(&value[4 - width..])?;
        }
    }
    Ok(out.flush()?)
}
