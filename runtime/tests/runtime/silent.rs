//! What would load and compute something else than the trace is refused, or said.

use std::path::Path;

use pycandle::__private::bind::{Expected, load};
use pycandle::{DType, Device, FileDtype, Linear, Param, Result, Scope, Weights};

use crate::{folder, save, write};

const TIED: Expected = Expected::new("m_manifest.json", DType::F32)
    .tied(&[
        ("b.bias", "a.bias"),
        ("b.weight", "a.weight"),
        ("count.1", "count.0"),
    ])
    .unread(&[("count.{0,1}", &[2], DType::F32)]);

/// Two layers that are one, and two counters that are one and that nothing reads.
fn pair(w: &Scope) -> Result<(Linear, Linear)> {
    Ok((
        Linear::load(&w.pp("a"), 2, 2)?,
        Linear::load(&w.pp("b"), 2, 2)?,
    ))
}

fn open_pair(path: &Path) -> Result<(Linear, Linear)> {
    load(&Weights::open(path)?, DType::F32, &Device::Cpu, &TIED, pair)
}

#[test]
fn tied_tensors_that_differ_are_one_error_before_anything_runs() -> Result<()> {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let save_with = |bias: &[f32], weight: &[f32], count: &[f32]| {
        save(
            &path,
            &[
                ("a.bias", &[2], &[1., 2.]),
                ("a.weight", &[2, 2], &[1., 2., 3., 4.]),
                ("b.bias", &[2], bias),
                ("b.weight", &[2, 2], weight),
                ("count.0", &[2], &[5., 6.]),
                ("count.1", &[2], count),
            ],
        );
    };
    save_with(&[1., 2.], &[1., 2., 3., 4.], &[5., 6.]);
    let (a, b) = open_pair(&path)?;
    assert_eq!(b.weight().key(), "a.weight");
    assert_eq!(b.weight().tensor()?.id(), a.weight().tensor()?.id());

    save_with(&[1., 3.], &[1., 2., 3., 5.], &[5., 7.]);
    let text = open_pair(&path).expect_err("three pairs").to_string();
    for (first, twin) in [
        ("a.bias", "b.bias"),
        ("a.weight", "b.weight"),
        ("count.0", "count.1"),
    ] {
        let says = format!("`{first}` and `{twin}` are one tensor in the trace and differ here");
        assert!(text.contains(&says), "{text}");
    }
    Ok(())
}

const KINDS: Expected = Expected::new("m_manifest.json", DType::F32)
    .dtypes(&[("mask", FileDtype::Bool), ("steps.{0,1}", FileDtype::I32)]);

/// What Candle has no dtypes of its own for.
fn kinds(w: &Scope) -> Result<Vec<Param>> {
    let steps = w.with_dtype(DType::I64);
    let mask = w.with_dtype(DType::U8).param("mask", 1)?;
    Ok(vec![
        mask,
        steps.param("steps.0", 1)?,
        steps.param("steps.1", 1)?,
    ])
}

#[test]
fn dtypes_that_hold_more_than_the_trace_can_are_refused() -> Result<()> {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let open = |mask: &str, first: (&str, usize), second: (&str, usize)| {
        let (mut entries, mut at) = (Vec::new(), 0);
        for (name, (dtype, bytes)) in [("mask", (mask, 1)), ("steps.0", first), ("steps.1", second)]
        {
            let end = at + bytes;
            entries.push(format!(
                r#""{name}":{{"dtype":"{dtype}","shape":[1],"data_offsets":[{at},{end}]}}"#
            ));
            at = end;
        }
        write(&path, &format!("{{{}}}", entries.join(",")), &vec![7; at]);
        load(
            &Weights::open(&path)?,
            DType::F32,
            &Device::Cpu,
            &KINDS,
            kinds,
        )
    };
    let params = open("BOOL", ("I32", 4), ("U16", 2))?;
    assert_eq!(params[0].tensor()?.to_vec1::<u8>()?, [1]);
    assert_eq!(params[2].tensor()?.to_vec1::<i64>()?, [0x0707]);
    let text = open("U8", ("I64", 8), ("U32", 4))
        .expect_err("three dtypes")
        .to_string();
    for says in [
        "mask is U8, the trace has BOOL",
        "steps.0 is I64, the trace has I32",
        "steps.1 is U32, the trace has I32",
        "loading makes I32 only of I8, I16, U16 or I32",
    ] {
        assert!(text.contains(says), "`{says}` is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn what_a_build_warns_of_is_there_at_run_time() -> Result<()> {
    const EXPECTED: Expected = Expected::new("m_manifest.json", DType::F32);
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let ones = [1f32; 4];
    let tensors: [(&str, &[usize], &[f32]); 2] = [
        ("layers.0.a.weight", &[2, 2], &ones),
        ("layers.0.b.weight", &[2, 2], &ones),
    ];
    let asked = |w: &Scope| Linear::no_bias(&w.pp("layers.0.a"), 2, 2);
    let warnings = |weights: &Weights| {
        load(weights, DType::F32, &Device::Cpu, &EXPECTED, asked)?;
        Ok::<_, pycandle::Error>(weights.warnings())
    };
    save(&path, &tensors);
    let weights = Weights::open(&path)?;
    let said = warnings(&weights)?;
    assert!(said[0].contains("layers.0.b.weight"), "{said:?}");
    // Another model of the same has the same to say.
    assert_eq!(warnings(&weights.clone())?, said);
    save(&path, &tensors[..1]);
    assert!(warnings(&Weights::open(&path)?)?.is_empty());
    Ok(())
}
