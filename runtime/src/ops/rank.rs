//! Elements by their rank along a dimension, and ranks of numbers among others.

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::map::same_dtype;
use super::memory::{fail, on_cpu, read, tensor, with_any};
use super::shape::check_dim;
use super::sort::{compare, is_nan};

/// The lower median along a dimension and where it is, as `I64`: of an even number of elements the
/// smaller one in the middle. NaN, the first, where there is one. (`aten.median.dim`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[3f32, 1., 2., 9.]], &Device::Cpu)?;
/// let (values, at) = ops::median_dim(&x, 1, false)?;
/// assert_eq!((values.to_vec1::<f32>()?, at.to_vec1::<i64>()?), (vec![2.], vec![2]));
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn median_dim(x: &Tensor, dim: usize, keepdim: bool) -> Result<(Tensor, Tensor)> {
    with_any!(x.dtype(), "median", T => picked::<T>("median", x, dim, keepdim, |row| {
        let nan = row.iter().position(is_nan);
        nan.unwrap_or_else(|| smallest(row, (row.len() - 1) / 2))
    }))
}

/// The lower median of all elements; NaN where there is one, or no element at all.
/// (`aten.median`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[3f32, 1.], [2., 9.]], &Device::Cpu)?;
/// assert_eq!(ops::median(&x)?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn median(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 && super::memory::is_float(x.dtype()) {
        return super::create::full(f64::NAN, &[], x.dtype(), x.device());
    }
    Ok(median_dim(&x.flatten_all()?, 0, false)?.0)
}

/// The `k`-th smallest element along a dimension, counted from 1, and where it is, as `I64`: the
/// first of equal ones. NaN counts as the largest. (`aten.kthvalue`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[3f32, 1., 2., 9.]], &Device::Cpu)?;
/// let (values, at) = ops::kthvalue(&x, 3, 1, false)?;
/// assert_eq!((values.to_vec1::<f32>()?, at.to_vec1::<i64>()?), (vec![3.], vec![0]));
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn kthvalue(x: &Tensor, k: usize, dim: usize, keepdim: bool) -> Result<(Tensor, Tensor)> {
    let size = x.dims().get(dim).copied().unwrap_or(1);
    if k == 0 || k > size {
        fail!("kthvalue: number {k} of {size} elements");
    }
    with_any!(x.dtype(), "kthvalue", T => {
        picked::<T>("kthvalue", x, dim, keepdim, |row| smallest(row, k - 1))
    })
}

/// Where the element is that has `before` elements before it.
fn smallest<T: WithDType>(row: &[T], before: usize) -> usize {
    let mut order: Vec<usize> = (0..row.len()).collect();
    let by = |a: &usize, b: &usize| compare(&row[*a], &row[*b]).then(a.cmp(b));
    *order.select_nth_unstable_by(before, by).1
}

/// One element of each row and where it was; `choose` gets rows that are not empty.
fn picked<T: WithDType>(
    op: &str,
    x: &Tensor,
    dim: usize,
    keepdim: bool,
    choose: impl Fn(&[T]) -> usize,
) -> Result<(Tensor, Tensor)> {
    if x.rank() == 0 {
        return Ok((x.clone(), Tensor::zeros((), DType::I64, x.device())?));
    }
    check_dim(op, x, dim)?;
    let size = x.dims()[dim];
    if size == 0 {
        fail!("{op}: dimension {dim} of {:?} is empty", x.dims());
    }
    let last = x.rank() - 1;
    let mut order: Vec<usize> = (0..=last).filter(|&d| d != dim).collect();
    order.push(dim);
    let rows = x.permute(order)?;
    let mut shape = x.dims().to_vec();
    match keepdim {
        true => shape[dim] = 1,
        false => drop(shape.remove(dim)),
    }
    on_cpu(&[&rows], |inputs| {
        read::<T, _>(inputs[0], |data| {
            let (mut values, mut at) = (Vec::new(), Vec::new());
            for row in data.chunks_exact(size) {
                let i = choose(row);
                values.push(row[i]);
                at.push(i as i64);
            }
            Ok((tensor(values, &shape[..])?, tensor(at, &shape[..])?))
        })
    })
}

/// The largest element so far along a dimension and where it is, as `I64`: the last of equal ones.
/// Behind a NaN all are NaN. (`aten.cummax`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 3., 2.], &Device::Cpu)?;
/// let (values, at) = ops::cummax(&x, 0)?;
/// assert_eq!(values.to_vec1::<f32>()?, [1., 3., 3.]);
/// assert_eq!(at.to_vec1::<i64>()?, [0, 1, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cummax(x: &Tensor, dim: usize) -> Result<(Tensor, Tensor)> {
    with_any!(x.dtype(), "cummax", T => so_far::<T>("cummax", x, dim, |new, best| new >= best))
}

/// The smallest element so far along a dimension, as [`cummax`]. (`aten.cummin`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[2f32, 3., 1.], &Device::Cpu)?;
/// let (values, at) = ops::cummin(&x, 0)?;
/// assert_eq!(values.to_vec1::<f32>()?, [2., 2., 1.]);
/// assert_eq!(at.to_vec1::<i64>()?, [0, 0, 2]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cummin(x: &Tensor, dim: usize) -> Result<(Tensor, Tensor)> {
    with_any!(x.dtype(), "cummin", T => so_far::<T>("cummin", x, dim, |new, best| new <= best))
}

fn so_far<T: WithDType>(
    op: &str,
    x: &Tensor,
    dim: usize,
    wins: impl Fn(&T, &T) -> bool,
) -> Result<(Tensor, Tensor)> {
    if x.rank() == 0 {
        return Ok((x.clone(), Tensor::zeros((), DType::I64, x.device())?));
    }
    check_dim(op, x, dim)?;
    let size = x.dims()[dim].max(1);
    let inner: usize = x.dims()[dim + 1..].iter().product::<usize>().max(1);
    on_cpu(&[x], |inputs| {
        read::<T, _>(inputs[0], |data| {
            let (mut values, mut at) = (data.to_vec(), vec![0i64; data.len()]);
            for start in (0..data.len()).step_by(size * inner) {
                for i in start + inner..start + size * inner {
                    let (new, best) = (values[i], values[i - inner]);
                    if is_nan(&new) || (!is_nan(&best) && wins(&new, &best)) {
                        at[i] = ((i - start) / inner) as i64;
                    } else {
                        (values[i], at[i]) = (best, at[i - inner]);
                    }
                }
            }
            Ok((tensor(values, x.dims())?, tensor(at, x.dims())?))
        })
    })
}

/// For every number, how many of the bounds are smaller, or with `right` at most as large, as
/// `I64`. The bounds are in order along the last dimension: one list for all, or one for every row
/// of `x`. A NaN in `x` counts as larger than all bounds. (`aten.searchsorted.Tensor`,
/// `aten.bucketize.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let bounds = Tensor::new(&[0f32, 1., 2.], &Device::Cpu)?;
/// let x = Tensor::new(&[-1f32, 1., 9.], &Device::Cpu)?;
/// assert_eq!(ops::searchsorted(&bounds, &x, false)?.to_vec1::<i64>()?, [0, 1, 3]);
/// assert_eq!(ops::searchsorted(&bounds, &x, true)?.to_vec1::<i64>()?, [0, 2, 3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn searchsorted(bounds: &Tensor, x: &Tensor, right: bool) -> Result<Tensor> {
    same_dtype("searchsorted", bounds, x)?;
    let Some((&size, rows)) = bounds.dims().split_last() else {
        fail!("searchsorted: the bounds have no dimension");
    };
    let own = x.dims().split_last();
    if !rows.is_empty() && own.is_none_or(|(_, of)| of != rows) {
        let (a, b) = (bounds.dims(), x.dims());
        fail!("searchsorted: bounds of shape {a:?} for {b:?}");
    }
    let row = match own {
        Some((&row, _)) if !rows.is_empty() => row,
        _ => x.elem_count(),
    };
    on_cpu(&[bounds, x], |inputs| {
        with_any!(x.dtype(), "searchsorted", T => read::<T, _>(inputs[0], |bounds| {
            read::<T, _>(inputs[1], |data| {
                let mut out = Vec::with_capacity(data.len());
                for (i, v) in data.iter().enumerate() {
                    let start = if rows.is_empty() { 0 } else { i / row * size };
                    let bounds = &bounds[start..start + size];
                    // PyTorch's steps, which decide where a NaN among the bounds is met.
                    let (mut low, mut high) = (0, size);
                    while low < high {
                        let middle = low + (high - low) / 2;
                        let bound = &bounds[middle];
                        match if right { bound > v } else { bound >= v } {
                            true => high = middle,
                            false => low = middle + 1,
                        }
                    }
                    out.push(low as i64);
                }
                tensor(out, x.dims())
            })
        }))
    })
}
