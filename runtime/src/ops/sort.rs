//! Sorting along a dimension. NaN counts as the largest value, as in PyTorch.

use candle_core::{Tensor, WithDType};
use std::cmp::Ordering;

use super::Result;
use super::memory::{fail, on_cpu, read, tensor, with_any};
use super::shape::check_dim;

/// The elements in order along a dimension, and where they were, as `I64`. Equal elements keep
/// their order whether or not `stable` asks for it. (`aten.sort.stable`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, 1., 2.], &Device::Cpu)?;
/// let (values, at) = ops::sort(&x, 0, true, true)?;
/// assert_eq!(values.to_vec1::<f32>()?, [3., 2., 1.]);
/// assert_eq!(at.to_vec1::<i64>()?, [0, 2, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sort(x: &Tensor, dim: usize, descending: bool, _stable: bool) -> Result<(Tensor, Tensor)> {
    if x.rank() == 0 {
        let (values, indices) = sort(&x.reshape(1)?, 0, descending, true)?;
        return Ok((values.reshape(())?, indices.reshape(())?));
    }
    check_dim("sort", x, dim)?;
    let size = x.dims()[dim];
    ordered("sort", x, dim, size, descending, true)
}

/// The positions that [`sort`] returns. (`aten.argsort`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, 1., 2.], &Device::Cpu)?;
/// assert_eq!(ops::argsort(&x, 0, false, true)?.to_vec1::<i64>()?, [1, 2, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn argsort(x: &Tensor, dim: usize, descending: bool, stable: bool) -> Result<Tensor> {
    Ok(sort(x, dim, descending, stable)?.1)
}

/// The `k` largest (or smallest) elements along a dimension and where they were, as `I64`; in
/// order, whether or not `sorted` asks for it. Of equal elements the first is taken first.
/// (`aten.topk`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, 1., 2.], &Device::Cpu)?;
/// let (values, at) = ops::topk(&x, 2, 0, true, true)?;
/// assert_eq!(values.to_vec1::<f32>()?, [3., 2.]);
/// assert_eq!(at.to_vec1::<i64>()?, [0, 2]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn topk(
    x: &Tensor,
    k: usize,
    dim: usize,
    largest: bool,
    _sorted: bool,
) -> Result<(Tensor, Tensor)> {
    if x.rank() == 0 {
        let (values, indices) = topk(&x.reshape(1)?, k, 0, largest, true)?;
        let shape = if k == 1 { vec![] } else { vec![k] };
        return Ok((values.reshape(&shape[..])?, indices.reshape(&shape[..])?));
    }
    check_dim("topk", x, dim)?;
    if k > x.dims()[dim] {
        fail!("topk: {k} elements of dimension {dim} of {:?}", x.dims());
    }
    ordered("topk", x, dim, k, largest, false)
}

fn ordered(
    op: &str,
    x: &Tensor,
    dim: usize,
    k: usize,
    descending: bool,
    whole: bool,
) -> Result<(Tensor, Tensor)> {
    let last = x.rank() - 1;
    if dim != last {
        let moved = x.transpose(dim, last)?;
        let (values, indices) = ordered(op, &moved, last, k, descending, whole)?;
        return Ok((values.transpose(dim, last)?, indices.transpose(dim, last)?));
    }
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        let mut shape = x.dims().to_vec();
        shape[last] = k;
        with_any!(x.dtype(), op, T => read::<T, _>(x, |data| {
            let (values, indices) = order_rows(data, x.dims()[last], k, descending, whole);
            Ok((tensor(values, &shape[..])?, tensor(indices, &shape[..])?))
        }))
    })
}

fn order_rows<T: WithDType>(
    data: &[T],
    size: usize,
    k: usize,
    descending: bool,
    whole: bool,
) -> (Vec<T>, Vec<i64>) {
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for row in data.chunks_exact(size.max(1)) {
        let before = |a: &usize, b: &usize| {
            let order = if descending {
                compare(&row[*b], &row[*a])
            } else {
                compare(&row[*a], &row[*b])
            };
            // The position decides between equals, which also makes unstable selection stable.
            order.then(a.cmp(b))
        };
        let mut order: Vec<usize> = (0..size).collect();
        if !whole && k > 0 && k < size {
            order.select_nth_unstable_by(k - 1, before);
            order.truncate(k);
        }
        order.sort_unstable_by(before);
        order.truncate(k);
        values.extend(order.iter().map(|&i| row[i]));
        indices.extend(order.iter().map(|&i| i as i64));
    }
    (values, indices)
}

/// The order of numbers, with NaN above all.
pub(super) fn compare<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b)
        .unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}

pub(super) fn is_nan<T: PartialOrd>(v: &T) -> bool {
    v.partial_cmp(v).is_none()
}
