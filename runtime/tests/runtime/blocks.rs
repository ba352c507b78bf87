//! Matrices in blocks of GGUF, against what the Python package `gguf` dequantizes.

use pycandle::candle_core::safetensors;
use pycandle::dispatch::{Layout, embedding, linear};
use pycandle::{DType, Device, Param, Result, Tensor, Weights};

use crate::files::gguf;

const SUPPORTED: [&str; 10] = [
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
];
const OUT: usize = 3;
const IN: usize = 512;

/// Every matrix, in blocks and dequantized.
fn matrices(dtype: DType) -> Result<Vec<(&'static str, Param, Tensor)>> {
    let scope = Weights::open(gguf("blocks.gguf"))?.scope(dtype, &Device::Cpu);
    let golden = safetensors::load(gguf("blocks.safetensors"), &Device::Cpu)?;
    let matrix = |name| Ok((name, scope.param(name, (OUT, IN))?, golden[name].clone()));
    SUPPORTED.into_iter().map(matrix).collect()
}

fn largest(tensor: &Tensor) -> Result<f32> {
    Ok(tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?)
}

/// Inputs of two rows that are no pattern.
fn inputs() -> Result<Vec<f32>> {
    let value = |i: usize| ((i * i + 7 * i) % 101) as f32 / 25. - 2.;
    Ok((0..2 * IN).map(value).collect())
}

#[test]
fn dequantized_values_are_those_of_the_reference() -> Result<()> {
    for (name, param, golden) in matrices(DType::F32)? {
        let ours = param.tensor()?;
        // The order of two roundings in f32 is not part of the formats.
        let off = largest(&(&ours - &golden)?)?;
        let limit = 2. * f32::EPSILON * largest(&golden)?;
        assert!(off <= limit, "{name}: {off:e} off, {limit:e} allowed");
    }
    Ok(())
}

#[test]
fn rows_of_a_table_in_blocks() -> Result<()> {
    let ids = Tensor::new(&[[2i64, 0], [2, 1]], &Device::Cpu)?;
    for dtype in [DType::F32, DType::BF16] {
        for (name, param, _) in matrices(dtype)? {
            let rows = embedding(&param, &ids)?;
            let expected = param.tensor()?.index_select(&ids.flatten_all()?, 0)?;
            let off = (rows.reshape((4, IN))? - expected)?.to_dtype(DType::F32)?;
            assert_eq!(largest(&off)?, 0., "{name}");
            assert_eq!((rows.dims(), rows.dtype()), (&[2, 2, IN][..], dtype));
            let outside = Tensor::new(&[3i64], &Device::Cpu)?;
            assert!(embedding(&param, &outside).is_err());
        }
    }
    Ok(())
}

/// A product rounds its input to 8 bits: in blocks of 32 or 256 elements, in steps of the largest of
/// them over 127. No element moves by more than a step, so no sum by more than the steps times the
/// weights' magnitudes; what f32 rounds is within a hundredth of that.
#[test]
fn products_are_within_the_rounding_of_their_input() -> Result<()> {
    let values = inputs()?;
    let x = Tensor::from_slice(&values, (1, 2, IN), &Device::Cpu)?;
    let bias = Tensor::new(&[1f32, -2., 3.], &Device::Cpu)?;
    for (name, param, golden) in matrices(DType::F32)? {
        let bias = Param::from_tensor("bias", bias.clone());
        let ours = linear(&x, &param, Some(&bias), Layout::OutIn)?;
        let ours = ours.to_vec3::<f32>()?.concat();
        let golden = golden.to_vec2::<f32>()?;
        let block = if name.ends_with('K') { 256 } else { 32 };
        for (row, ours) in values.chunks(IN).zip(ours) {
            for ((weights, ours), bias) in golden.iter().zip(ours).zip([1., -2., 3.]) {
                let product = |(x, w): (&f32, &f32)| f64::from(*x) * f64::from(*w);
                let exact = row.iter().zip(weights).map(product).sum::<f64>() + bias;
                let blocks = row.chunks(block).zip(weights.chunks(block));
                let limit: f64 = blocks
                    .map(|(x, w)| {
                        let step = x.iter().fold(0., |n: f32, x| n.max(x.abs())) / 127.;
                        let weights: f32 = w.iter().map(|w| w.abs()).sum();
                        1.01 * f64::from(step * weights)
                    })
                    .sum();
                let off = (f64::from(ours) - exact).abs();
                assert!(off <= limit, "{name}: {off:e} off, {limit:e} allowed");
            }
        }
    }
    Ok(())
}

#[test]
fn products_in_other_dtypes_and_of_no_rows() -> Result<()> {
    let x = Tensor::from_vec(inputs()?, (2, IN), &Device::Cpu)?;
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        for (name, param, golden) in matrices(dtype)? {
            let ours = linear(&x.to_dtype(dtype)?, &param, None, Layout::OutIn)?;
            assert_eq!(ours.dtype(), dtype);
            let exact = x
                .to_dtype(dtype)?
                .to_dtype(DType::F32)?
                .matmul(&golden.t()?)?;
            // Two roundings of 8 bits beside those of the dtype.
            let off = largest(&(ours.to_dtype(DType::F32)? - &exact)?)?;
            let norm = x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
            let norm = norm * golden.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
            assert!(off <= norm / 100., "{name}: {off:e} off of {norm:e}");
        }
    }
    for (_, param, _) in matrices(DType::F32)? {
        let empty = Tensor::zeros((0, IN), DType::F32, &Device::Cpu)?;
        let none = linear(&empty, &param, None, Layout::OutIn)?;
        assert_eq!(none.dims(), [0, OUT]);
        let text = linear(&x.narrow(1, 0, 32)?, &param, None, Layout::OutIn)
            .expect_err("another width")
            .to_string();
        assert!(text.contains("[2, 32] and weight F32 [3, 512]"), "{text}");
    }
    Ok(())
}

#[test]
fn types_that_candle_cannot_run_are_no_tensors() -> Result<()> {
    let scope = Weights::open(gguf("blocks.gguf"))?.scope(DType::F32, &Device::Cpu);
    let text = scope
        .param("TQ1_0", (OUT, IN))
        .expect_err("TQ1_0")
        .to_string();
    assert!(
        text.contains("`TQ1_0` is TQ1_0, which cannot be loaded"),
        "{text}"
    );
    Ok(())
}
