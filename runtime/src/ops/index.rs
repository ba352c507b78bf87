//! Reading at indices. Negative indices count from the end; an index out of range is an error.

use candle_core::{Tensor, WithDType};

use super::Result;
use super::advanced::Picked;
use super::create::full_int;
use super::memory::{fail, on_cpu, read, tensor, to_i64, with_any, written};
use super::scatter::scatter_value;
use super::shape::check_dim;

/// Rows of a `[rows, width]` matrix, one per id: `[.., width]`. (`aten.embedding`)
///
/// A negative id, or one past the last row, is an error.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let weight = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let ids = Tensor::new(&[1i64, 0, 1], &Device::Cpu)?;
/// let rows = ops::embedding(&weight, &ids)?;
/// assert_eq!(rows.to_vec2::<f32>()?, [[3., 4.], [1., 2.], [3., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn embedding(weight: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let &[rows, width] = weight.dims() else {
        fail!(
            "embedding: expected a matrix, got shape {:?}",
            weight.dims()
        );
    };
    let positions = to_i64(ids)?
        .into_iter()
        .map(|id| match usize::try_from(id) {
            Ok(row) if row < rows => Ok(row),
            _ => fail!("embedding: id {id} is out of range for {rows} rows"),
        })
        .collect::<Result<Vec<_>>>()?;
    let rows = take(weight, 0, &positions)?;
    Ok(rows.reshape([ids.dims(), &[width]].concat())?)
}

/// The slices at some indices of a dimension; `index` is 1-d or a single number.
/// (`aten.index_select`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let index = Tensor::new(&[1i64, 1, 0], &Device::Cpu)?;
/// let y = ops::index_select(&x, 1, &index)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[2., 2., 1.], [4., 4., 3.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn index_select(x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    check_dim("index_select", x, dim)?;
    if index.rank() > 1 {
        fail!(
            "index_select: expected a 1-d index, got shape {:?}",
            index.dims()
        );
    }
    let size = x.dims()[dim];
    let positions = to_i64(index)?
        .into_iter()
        .map(|i| match usize::try_from(i) {
            Ok(position) if position < size => Ok(position),
            _ => fail!("index_select: index {i} is out of range for size {size}"),
        })
        .collect::<Result<Vec<_>>>()?;
    take(x, dim, &positions)
}

/// The slices at positions of a dimension, which the caller has checked.
pub(super) fn take(x: &Tensor, dim: usize, positions: &[usize]) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let index: Vec<i64> = positions.iter().map(|&p| p as i64).collect();
        let index = Tensor::from_vec(index, positions.len(), x.device())?;
        return Ok(x.contiguous()?.index_select(&index, dim)?);
    }
    let mut shape = x.dims().to_vec();
    shape[dim] = positions.len();
    with_any!(x.dtype(), "index_select", T => {
        read::<T, _>(x, |data| tensor(take_rows(data, x.dims(), dim, positions), &shape[..]))
    })
}

fn take_rows<T: WithDType>(data: &[T], dims: &[usize], dim: usize, positions: &[usize]) -> Vec<T> {
    let outer: usize = dims[..dim].iter().product();
    let inner: usize = dims[dim + 1..].iter().product();
    let block = dims[dim] * inner;
    written(outer * positions.len() * inner, |out: &mut [T]| {
        if inner == 0 || positions.is_empty() {
            return;
        }
        for (o, out) in out.chunks_mut(positions.len() * inner).enumerate() {
            let data = &data[o * block..(o + 1) * block];
            if inner == 1 {
                for (to, &p) in out.iter_mut().zip(positions) {
                    *to = data[p];
                }
            } else {
                for (to, &p) in out.chunks_mut(inner).zip(positions) {
                    to.copy_from_slice(&data[p * inner..(p + 1) * inner]);
                }
            }
        }
    })
}

/// `out[i][j] = x[i][index[i][j]]` for `dim` = 1, and so on: as many dimensions as `x`, none but
/// `dim` larger. Negative indices are an error, as in PyTorch. (`aten.gather`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let index = Tensor::new(&[[1i64], [0]], &Device::Cpu)?;
/// assert_eq!(ops::gather(&x, 1, &index)?.to_vec2::<f32>()?, [[2.], [3.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn gather(x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    on_cpu(&[x, index], |inputs| {
        let (x, index) = (inputs[0], inputs[1]);
        let positions = element_positions("gather", x.dims(), dim, index)?;
        with_any!(x.dtype(), "gather", T => read::<T, _>(x, |data| {
            tensor(positions.iter().map(|&p| data[p]).collect(), index.dims())
        }))
    })
}

/// A vector of zeros with a one at the class, for each class: `[.., classes]`. A class that is
/// negative, or not one of as many, is an error. (`aten.one_hot`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[2i64, 0], &Device::Cpu)?;
/// assert_eq!(ops::one_hot(&x, 3)?.to_vec2::<i64>()?, [[0, 0, 1], [1, 0, 0]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn one_hot(x: &Tensor, classes: usize) -> Result<Tensor> {
    let shape = [x.dims(), &[classes]].concat();
    let zeros = full_int(0, &shape, x.device())?;
    scatter_value(&zeros, x.rank(), &x.unsqueeze(x.rank())?, 1.0)
}

/// For each element of `index`, the position in a contiguous tensor of shape `dims` that it
/// addresses along `dim`.
pub(super) fn element_positions(
    op: &str,
    dims: &[usize],
    dim: usize,
    index: &Tensor,
) -> Result<Vec<usize>> {
    let (dims, index_dims) = match (dims, index.dims()) {
        ([], []) => (&[1][..], &[1][..]),
        other => other,
    };
    let fits = dims.len() == index_dims.len()
        && dim < dims.len()
        && (0..dims.len()).all(|d| d == dim || index_dims[d] <= dims[d]);
    let indices = to_i64(index)?;
    if indices.is_empty() {
        return Ok(vec![]);
    }
    if !fits {
        fail!("{op}: index of shape {index_dims:?} does not fit {dims:?} along dimension {dim}");
    }
    let strides = contiguous_strides(dims);
    let mut at = vec![0usize; dims.len()];
    let mut positions = Vec::with_capacity(indices.len());
    for i in indices {
        let size = dims[dim];
        let Some(along) = usize::try_from(i).ok().filter(|&i| i < size) else {
            fail!("{op}: index {i} is out of range for size {size}");
        };
        let rest: usize = (0..dims.len())
            .filter(|&d| d != dim)
            .map(|d| at[d] * strides[d])
            .sum();
        positions.push(rest + along * strides[dim]);
        for d in (0..dims.len()).rev() {
            at[d] += 1;
            if at[d] < index_dims[d] {
                break;
            }
            at[d] = 0;
        }
    }
    Ok(positions)
}

pub(super) fn contiguous_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d];
    }
    strides
}

/// Advanced indexing, `x[a, :, b]` with `None` for `:`. (`aten.index.Tensor`)
///
/// Index tensors broadcast against each other. Their dimensions replace the indexed ones where
/// those are neighbours, else they come first. A boolean (`U8`) tensor stands for the positions
/// where it holds, in as many dimensions as it has.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let at = Tensor::new(&[-1i64], &Device::Cpu)?;
/// let column = ops::index(&x, &[None, Some(&at)])?; // x[:, [-1]]
/// assert_eq!(column.to_vec2::<f32>()?, [[2.], [4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn index(x: &Tensor, indices: &[Option<&Tensor>]) -> Result<Tensor> {
    let picked = Picked::new("index", x, indices)?;
    let rows = take(&picked.source()?, 1, &picked.positions)?;
    Ok(rows.reshape(picked.result_shape())?)
}

/// The positions of the elements that are not zero, one row each, as `I64`. (`aten.nonzero`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[0f32, 2.], [3., 0.]], &Device::Cpu)?;
/// assert_eq!(ops::nonzero(&x)?.to_vec2::<i64>()?, [[0, 1], [1, 0]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn nonzero(x: &Tensor) -> Result<Tensor> {
    let mask: Vec<u8> = super::memory::to_vec(&super::compare::to_bool(x)?)?;
    let strides = contiguous_strides(x.dims());
    let mut out: Vec<i64> = Vec::new();
    for (i, _) in mask.iter().enumerate().filter(|&(_, &m)| m != 0) {
        out.extend(
            strides
                .iter()
                .zip(x.dims())
                .map(|(&s, &d)| ((i / s) % d) as i64),
        );
    }
    let rows = mask.iter().filter(|&&m| m != 0).count();
    Ok(tensor(out, &[rows, x.rank()][..])?.to_device(x.device())?)
}
