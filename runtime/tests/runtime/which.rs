//! Which tensor of a file is which of the model, as loading decides.

use std::path::Path;

use pycandle::__private::bind::{Expected, load};
use pycandle::{DType, Device, Param, Result, Scope, Weights};

use crate::files::gguf;
use crate::{folder, save, write};

/// The values of these parameters of a model that consists of them.
fn loaded(
    path: &Path,
    expected: &Expected,
    names: &[&str],
    shape: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let from_scope = |w: &Scope| {
        let params = names.iter().map(|name| w.param(name, shape));
        params.collect::<Result<Vec<Param>>>()
    };
    let weights = Weights::open(path)?;
    let params = load(&weights, DType::F32, &Device::Cpu, expected, from_scope)?;
    let values = params.iter().map(|param| {
        let tensor = param.tensor()?.flatten_all()?;
        Ok(tensor.to_vec1()?)
    });
    values.collect()
}

const SHIFTED: Expected = Expected::new("m_manifest.json", DType::F32)
    .renames(&[("1.weight", "0.weight"), ("2.weight", "1.weight")]);

#[test]
fn names_that_rules_shift_are_taken_as_a_whole() -> Result<()> {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let found = |first: &str, second: &str| {
        save(&path, &[(first, &[1], &[1.]), (second, &[1], &[2.])]);
        loaded(&path, &SHIFTED, &["1.weight", "2.weight"], &[1])
    };
    assert_eq!(found("0.weight", "1.weight")?, [[1.], [2.]]);
    assert_eq!(found("1.weight", "2.weight")?, [[1.], [2.]]);
    let error = found("1.weight", "3.weight").expect_err("one tensor for both");
    let text = error.to_string();
    assert!(
        text.contains("twice: 1.weight and 2.weight would both be read from one tensor"),
        "{text}"
    );
    Ok(())
}

const NAMED: Expected = Expected::new("m_manifest.json", DType::F32);
const RENAMED: Expected = Expected::new("m_manifest.json", DType::F32).renames(&[(
    "model.layers.*.self_attn.q_proj.weight",
    "blk.*.attn_q.weight",
)]);

#[test]
fn rows_of_a_gguf_are_put_back_by_whatever_name() -> Result<()> {
    let q = ["model.layers.0.self_attn.q_proj.weight"];
    let model = gguf("../models/llama.safetensors");
    let theirs = loaded(&model, &NAMED, &q, &[32, 32])?;
    for expected in [NAMED, RENAMED] {
        let ours = loaded(&gguf("llama_F32.gguf"), &expected, &q, &[32, 32])?;
        assert!(ours == theirs);
    }
    Ok(())
}

const TIED: Expected = Expected::new("m_manifest.json", DType::F32).tied(&[("b", "a")]);

#[test]
fn twins_of_two_dtypes_are_refused_as_at_build_time() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let json = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}"#;
    write(&path, json, &[0; 4]);
    let error = loaded(&path, &TIED, &["a", "b"], &[1]).expect_err("two dtypes");
    let text = error.to_string();
    assert!(
        text.contains("dtype: b is BF16 and a is F16, in the trace they are one tensor"),
        "{text}"
    );
}

/// A GGUF file of two matrices of one row, which holds the same ones in blocks of two types.
fn quantized_twins(path: &Path) {
    let half = half::f16::from_f32(0.125).to_le_bytes();
    // Nibbles less 8, and bytes, times the scale before them.
    let q4_0 = [&half[..], &[0x99; 16]].concat();
    let q8_0 = [&half[..], &[1; 32]].concat();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend([2u64, 0].map(u64::to_le_bytes).concat());
    for (name, code, offset) in [("a", 2u32, 0u64), ("b", 8, 32)] {
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(name.bytes());
        bytes.extend(2u32.to_le_bytes());
        bytes.extend([32u64, 1].map(u64::to_le_bytes).concat());
        bytes.extend(code.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(&q4_0);
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(&q8_0);
    std::fs::write(path, bytes).expect("a writable folder");
}

#[test]
fn quantized_twins_of_two_types_are_one_tensor() -> Result<()> {
    let dir = folder();
    let path = dir.path().join("model.gguf");
    quantized_twins(&path);
    let [a, b] = &loaded(&path, &TIED, &["a", "b"], &[1, 32])?[..] else {
        panic!("two parameters");
    };
    assert_eq!((a, b), (&vec![0.125; 32], &vec![0.125; 32]));
    Ok(())
}
