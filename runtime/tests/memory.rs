//! What loading holds in memory: the weights once, in the dtype of the model. In a process of its own,
//! because the count is of the process.

#![cfg(target_os = "linux")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pycandle::{DType, Device, Linear, NoProbe, Tensor, Weights};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LAYERS: usize = 12;
const SIZE: usize = 2048;
/// Bytes of the model in `f32`: 201 MB.
const BYTES: u64 = (LAYERS * SIZE * SIZE * 4) as u64;

#[test]
fn the_weights_are_held_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, dtype, width) in [("F32", DType::F32, 4), ("BF16", DType::BF16, 2)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        write(&path, name, width)?;
        let before = anonymous();
        let ((y, _layers), peak) = with_peak(|| run(&path))?;
        assert!(y.is_finite());
        let held = peak.saturating_sub(before);
        assert!(
            held * 100 <= BYTES * 105,
            "{dtype:?} file: {} MB held for {} MB of weights",
            held / 1_000_000,
            BYTES / 1_000_000
        );
        // Less would mean that the peak was missed.
        assert!(
            held * 100 >= BYTES * 95,
            "{dtype:?} file: only {held} bytes seen"
        );
    }
    Ok(())
}

/// Loads every layer as `f32` and runs them once; gives the sum of the result, and the layers.
fn run(path: &Path) -> Result<(f32, Vec<Linear>)> {
    let weights = Weights::open(path)?;
    let scope = weights.scope(DType::F32, &Device::Cpu).pp("layers");
    let layers = (0..LAYERS).map(|i| Linear::no_bias(&scope.pp(i), SIZE, SIZE));
    let layers = layers.collect::<pycandle::Result<Vec<_>>>()?;
    let mut x = Tensor::ones((1, SIZE), DType::F32, &Device::Cpu)?;
    for layer in &layers {
        x = layer.forward(&x, &mut NoProbe)?;
    }
    Ok((x.sum_all()?.to_scalar::<f32>()?, layers))
}

/// The result, and the most anonymous memory that the process had meanwhile.
fn with_peak<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(), Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
            }
        });
        let result = f();
        peak.fetch_max(anonymous(), Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        result
    })
    .map(|value| (value, peak.load(Ordering::Relaxed)))
}

/// Anonymous memory of this process in bytes; pages of mapped files are not part of it.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let number = line.and_then(|l| l.split_whitespace().next());
    number
        .and_then(|n| n.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// A checkpoint of small random numbers.
fn write(path: &Path, dtype: &str, width: usize) -> Result<()> {
    let bytes = SIZE * SIZE * width;
    let entries = (0..LAYERS).map(|i| {
        let (from, to) = (i * bytes, (i + 1) * bytes);
        format!(
            r#""layers.{i}.weight":{{"dtype":"{dtype}","shape":[{SIZE},{SIZE}],"data_offsets":[{from},{to}]}}"#
        )
    });
    let mut header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut state = 1u32;
    for _ in 0..LAYERS * SIZE * SIZE {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The upper bytes of a small float: either dtype reads a number near 0.01.
        let value = (0.01 + (state >> 8) as f32 / (1u32 << 31) as f32).to_le_bytes();
        out.write_all(&value[4 - width..])?;
    }
    Ok(out.flush()?)
}
