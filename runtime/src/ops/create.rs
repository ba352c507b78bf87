//! New tensors.

use candle_core::{DType, Device, Tensor};

use super::Result;
use super::cast::to_dtype;
use super::compare::{masked_fill, where_};
use super::index::nonzero;
use super::memory::{fail, tensor};

/// `start, start + step, …` below `end` (above, for a negative step). (`aten.arange`)
///
/// Computed in `f64`, rounded to the dtype once; integer dtypes should use [`arange_int`].
///
/// ```
/// # use pycandle::{DType, Device, ops};
/// let x = ops::arange(0.0, 1.0, 0.25, DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<f32>()?, [0., 0.25, 0.5, 0.75]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn arange(start: f64, end: f64, step: f64, dtype: DType, device: &Device) -> Result<Tensor> {
    if step == 0.0 || !step.is_finite() || !start.is_finite() || !end.is_finite() {
        fail!("arange: no steps of {step} from {start} to {end}");
    }
    let count = ((end - start) / step).ceil();
    if count < 0.0 {
        fail!("arange: a step of {step} does not lead from {start} to {end}");
    }
    if count > isize::MAX as f64 / 8.0 {
        fail!("arange: {count} elements are too many");
    }
    let count = count as usize;
    let values = collected("arange", count, (0..count).map(|i| start + i as f64 * step))?;
    let len = values.len();
    Ok(to_dtype(&tensor(values, &[len][..])?, dtype)?.to_device(device)?)
}

/// The elements as a vector; an error where there is no memory for them.
fn collected<T>(op: &str, count: usize, values: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    if out.try_reserve_exact(count).is_err() {
        fail!("{op}: no memory for {count} elements");
    }
    out.extend(values);
    Ok(out)
}

/// A size that was computed with signed integers.
///
/// ```
/// # use pycandle::ops;
/// assert_eq!(ops::extent(3)?, 3);
/// assert!(ops::extent(-1).is_err());
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn extent(size: i64) -> Result<usize> {
    match usize::try_from(size) {
        Ok(size) => Ok(size),
        Err(_) => fail!("a size comes out as {size}, below zero"),
    }
}

/// The `I64` numbers from `start` up to but not including `end`: `[end - start]`.
/// (`aten.arange.start`, of sizes)
///
/// ```
/// # use pycandle::{Device, ops};
/// let x = ops::range(2, 5, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<i64>()?, [2, 3, 4]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn range(start: usize, end: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::arange(start as i64, end.max(start) as i64, device)?)
}

/// `start, start + step, …` below `end` (above, for a negative step), as `I64`. (`aten.arange`)
///
/// ```
/// # use pycandle::{Device, ops};
/// let x = ops::arange_int(5, 0, -2, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<i64>()?, [5, 3, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn arange_int(start: i64, end: i64, step: i64, device: &Device) -> Result<Tensor> {
    let span = i128::from(end) - i128::from(start);
    if step == 0 || (span != 0 && (span < 0) != (step < 0)) {
        fail!("arange: a step of {step} does not lead from {start} to {end}");
    }
    let step = i128::from(step);
    let count = (span.abs() + step.abs() - 1) / step.abs();
    if count > i128::from(i64::MAX / 16) {
        fail!("arange: {count} elements are too many");
    }
    let at = |i: i128| (i128::from(start) + i * step) as i64;
    let values = collected("arange", count as usize, (0..count).map(at))?;
    let len = values.len();
    Ok(tensor(values, &[len][..])?.to_device(device)?)
}

/// `steps` numbers from `start` to `end`, both included, at equal distances. (`aten.linspace`)
///
/// Computed in `f64` from the nearer end, as PyTorch does, and rounded to the dtype once; integer
/// dtypes round towards zero.
///
/// ```
/// # use pycandle::{DType, Device, ops};
/// let x = ops::linspace(0.0, 1.0, 3, DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<f32>()?, [0., 0.5, 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn linspace(
    start: f64,
    end: f64,
    steps: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if !start.is_finite() || !end.is_finite() {
        fail!("linspace: no steps from {start} to {end}");
    }
    let step = (end - start) / steps.saturating_sub(1).max(1) as f64;
    let at = |i: usize| match i < steps / 2 || steps == 1 {
        true => start + i as f64 * step,
        false => end - (steps - 1 - i) as f64 * step,
    };
    let values = collected("linspace", steps, (0..steps).map(at))?;
    Ok(to_dtype(&tensor(values, &[steps][..])?, dtype)?.to_device(device)?)
}

/// A tensor of one number, converted as PyTorch does; a boolean is 0 or 1. (`aten.full`)
///
/// ```
/// # use pycandle::{DType, Device, ops};
/// let x = ops::full(0.5, &[2], DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn full(value: f64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let value = tensor(vec![value], &[][..])?;
    let value = if dtype == DType::F32 || dtype == DType::F64 {
        value.to_dtype(dtype)?
    } else {
        to_dtype(&value, dtype)?
    };
    let value = value.to_device(device)?;
    if shape.is_empty() {
        return Ok(value);
    }
    Ok(value.broadcast_as(shape)?.contiguous()?)
}

/// A tensor of one integer, exact for all of `I64`. (`aten.full`)
///
/// ```
/// # use pycandle::{Device, ops};
/// let x = ops::full_int(i64::MAX, &[2], &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<i64>()?, [i64::MAX, i64::MAX]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn full_int(value: i64, shape: &[usize], device: &Device) -> Result<Tensor> {
    let value = tensor(vec![value], &[][..])?.to_device(device)?;
    Ok(value.broadcast_as(shape)?.contiguous()?)
}

/// A tensor of zeros. (`aten.zeros`)
///
/// ```
/// # use pycandle::{DType, Device, ops};
/// let x = ops::zeros(&[2], DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<f32>()?, [0., 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn zeros(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, dtype, device)?)
}

/// A tensor of ones. (`aten.ones`)
///
/// ```
/// # use pycandle::{DType, Device, ops};
/// let x = ops::ones(&[2], DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_vec1::<f32>()?, [1., 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn ones(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    full(1.0, shape, dtype, device)
}

/// A `rows` × `columns` matrix with ones on the diagonal. (`aten.eye.m`)
///
/// ```
/// # use pycandle::{DType, Device, ops};
/// let x = ops::eye(2, 3, DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_vec2::<f32>()?, [[1., 0., 0.], [0., 1., 0.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn eye(rows: usize, columns: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let diagonal = triangle(rows, columns, device, |row, column| row == column)?;
    let (zero, one) = (
        full(0.0, &[], dtype, device)?,
        full(1.0, &[], dtype, device)?,
    );
    where_(&diagonal, &one, &zero)
}

/// The positions on and below a diagonal of a matrix, as `I64`: rows, then columns, `[2, count]`.
/// (`aten.tril_indices`)
///
/// ```
/// # use pycandle::{Device, ops};
/// let at = ops::tril_indices(2, 3, 0, &Device::Cpu)?;
/// assert_eq!(at.to_vec2::<i64>()?, [[0, 1, 1], [0, 0, 1]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn tril_indices(rows: usize, columns: usize, offset: i64, device: &Device) -> Result<Tensor> {
    places_where(rows, columns, device, |row, column| column - row <= offset)
}

/// The positions on and above a diagonal, as [`tril_indices`]. (`aten.triu_indices`)
///
/// ```
/// # use pycandle::{Device, ops};
/// let at = ops::triu_indices(2, 3, 1, &Device::Cpu)?;
/// assert_eq!(at.to_vec2::<i64>()?, [[0, 0, 1], [1, 2, 2]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn triu_indices(rows: usize, columns: usize, offset: i64, device: &Device) -> Result<Tensor> {
    places_where(rows, columns, device, |row, column| column - row >= offset)
}

fn places_where(
    rows: usize,
    columns: usize,
    device: &Device,
    holds: impl Fn(i64, i64) -> bool,
) -> Result<Tensor> {
    Ok(nonzero(&triangle(rows, columns, device, holds)?)?
        .t()?
        .contiguous()?)
}

/// The matrices (the last two dimensions) with zeros above a diagonal. (`aten.tril`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::tril(&x, 0)?.to_vec2::<f32>()?, [[1., 0.], [3., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn tril(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    keep(x, |row, column| column - row <= diagonal)
}

/// The matrices (the last two dimensions) with zeros below a diagonal. (`aten.triu`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::triu(&x, 1)?.to_vec2::<f32>()?, [[0., 2.], [0., 0.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn triu(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    keep(x, |row, column| column - row >= diagonal)
}

fn keep(x: &Tensor, inside: impl Fn(i64, i64) -> bool) -> Result<Tensor> {
    let &[.., rows, columns] = x.dims() else {
        fail!("triangle: expected a matrix, got shape {:?}", x.dims());
    };
    let outside = triangle(rows, columns, x.device(), |row, column| {
        !inside(row, column)
    })?;
    masked_fill(x, &outside, 0.0)
}

fn triangle(
    rows: usize,
    columns: usize,
    device: &Device,
    inside: impl Fn(i64, i64) -> bool,
) -> Result<Tensor> {
    let mut data = Vec::with_capacity(rows * columns);
    for row in 0..rows as i64 {
        data.extend((0..columns as i64).map(|column| u8::from(inside(row, column))));
    }
    Ok(tensor(data, &[rows, columns][..])?.to_device(device)?)
}
