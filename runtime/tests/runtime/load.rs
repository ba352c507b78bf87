//! Loading a generated model: all of it is proved from headers before a byte of a weight is read.

use std::path::Path;

use pycandle::__private::bind::{Expected, load, required_keys};
use pycandle::{DType, Device, Embedding, Linear, Param, Result, Scope, Weights};

use crate::files::gguf;
use crate::{folder, write};

const EXPECTED: Expected =
    Expected::new("small_manifest.json", DType::F32).tied(&[("head.weight", "embed.weight")]);

struct Small {
    embed: Embedding,
    layers: Vec<Linear>,
    mask: Param,
    head: Linear,
}

/// As generated code builds it.
fn small(w: &Scope) -> Result<Small> {
    Ok(Small {
        embed: Embedding::load(&w.pp("embed"), 4, 3)?,
        layers: (0..2)
            .map(|i| Linear::no_bias(&w.pp("layers").pp(i), 3, 3))
            .collect::<Result<_>>()?,
        mask: w.with_dtype(DType::I64).param("mask", 2)?,
        head: Linear::no_bias(&w.pp("head"), 3, 4)?,
    })
}

fn open(path: &Path) -> Result<Small> {
    load(
        &Weights::open(path)?,
        DType::F32,
        &Device::Cpu,
        &EXPECTED,
        small,
    )
}

/// A file of these tensors whose data is not there any more when a model is loaded: reading any of
/// it would end the process.
fn load_without_data(tensors: &[(&str, &str, &[usize], usize)]) -> Result<Small> {
    let (mut entries, mut at) = (Vec::new(), 0);
    for (name, dtype, shape, bytes) in tensors {
        let end = at + bytes;
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#
        ));
        at = end;
    }
    let json = format!("{{{}}}", entries.join(","));
    // The data begins on a page of its own, whatever the size of a page.
    let padding = (1 << 16) - 8 - json.len();
    let json = json + &" ".repeat(padding);
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    write(&path, &json, &vec![0; at]);
    let weights = Weights::open(&path)?;
    let file = std::fs::File::options().write(true).open(&path);
    let cut = file.and_then(|file| file.set_len(1 << 16));
    cut.expect("a file that can be cut");
    load(&weights, DType::F32, &Device::Cpu, &EXPECTED, small)
}

#[cfg(unix)]
#[test]
fn everything_that_does_not_fit_is_one_error_and_no_weight_is_read() {
    let text = load_without_data(&[
        ("embed.weight", "F32", &[5, 3], 60),
        ("layers.1.weight", "C64", &[3, 3], 72),
        ("mask", "F32", &[2], 8),
    ])
    .err()
    .expect("a mismatch")
    .to_string();
    for expected in [
        "does not match the model traced in `small_manifest.json`",
        "model.safetensors (3 tensors)",
        "missing",
        "layers.0.weight",
        "embed.weight is [5, 3], the trace has [4, 3]",
        "layers.1.weight",
        "C64",
        "mask",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
    }
}

#[cfg(unix)]
#[test]
fn binding_reads_no_weight() -> Result<()> {
    let model = load_without_data(&[
        ("embed.weight", "BF16", &[4, 3], 24),
        ("layers.0.weight", "F32", &[3, 3], 36),
        ("layers.1.weight", "F16", &[3, 3], 18),
        ("mask", "I32", &[2], 8),
    ])?;
    let layers = model.layers.iter().map(Linear::weight);
    let params = layers.chain([model.embed.weight(), model.head.weight(), &model.mask]);
    assert!(params.into_iter().all(|param| !param.is_loaded()));
    // The absent twin is the one that is there.
    assert_eq!(model.head.weight().key(), "embed.weight");
    Ok(())
}

#[test]
fn required_keys_are_what_is_asked_for() -> Result<()> {
    let keys = required_keys(&EXPECTED, small)?;
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            (
                &*key.name,
                key.shape.dims(),
                key.dtype,
                key.tied_to.as_deref(),
            )
        })
        .collect();
    let expected: [(&str, &[usize], _, _); 5] = [
        ("embed.weight", &[4, 3], DType::F32, None),
        ("layers.0.weight", &[3, 3], DType::F32, None),
        ("layers.1.weight", &[3, 3], DType::F32, None),
        ("mask", &[2], DType::I64, None),
        ("head.weight", &[4, 3], DType::F32, Some("embed.weight")),
    ];
    assert_eq!(keys, expected);
    Ok(())
}

#[test]
fn renamed_keys_are_found() -> Result<()> {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let ones = [1f32; 12];
    crate::save(
        &path,
        &[
            ("tok.weight", &[4, 3], &ones),
            ("h.0.fc.weight", &[3, 3], &ones[..9]),
            ("h.1.fc.weight", &[3, 3], &[2.; 9]),
        ],
    );
    let expected = EXPECTED.renames(&[
        ("layers.*.weight", "h.*.fc.weight"),
        ("embed.weight", "tok.weight"),
    ]);
    let asked = |w: &Scope| {
        Embedding::load(&w.pp("embed"), 4, 3)
            .and_then(|embed| Ok((embed, Linear::no_bias(&w.pp("layers").pp(1), 3, 3)?)))
    };
    let weights = Weights::open(&path)?;
    let (embed, layer) = load(&weights, DType::F32, &Device::Cpu, &expected, asked)?;
    assert_eq!(embed.weight().key(), "tok.weight");
    assert_eq!(layer.weight().key(), "h.1.fc.weight");
    assert_eq!(layer.weight().tensor()?.to_vec2::<f32>()?, [[2.; 3]; 3]);
    assert!(open(&path).is_err());
    Ok(())
}

#[test]
fn blocks_that_cannot_be_multiplied_by_are_listed() -> Result<()> {
    let weights = Weights::open(gguf("blocks.gguf"))?;
    let asked = |w: &Scope| {
        let names = ["TQ1_0", "Q8_0", "IQ4_NL", "TQ2_0"];
        names
            .into_iter()
            .map(|name| w.param(name, (3, 512)))
            .collect::<Result<Vec<_>>>()
    };
    let expected = Expected::new("blocks_manifest.json", DType::F32);
    let loaded = load(&weights, DType::F32, &Device::Cpu, &expected, asked);
    let text = loaded.expect_err("three of four").to_string();
    for expected in [
        "blocks.gguf (18 tensors)",
        "3 weights",
        "  IQ4_NL\n",
        "  TQ1_0\n",
        "  TQ2_0\n",
        "Q4_0",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn a_trace_in_f32_is_not_loaded_in_half_precision() -> Result<()> {
    let weights = Weights::open(gguf("kinds.gguf"))?;
    let error = load(&weights, DType::BF16, &Device::Cpu, &EXPECTED, small);
    let text = error.err().expect("another dtype").to_string();
    assert!(
        text.contains("traced in F32 and cannot be loaded in BF16"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_trace_in_bf16_is_loaded_in_f16_where_that_holds_its_numbers() -> Result<()> {
    const TRACED: Expected = Expected::new("m_manifest.json", DType::BF16);
    let weights = Weights::open(gguf("kinds.gguf"))?;
    let loaded = |largest, dtype| {
        let expected = TRACED.largest(largest);
        load(&weights, dtype, &Device::Cpu, &expected, |_| Ok(()))
    };
    let least = f64::from(half::bf16::MAX);
    loaded(65504.0, DType::F16)?;
    loaded(least, DType::BF16)?;
    loaded(least, DType::F32)?;
    let error = loaded(least, DType::F16).expect_err("infinity in F16");
    let text = error.to_string();
    let says = "traced in BF16 and computes with 3.3895313892515355e38, which F16 does not hold";
    assert!(text.contains(says), "{text}");
    Ok(())
}
