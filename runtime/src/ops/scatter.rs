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
    scattered("scatter_add", x, dim, index, source, Combine::Add)
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

#[derive(Clone, Copy, PartialEq)]
enum Combine {
    Replace,
    Add,
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
    if x.dtype() == DType::I64 && combine == Combine::Add {
        let mut out = to_vec::<i64>(x)?;
        for (&p, v) in positions.iter().zip(to_vec::<i64>(values)?) {
            out[p] = out[p].wrapping_add(v);
        }
        return tensor(out, x.dims());
    }
    if x.dtype() == DType::U8 && combine == Combine::Add {
        let mut out = to_vec::<u8>(x)?;
        for (&p, v) in positions.iter().zip(to_vec::<u8>(values)?) {
            out[p] = out[p].wrapping_add(v);
        }
        return tensor(out, x.dims());
    }
    with_any!(x.dtype(), "scatter", T => {
        let mut out = to_vec::<T>(x)?;
        combine_at(&mut out, positions, &to_vec::<T>(values)?, combine);
        tensor(out, x.dims())
    })
}

fn combine_at<T: WithDType>(out: &mut [T], positions: &[usize], values: &[T], combine: Combine) {
    if combine == Combine::Replace {
        for (&p, &v) in positions.iter().zip(values) {
            out[p] = v;
        }
        return;
    }
    // Doubles hold the sum of many half-precision numbers exactly, so the result is rounded once,
    // at the end.
    let mut sums: Vec<f64> = out.iter().map(|v| v.to_f64()).collect();
    for (&p, &v) in positions.iter().zip(values) {
        sums[p] += v.to_f64();
    }
    for (to, sum) in out.iter_mut().zip(sums) {
        *to = T::from_f64(sum);
    }
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
        Combine::Add
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
