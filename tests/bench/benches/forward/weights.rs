//! Random checkpoints for manifests, kept in the build folder.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use pycandle::{Error, Result};
use pycandle_build::manifest::{Dtype, Manifest, Param};
use pycandle_build::raw;

/// The checkpoint of a manifest; written once.
pub fn file(manifest: &str) -> Result<PathBuf> {
    let name = Path::new(manifest).file_stem().unwrap_or_default();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(name)
        .with_extension("safetensors");
    let text = |error: &dyn std::fmt::Display| Error::msg(format!("{}: {error}", path.display()));
    let manifest = raw::read(Path::new(manifest)).map_err(|report| text(&report))?;
    let header = header(&manifest);
    let bytes = header.len() + manifest.params.iter().map(size).sum::<usize>();
    if std::fs::metadata(&path).is_ok_and(|m| m.len() == bytes as u64) {
        return Ok(path);
    }
    write(&path, &header, &manifest).map_err(|error| text(&error))?;
    Ok(path)
}

/// The size of a checkpoint.
pub fn bytes(file: &Path) -> Result<u64> {
    let error = |error: std::io::Error| Error::msg(format!("{}: {error}", file.display()));
    Ok(std::fs::metadata(file).map_err(error)?.len())
}

/// Bytes of a parameter, which is `f32` or `bf16`.
fn size(parameter: &Param) -> usize {
    let each = match parameter.dtype {
        Dtype::Bfloat16 => 2,
        _ => 4,
    };
    each * parameter.shape.iter().product::<usize>()
}

/// Length, JSON and padding.
fn header(manifest: &Manifest) -> Vec<u8> {
    let mut at = 0;
    let entries = manifest.params.iter().map(|p| {
        let end = at + size(p);
        let dtype = match p.dtype {
            Dtype::Bfloat16 => "BF16",
            _ => "F32",
        };
        let entry = format!(
            r#""{}":{{"dtype":"{dtype}","shape":{:?},"data_offsets":[{at},{end}]}}"#,
            p.name, p.shape
        );
        at = end;
        entry
    });
    let mut json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
    [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
}

fn write(path: &Path, header: &[u8], manifest: &Manifest) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(header)?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for parameter in &manifest.params {
        // Matrices keep activations near 1; the weights of norms are near 1, biases near 0.
        let (centre, spread) = match parameter.shape[..] {
            [_, inner] if !parameter.name.contains("embed") => (0.0, (3.0 / inner as f32).sqrt()),
            [_] if parameter.name.ends_with("weight") => (1.0, 0.1),
            _ => (0.0, 0.1),
        };
        for _ in 0..parameter.shape.iter().product::<usize>() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let uniform = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            let bytes = (centre + spread * uniform).to_le_bytes();
            // The upper half of an `f32` is the `bf16` next to it towards zero.
            let upper = &bytes[if parameter.dtype == Dtype::Bfloat16 {
                2
            } else {
                0
            }..];
            out.write_all(upper)?;
        }
    }
    out.flush()
}
