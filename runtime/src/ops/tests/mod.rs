//! Every function against PyTorch, and every fused form against the functions it stands for.

// Recorded results that happen to be famous numbers stay as PyTorch printed them.
#![allow(clippy::approx_constant)]

// The tables of numbers are laid out by hand.
#[rustfmt::skip]
mod attention;
#[rustfmt::skip]
mod elementwise;
mod empty;
mod fused;
#[rustfmt::skip]
mod index;
#[rustfmt::skip]
mod norm;
#[rustfmt::skip]
mod product;
#[rustfmt::skip]
mod reduce;
#[rustfmt::skip]
mod select;
#[rustfmt::skip]
mod shape;

use super::*;
use candle_core::{DType, Device, Tensor};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// A tensor of eighths between -11/8 and 11/8, exact in every dtype.
fn seq(shape: &[usize], dtype: DType, factor: usize) -> Tensor {
    let count = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|i| (((i * factor + 11) % 23) as f64 - 11.) / 8.)
        .collect();
    let x = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    x.to_dtype(dtype).unwrap()
}

/// A one-dimensional tensor.
fn v(values: &[f64], dtype: DType) -> Tensor {
    if dtype == DType::I64 {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        return Tensor::new(values, &Device::Cpu).unwrap();
    }
    Tensor::new(values, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

/// Values of any dtype as doubles.
fn values(x: &Tensor) -> Vec<f64> {
    let x = x.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    x.to_vec1().unwrap()
}

/// Compares with PyTorch's result, relative to its largest finite element. The literals name a
/// number of the dtype, so they are rounded to it first.
#[track_caller]
fn check(actual: &Tensor, shape: &[usize], dtype: DType, expected: &[f64], tolerance: f64) {
    assert_eq!((actual.dims(), actual.dtype()), (shape, dtype));
    close(&values(actual), &values(&v(expected, dtype)), tolerance);
}

#[track_caller]
fn close(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected
        .iter()
        .filter(|v| v.is_finite())
        .fold(0., |a: f64, v| a.max(v.abs()));
    let slack = tolerance * scale;
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let same = a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= slack;
        assert!(
            same,
            "element {i}: {a}, expected {e}\n{actual:?}\n{expected:?}"
        );
    }
}
