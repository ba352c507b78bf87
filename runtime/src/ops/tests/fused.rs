//! Fused forms against the functions they stand for, on sizes that use every path.

use super::*;
use crate::ops::isa::Portable;
use crate::ops::vmath;

const FLOATS: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

fn random(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::randn(0f32, 1., shape, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2e-6,
        DType::F16 => 1e-3,
        _ => 8e-3,
    }
}

#[track_caller]
fn same(a: &Tensor, b: &Tensor, tolerance: f64) {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    close(&values(a), &values(b), tolerance);
}

#[test]
fn gates_are_the_unfused_products_bit_for_bit() -> Result<()> {
    for dtype in FLOATS {
        let (gate, up) = (random(&[3, 700], dtype), random(&[3, 700], dtype));
        same(&swiglu(&gate, &up)?, &mul(&silu(&gate)?, &up)?, 0.);
        same(&gelu_mul(&gate, &up)?, &mul(&gelu(&gate)?, &up)?, 0.);
        same(
            &gelu_tanh_mul(&gate, &up)?,
            &mul(&gelu_tanh(&gate)?, &up)?,
            0.,
        );
        let halves = random(&[3, 1400], dtype);
        let (gate, up) = (halves.narrow(1, 0, 700)?, halves.narrow(1, 700, 700)?);
        same(&swiglu(&gate, &up)?, &mul(&silu(&gate)?, &up)?, 0.);
    }
    Ok(())
}

#[test]
fn rope_is_the_unfused_rotation_bit_for_bit() -> Result<()> {
    for dtype in FLOATS {
        let x = random(&[2, 5, 3, 64], dtype).transpose(1, 2)?;
        let (cos, sin) = (random(&[1, 5, 64], dtype), random(&[1, 5, 64], dtype));
        let rotated = cat(&[&neg(&x.narrow(3, 32, 32)?)?, &x.narrow(3, 0, 32)?], 3)?;
        let (cos4, sin4) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
        let expected = add(&mul(&x, &cos4)?, &mul(&rotated, &sin4)?)?;
        same(&rope(&x, &cos4, &sin4)?, &expected, 0.);
    }
    Ok(())
}

/// Attention by its definition, in doubles.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let wide = |x: &Tensor| x.to_dtype(DType::F64);
    let mask = match mask {
        Some(mask) if mask.dtype() != DType::U8 => Some(wide(mask)?),
        other => other.cloned(),
    };
    let out = sdpa(&wide(q)?, &wide(k)?, &wide(v)?, mask.as_ref(), false, None)?;
    Ok(out.to_dtype(q.dtype())?)
}

#[test]
fn attention_in_blocks_is_attention() -> Result<()> {
    for dtype in FLOATS {
        for (queries, keys) in [(150, 1100), (1, 1100), (2, 70), (130, 130)] {
            let q = random(&[2, queries, 4, 32], dtype).transpose(1, 2)?;
            let cache = random(&[2, 2, keys + 9, 32], dtype);
            let (k, v) = (cache.narrow(2, 3, keys)?, random(&[2, 2, keys, 32], dtype));
            let causal = causal_mask(queries, keys, keys - queries, Some(60), None, q.device())?;
            let soft = random(&[1, 4, queries, keys], dtype);
            for mask in [None, Some(&causal), Some(&soft)] {
                let expected = attention(&q, &k, &v, mask)?;
                same(
                    &sdpa(&q, &k, &v, mask, false, None)?,
                    &expected,
                    tolerance(dtype),
                );
            }
            let causal = causal_mask(queries, keys, 0, None, None, q.device())?;
            let expected = attention(&q, &k, &v, Some(&causal))?;
            same(
                &sdpa(&q, &k, &v, None, true, None)?,
                &expected,
                tolerance(dtype),
            );
        }
    }
    Ok(())
}

#[test]
fn long_products_and_convolutions_agree_with_doubles() -> Result<()> {
    for dtype in FLOATS {
        let wide = |x: &Tensor| x.to_dtype(DType::F64);
        for m in [1, 2, 5, 40] {
            let (x, w, b) = (
                random(&[m, 600], dtype),
                random(&[1300, 600], dtype),
                random(&[1300], dtype),
            );
            let expected = linear(&wide(&x)?, &wide(&w)?, Some(&wide(&b)?))?.to_dtype(dtype)?;
            same(&linear(&x, &w, Some(&b))?, &expected, tolerance(dtype));
        }
        let (x, w) = (random(&[1, 6, 40, 41], dtype), random(&[8, 3, 3, 3], dtype));
        let (step, one) = ((2, 1), (1, 1));
        let expected = conv2d(&wide(&x)?, &wide(&w)?, None, step, one, one, 2)?;
        let actual = conv2d(&x, &w, None, step, one, one, 2)?;
        same(&actual, &expected.to_dtype(dtype)?, tolerance(dtype));
        let w = random(&[6, 1, 5, 3], dtype);
        let expected = conv2d(&wide(&x)?, &wide(&w)?, None, step, (2, 1), one, 6)?;
        let actual = conv2d(&x, &w, None, step, (2, 1), one, 6)?;
        same(&actual, &expected.to_dtype(dtype)?, tolerance(dtype));
    }
    Ok(())
}

/// The largest distance to the true value, in units in the last place.
fn worst_ulp(single: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64, low: f32, high: f32) -> f64 {
    let steps = 200_000;
    (0..=steps)
        .map(|i| {
            let x = low + (high - low) * (i as f32 / steps as f32);
            let truth = truth(f64::from(x));
            let ulp = f64::from(f32::EPSILON) * truth.abs().max(1e-30).log2().floor().exp2();
            (f64::from(single(x)) - truth).abs() / ulp
        })
        .fold(0., f64::max)
}

#[test]
fn vector_functions_are_within_two_units_in_the_last_place() {
    let erf = candle_core::cpu::erf::erf_f64;
    for (name, worst) in [
        (
            "exp",
            worst_ulp(vmath::exp::<Portable<true>>, f64::exp, -80., 80.),
        ),
        (
            "exp without fma",
            worst_ulp(vmath::exp::<Portable<false>>, f64::exp, -80., 80.),
        ),
        ("erf", worst_ulp(vmath::erf::<Portable<true>>, erf, -5., 5.)),
        (
            "tanh",
            worst_ulp(vmath::tanh::<Portable<true>>, f64::tanh, -10., 10.),
        ),
        (
            "tanh without fma",
            worst_ulp(vmath::tanh::<Portable<false>>, f64::tanh, -10., 10.),
        ),
    ] {
        println!("{name}: {worst:.2}");
        assert!(worst < 2., "{name}: {worst}");
    }
    assert_eq!(vmath::exp::<Portable<true>>(f32::NEG_INFINITY), 0.);
    assert_eq!(vmath::exp::<Portable<true>>(f32::INFINITY), f32::INFINITY);
    assert!(vmath::exp::<Portable<true>>(f32::NAN).is_nan());
    assert!(vmath::exp::<Portable<true>>(-100.) > 0.);
    assert!(
        vmath::tanh::<Portable<true>>(f32::NAN).is_nan()
            && vmath::erf::<Portable<true>>(f32::NAN).is_nan()
    );
}
