//! Softmax, running sums and running products along one dimension.

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use super::Result;
use super::isa::{Isa, Kernel, dispatch};
use super::map::chunks;
use super::memory::{Narrow, fail, on_cpu, read, tensor, with_narrow, written};
use super::shape::check_dim;
use super::special::log_add_exp;
use super::vmath;

/// `e^x` over its sum along a dimension; half types in `f32`, rounded once. (`aten._softmax`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[0f32, 0.], [90., -90.]], &Device::Cpu)?;
/// assert_eq!(ops::softmax(&x, 1)?.to_vec2::<f32>()?, [[0.5, 0.5], [1., 0.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn softmax(x: &Tensor, dim: usize) -> Result<Tensor> {
    rows_along("softmax", x, dim, Flavour::Softmax)
}

/// The logarithm of [`softmax`], without underflow. (`aten._log_softmax`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[90f32, -90.]], &Device::Cpu)?;
/// assert_eq!(ops::log_softmax(&x, 1)?.to_vec2::<f32>()?, [[0., -180.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn log_softmax(x: &Tensor, dim: usize) -> Result<Tensor> {
    rows_along("log_softmax", x, dim, Flavour::LogSoftmax)
}

#[derive(Clone, Copy)]
enum Flavour {
    Softmax,
    LogSoftmax,
}

fn rows_along(op: &str, x: &Tensor, dim: usize, flavour: Flavour) -> Result<Tensor> {
    if x.rank() == 0 {
        return Ok(rows_along(op, &x.reshape(1)?, 0, flavour)?.reshape(())?);
    }
    check_dim(op, x, dim)?;
    let last = x.rank() - 1;
    if dim != last {
        let moved = rows_along(op, &x.transpose(dim, last)?, last, flavour)?;
        return Ok(moved.transpose(dim, last)?);
    }
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        if x.dtype() == DType::F64 {
            return softmax_f64(x, flavour);
        }
        with_narrow!(x.dtype(), op, T => softmax_rows::<T>(x, flavour))
    })
}

fn softmax_rows<T: Narrow>(x: &Tensor, flavour: Flavour) -> Result<Tensor> {
    let len = x.dims()[x.rank() - 1].max(1);
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            let rows = (8 * 1024 / len).max(1);
            chunks(out, rows * len, &|start, out: &mut [T]| {
                dispatch(SoftmaxRows {
                    data: &data[start..start + out.len()],
                    out,
                    len,
                    flavour,
                });
            });
        });
        tensor(out, x.dims())
    })
}

struct SoftmaxRows<'a, T> {
    data: &'a [T],
    out: &'a mut [T],
    len: usize,
    flavour: Flavour,
}

impl<T: Narrow> Kernel for SoftmaxRows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let mut wide = vec![0.0f32; self.len];
        let mut buffer = vec![0.0f32; self.len];
        let rows = self.data.chunks_exact(self.len);
        for (row, out) in rows.zip(self.out.chunks_exact_mut(self.len)) {
            let row = T::load(row, &mut wide);
            // The maximum ignores NaN, which reaches the sum through the exponential.
            match self.flavour {
                Flavour::Softmax => softmax_row::<S>(row, &mut buffer),
                Flavour::LogSoftmax => {
                    let max = vmath::max(row);
                    for (to, &v) in buffer.iter_mut().zip(row) {
                        *to = vmath::exp::<S>(v - max);
                    }
                    let log = vmath::sum(&buffer).ln();
                    for (to, &v) in buffer.iter_mut().zip(row) {
                        *to = (v - max) - log;
                    }
                }
            }
            T::store(&buffer, out);
        }
    }
}

#[inline(always)]
fn softmax_row<S: Isa>(row: &[f32], out: &mut [f32]) {
    let max = vmath::max(row);
    for (to, &v) in out.iter_mut().zip(row) {
        *to = vmath::exp::<S>(v - max);
    }
    let scale = 1.0 / vmath::sum(out);
    for v in out.iter_mut() {
        *v *= scale;
    }
}

fn softmax_f64(x: &Tensor, flavour: Flavour) -> Result<Tensor> {
    let len = x.dims()[x.rank() - 1].max(1);
    read::<f64, _>(x, |data| {
        let mut out = data.to_vec();
        for row in out.chunks_exact_mut(len) {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
            for v in row {
                *v = match flavour {
                    Flavour::Softmax => (*v - max).exp() / sum,
                    Flavour::LogSoftmax => *v - max - sum.ln(),
                };
            }
        }
        tensor(out, x.dims())
    })
}

/// The running sum along a dimension; of booleans and integers as `I64`, of floating point kept in
/// doubles and rounded at each step's output. (`aten.cumsum`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::cumsum(&x, 0)?.to_vec1::<f32>()?, [1., 3., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cumsum(x: &Tensor, dim: usize) -> Result<Tensor> {
    accumulated("cumsum", x, dim, 0, i64::wrapping_add, |a, b| a + b)
}

/// The running product along a dimension; of booleans and integers as `I64`, of floating point kept
/// in doubles and rounded at each step's output. (`aten.cumprod`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::cumprod(&x, 0)?.to_vec1::<f32>()?, [1., 2., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cumprod(x: &Tensor, dim: usize) -> Result<Tensor> {
    accumulated("cumprod", x, dim, 1, i64::wrapping_mul, |a, b| a * b)
}

/// The logarithm of the running sum of `e^x` along a dimension, without overflow.
/// (`aten.logcumsumexp`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, 0., 900.], &Device::Cpu)?;
/// assert_eq!(ops::logcumsumexp(&x, 0)?.to_vec1::<f32>()?, [0., 2f32.ln(), 900.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn logcumsumexp(x: &Tensor, dim: usize) -> Result<Tensor> {
    along("logcumsumexp", x, dim, |x| {
        float_running("logcumsumexp", x, dim, f64::NEG_INFINITY, log_add_exp)
    })
}

/// By a neutral element, a step of integers and one of floats.
fn accumulated(
    name: &str,
    x: &Tensor,
    dim: usize,
    start: i64,
    int: impl Fn(i64, i64) -> i64,
    float: impl Fn(f64, f64) -> f64 + Copy,
) -> Result<Tensor> {
    along(name, x, dim, |x| match x.dtype() {
        DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64 => {
            let x = x.to_dtype(DType::I64)?;
            running::<i64, i64>(&x, dim, start, int, |a| a)
        }
        _ => float_running(name, x, dim, start as f64, float),
    })
}

/// Runs `f` on the CPU, on a tensor that has the dimension.
fn along(
    name: &str,
    x: &Tensor,
    dim: usize,
    f: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if x.rank() == 0 {
        return Ok(on_cpu(&[&x.reshape(1)?], |inputs| f(inputs[0]))?.reshape(())?);
    }
    check_dim(name, x, dim)?;
    on_cpu(&[x], |inputs| f(inputs[0]))
}

/// Steps in doubles, rounded to the dtype for each output.
fn float_running(
    name: &str,
    x: &Tensor,
    dim: usize,
    start: f64,
    step: impl Fn(f64, f64) -> f64 + Copy,
) -> Result<Tensor> {
    match x.dtype() {
        DType::F64 => running::<f64, f64>(x, dim, start, step, |a| a),
        DType::F32 => running(
            x,
            dim,
            start,
            |a, v: f32| step(a, f64::from(v)),
            |a| a as f32,
        ),
        DType::BF16 => {
            let round = |a| bf16::nearest(a as f32);
            running(x, dim, start, |a, v: bf16| step(a, v.to_f64()), round)
        }
        DType::F16 => {
            let round = |a| f16::nearest(a as f32);
            running(x, dim, start, |a, v: f16| step(a, v.to_f64()), round)
        }
        other => fail!("{name}: unsupported dtype {other:?}"),
    }
}

fn running<T: candle_core::WithDType, A: Copy>(
    x: &Tensor,
    dim: usize,
    start: A,
    step: impl Fn(A, T) -> A,
    round: impl Fn(A) -> T,
) -> Result<Tensor> {
    let size = x.dims()[dim].max(1);
    let inner: usize = x.dims()[dim + 1..].iter().product::<usize>().max(1);
    read::<T, _>(x, |data| {
        let mut out = data.to_vec();
        let mut sums = vec![start; inner];
        for block in out.chunks_exact_mut(size * inner) {
            sums.fill(start);
            for row in block.chunks_exact_mut(inner) {
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum = step(*sum, *v);
                    *v = round(*sum);
                }
            }
        }
        tensor(out, x.dims())
    })
}
