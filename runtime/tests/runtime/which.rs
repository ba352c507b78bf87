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
