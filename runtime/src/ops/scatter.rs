//! Writing at indices; the input is left as it was.

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::advanced::Picked;
use super::index::element_positions;
use super::map::same_dtype;
use super::memory::{fail, on_cpu, tensor, to_vec, with_any};
use super::shape::check_dim;
use super::walk::expand_to;

/// `x` with `x[i][index[i][j]] = source[i][j]` for `dim` = 1, and so on. (`aten.scatter.src`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let index = Tensor::new(&[[1i64], [0]], &Device::Cpu)?;
/// let source = Tensor::new(&[[10f32], [20.]], &Device::Cpu)?;
/// let y = ops::scatter(&x, 1, &index, &source)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1., 10.], [20., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn scatter(x: &Tensor, dim: usize, index: &Tensor, source: &Tensor) -> Result<Tensor> {
    scattered("scatter", x, dim, index, source, Combine::Replace)
}

/// `x` with `x[i][index[i][j]] += source[i][j]` for `dim` = 1, and so on; integers
/// wrap, half types are summed in `f64` and rounded once. (`aten.scatter_add`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let index = Tensor::new(&[[1i64], [0]], &Device::Cpu)?;
/// let source = Tensor::new(&[[10f32], [20.]], &Device::Cpu)?;
/// let y = ops::scatter_add(&x, 1, &index, &source)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1., 12.], [23., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn scatter_add(x: &Tensor, dim: usize, index: &Tensor, source: &Tensor) -> Result<Tensor> {
    scattered("scatter_add", x, dim, index, source, Combine::ADD)
}

/// `x` with a number at `x[i][index[i][j]]` for `dim` = 1, and so on. (`aten.scatter.value`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let index = Tensor::new(&[[1i64], [0]], &Device::Cpu)?;
/// let y = ops::scatter_value(&x, 1, &index, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1., 0.], [0., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn scatter_value(x: &Tensor, dim: usize, index: &Tensor, value: f64) -> Result<Tensor> {
    let value = super::create::full(value, &[], x.dtype(), x.device())?;
    scatter(x, dim, index, &expand_to(&value, index.dims())?)
}

/// What [`scatter_reduce`] makes of all that goes to one element.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[9f32, 2.], &Device::Cpu)?;
/// let (index, source) = (Tensor::new(&[0i64, 0], &Device::Cpu)?, Tensor::new(&[5f32, 3.], &Device::Cpu)?);
/// let y = ops::scatter_reduce(&x, 0, &index, &source, ops::Fold::Min, true)?;
/// assert_eq!(y.to_vec1::<f32>()?, [3., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The sum. (`sum`)
    Sum,
    /// The product. (`prod`)
    Product,
    /// The mean; of integers rounded down. (`mean`)
    Mean,
    /// The largest; NaN where there is one. (`amax`)
    Max,
    /// The smallest; NaN where there is one. (`amin`)
    Min,
}

impl Fold {
    fn float(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum | Self::Mean => a + b,
            Self::Product => a * b,
            Self::Max if a.is_nan() || a > b => a,
            Self::Min if a.is_nan() || a < b => a,
            Self::Max | Self::Min => b,
        }
    }

    fn int(self, a: i64, b: i64) -> i64 {
        match self {
            Self::Sum | Self::Mean => a.wrapping_add(b),
            Self::Product => a.wrapping_mul(b),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
        }
    }
}

/// [`scatter_add`] with another fold than a sum; without `include_self` what was there before is
/// left out of it. (`aten.scatter_reduce.two`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let index = Tensor::new(&[0i64, 0], &Device::Cpu)?;
/// let source = Tensor::new(&[5f32, 3.], &Device::Cpu)?;
/// let y = ops::scatter_reduce(&x, 0, &index, &source, ops::Fold::Mean, false)?;
/// assert_eq!(y.to_vec1::<f32>()?, [4., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn scatter_reduce(
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    source: &Tensor,
    fold: Fold,
    include_self: bool,
) -> Result<Tensor> {
    let combine = Combine::Fold { fold, include_self };
    scattered("scatter_reduce", x, dim, index, source, combine)
}

/// What happens to an element that is written.
#[derive(Clone, Copy)]
enum Combine {
    Replace,
    Fold { fold: Fold, include_self: bool },
}

impl Combine {
    const ADD: Self = Self::Fold {
        fold: Fold::Sum,
        include_self: true,
    };
}

fn scattered(
    op: &str,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    source: &Tensor,
    combine: Combine,
) -> Result<Tensor> {
    same_dtype(op, x, source)?;
    if source.rank() != index.rank()
        || (0..index.rank()).any(|d| index.dims()[d] > source.dims()[d])
    {
        fail!(
            "{op}: index of shape {:?} over a source of {:?}",
            index.dims(),
            source.dims()
        );
    }
    on_cpu(&[x, index, source], |inputs| {
        let [x, index, source] = [inputs[0], inputs[1], inputs[2]];
        let positions = element_positions(op, x.dims(), dim, index)?;
        let mut source = source.clone();
        for (d, &size) in index.dims().iter().enumerate() {
            source = source.narrow(d, 0, size)?;
        }
        combined(x, &positions, &source, combine)
    })
}

fn combined(x: &Tensor, positions: &[usize], values: &Tensor, combine: Combine) -> Result<Tensor> {
    let Combine::Fold { fold, include_self } = combine else {
        return with_any!(x.dtype(), "scatter", T => {
            let mut out = to_vec::<T>(x)?;
            for (&p, v) in positions.iter().zip(to_vec::<T>(values)?) {
                out[p] = v;
            }
            tensor(out, x.dims())
        });
    };
    let to = Folding {
        x,
        positions,
        values,
        include_self,
    };
    let mean = fold == Fold::Mean;
    let int = |a, b| fold.int(a, b);
    match x.dtype() {
        DType::I64 => {
            let divide = mean.then_some(|sum: i64, n| sum.div_euclid(n));
            to.folded::<i64, i64>(|v| v, int, divide, |v| v)
        }
        DType::U8 => {
            // The low byte is what a sum of bytes is.
            let divide = mean.then_some(|sum: i64, n| i64::from(sum as u8) / n);
            to.folded::<u8, i64>(i64::from, int, divide, |v| v as u8)
        }
        dtype => with_any!(dtype, "scatter", T => {
            // Doubles hold the sum of many half-precision numbers exactly, so the result is rounded
            // once, at the end.
            let divide = mean.then_some(|sum: f64, n| sum / n as f64);
            to.folded::<T, f64>(T::to_f64, |a, b| fold.float(a, b), divide, T::from_f64)
        }),
    }
}

/// Values that go into the elements of `x`; those that none goes to stay as they are.
struct Folding<'a> {
    x: &'a Tensor,
    positions: &'a [usize],
    values: &'a Tensor,
    include_self: bool,
}

impl Folding<'_> {
    fn folded<T: WithDType, A: Copy>(
        &self,
        widen: impl Fn(T) -> A,
        step: impl Fn(A, A) -> A,
        divide: Option<impl Fn(A, i64) -> A>,
        round: impl Fn(A) -> T,
    ) -> Result<Tensor> {
        let mut sums: Vec<A> = to_vec::<T>(self.x)?.into_iter().map(&widen).collect();
        let values = to_vec::<T>(self.values)?.into_iter().map(widen);
        let values = self.positions.iter().zip(values);
        if self.include_self && divide.is_none() {
            for (&p, v) in values {
                sums[p] = step(sums[p], v);
            }
        } else {
            let mut counts = vec![i64::from(self.include_self); sums.len()];
            for (&p, v) in values {
                sums[p] = if counts[p] == 0 { v } else { step(sums[p], v) };
                counts[p] += 1;
            }
            if let Some(divide) = divide {
                for (sum, &count) in sums.iter_mut().zip(&counts).filter(|(_, n)| **n > 0) {
                    *sum = divide(*sum, count);
                }
            }
        }
        tensor(sums.into_iter().map(round).collect(), self.x.dims())
    }
}

/// `x` with the elements where `mask` holds replaced by those of `source`, taken in order; fails
/// when there are fewer of them. (`aten.masked_scatter`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let mask = Tensor::new(&[1u8, 0, 1], &Device::Cpu)?;
/// let source = Tensor::new(&[10f32, 20., 30.], &Device::Cpu)?;
/// assert_eq!(ops::masked_scatter(&x, &mask, &source)?.to_vec1::<f32>()?, [10., 2., 20.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn masked_scatter(x: &Tensor, mask: &Tensor, source: &Tensor) -> Result<Tensor> {
    same_dtype("masked_scatter", x, source)?;
    let [x, mask] = super::map::expanded("masked_scatter", x, mask)?;
    on_cpu(&[&x, &mask, source], |inputs| {
        let mask = to_vec::<u8>(inputs[1])?.into_iter().enumerate();
        let at: Vec<usize> = mask.filter(|&(_, m)| m != 0).map(|(i, _)| i).collect();
        let source = inputs[2].flatten_all()?;
        if at.len() > source.elem_count() {
            let (places, there) = (at.len(), source.elem_count());
            fail!("masked_scatter: the mask holds at {places} places, and the source has {there}");
        }
        combined(inputs[0], &at, &source, Combine::Replace)
    })
}

/// `x` with the elements of an advanced index (see [`index`](super::index())) replaced by `values`,
/// or added to; `values` broadcast to the shape of `x[indices]`. (`aten.index_put`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let at = Tensor::new(&[1i64], &Device::Cpu)?;
/// let values = Tensor::new(&[10f32, 20.], &Device::Cpu)?;
/// let y = ops::index_put(&x, &[Some(&at)], &values, false)?; // x[1] = values
/// assert_eq!(y.to_vec2::<f32>()?, [[1., 2.], [10., 20.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn index_put(
    x: &Tensor,
    indices: &[Option<&Tensor>],
    values: &Tensor,
    accumulate: bool,
) -> Result<Tensor> {
    same_dtype("index_put", x, values)?;
    let picked = Picked::new("index_put", x, indices)?;
    let values = expand_to(values, &picked.result_shape())?.reshape(&picked.rows_shape()[..])?;
    let combine = if accumulate {
        Combine::ADD
    } else {
        Combine::Replace
    };
    let source = picked.source()?;
    let written = on_cpu(&[&source, &values], |inputs| {
        put_rows(inputs[0], 1, &picked.positions, inputs[1], combine)
    })?;
    Ok(picked.restore(&written)?.contiguous()?)
}

/// `x` with the range of a dimension that starts at `start` replaced by `source`, whose size along
/// it is the range's length. (`aten.slice_scatter` with a step of 1)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let source = Tensor::new(&[10f32, 20.], &Device::Cpu)?;
/// assert_eq!(ops::slice_scatter(&x, &source, 0, 1)?.to_vec1::<f32>()?, [1., 10., 20.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn slice_scatter(x: &Tensor, source: &Tensor, dim: usize, start: usize) -> Result<Tensor> {
    slice_scatter_step(x, source, dim, start, 1)
}

/// [`slice_scatter`] into every `step`-th place from `start` on. (`aten.slice_scatter`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?;
/// let source = Tensor::new(&[10f32, 20.], &Device::Cpu)?;
/// let y = ops::slice_scatter_step(&x, &source, 0, 1, 2)?; // x[1::2] = source
/// assert_eq!(y.to_vec1::<f32>()?, [1., 10., 3., 20.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn slice_scatter_step(
    x: &Tensor,
    source: &Tensor,
    dim: usize,
    start: usize,
    step: usize,
) -> Result<Tensor> {
    check_dim("slice_scatter", x, dim)?;
    check_dim("slice_scatter", source, dim)?;
    let (size, places) = (x.dims()[dim], source.dims()[dim]);
    let end = places.saturating_sub(1).saturating_mul(step);
    let end = end.saturating_add(start.saturating_add(places.min(1)));
    if end > size || step == 0 {
        fail!(
            "slice_scatter: {start}..{end} in steps of {step} of dimension {dim} of {:?}",
            x.dims()
        );
    }
    let positions: Vec<usize> = (start..end).step_by(step).collect();
    write_rows(x, dim, &positions, source)
}

/// `x` with the part at one index of a dimension replaced. (`aten.select_scatter`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let source = Tensor::new(&[10f32, 20.], &Device::Cpu)?;
/// let y = ops::select_scatter(&x, &source, 1, 0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[10., 2.], [20., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn select_scatter(x: &Tensor, source: &Tensor, dim: usize, index: usize) -> Result<Tensor> {
    check_dim("select_scatter", x, dim)?;
    if index >= x.dims()[dim] {
        fail!(
            "select_scatter: index {index} is out of range for {:?}",
            x.dims()
        );
    }
    write_rows(x, dim, &[index], &source.unsqueeze(dim)?)
}

/// `x` with the slices at some positions of a dimension replaced.
fn write_rows(x: &Tensor, dim: usize, positions: &[usize], values: &Tensor) -> Result<Tensor> {
    same_dtype("slice_scatter", x, values)?;
    let mut shape = x.dims().to_vec();
    shape[dim] = positions.len();
    let values = expand_to(values, &shape)?;
    on_cpu(&[x, &values], |inputs| {
        put_rows(inputs[0], dim, positions, inputs[1], Combine::Replace)
    })
}

fn put_rows(
    x: &Tensor,
    dim: usize,
    positions: &[usize],
    values: &Tensor,
    combine: Combine,
) -> Result<Tensor> {
    let outer: usize = x.dims()[..dim].iter().product();
    let inner: usize = x.dims()[dim + 1..].iter().product();
    let size = x.dims()[dim];
    let elements: Vec<usize> = (0..outer)
        .flat_map(|o| positions.iter().map(move |&p| (o * size + p) * inner))
        .flat_map(|start| start..start + inner)
        .collect();
    combined(x, &elements, values, combine)
}
