//! Cutting, joining and rearranging. What can be a view is one.

use candle_core::{DType, Tensor};

use super::Result;
use super::compare::ne;
use super::elementwise::sub;
use super::index::take;
use super::memory::fail;

/// The tensors one after another along a dimension. 1-d tensors without elements are skipped
/// whatever their rank would demand, as PyTorch does. (`aten.cat`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32], &Device::Cpu)?;
/// let b = Tensor::new(&[2f32, 3.], &Device::Cpu)?;
/// assert_eq!(ops::cat(&[&a, &b], 0)?.to_vec1::<f32>()?, [1., 2., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cat(tensors: &[&Tensor], dim: usize) -> Result<Tensor> {
    let parts = tensors
        .iter()
        .filter(|t| t.dims() != [0])
        .map(|t| Ok(t.contiguous()?))
        .collect::<Result<Vec<_>>>()?;
    match (parts.as_slice(), tensors) {
        ([], [first, ..]) => Ok((*first).clone()),
        ([], []) => fail!("cat: no tensors"),
        ([only], _) => Ok(only.clone()),
        (parts, _) => {
            check_dim("cat", &parts[0], dim)?;
            Ok(Tensor::cat(parts, dim)?)
        }
    }
}

/// Tensors of one shape along a new dimension. (`aten.stack`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::stack(&[&a, &a], 1)?.to_vec2::<f32>()?, [[1., 1.], [2., 2.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn stack(tensors: &[&Tensor], dim: usize) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        fail!("stack: no tensors");
    };
    if dim > first.rank() {
        fail!(
            "stack: dimension {dim} does not exist beside shape {:?}",
            first.dims()
        );
    }
    if let Some(other) = tensors.iter().find(|t| t.dims() != first.dims()) {
        fail!(
            "stack: shapes {:?} and {:?} differ",
            first.dims(),
            other.dims()
        );
    }
    let parts = tensors
        .iter()
        .map(|t| Ok(t.unsqueeze(dim)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, dim)?)
}

pub(super) fn check_dim(op: &str, x: &Tensor, dim: usize) -> Result<()> {
    if dim >= x.rank() {
        fail!(
            "{op}: dimension {dim} does not exist in shape {:?}",
            x.dims()
        );
    }
    Ok(())
}

/// Every `step`-th element from `start` up to `end` (clipped to the size). (`aten.slice.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, 1., 2., 3., 4.], &Device::Cpu)?;
/// assert_eq!(ops::slice(&x, 0, 1, 9, 2)?.to_vec1::<f32>()?, [1., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn slice(x: &Tensor, dim: usize, start: usize, end: usize, step: usize) -> Result<Tensor> {
    check_dim("slice", x, dim)?;
    if step == 0 {
        fail!("slice: a step of 0");
    }
    let end = end.min(x.dims()[dim]);
    let start = start.min(end);
    if step == 1 {
        return Ok(x.narrow(dim, start, end - start)?);
    }
    let positions: Vec<usize> = (start..end).step_by(step).collect();
    take(x, dim, &positions)
}

/// The part at one index of a dimension, which disappears. (`aten.select.int`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::select(&x, 1, 0)?.to_vec1::<f32>()?, [1., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn select(x: &Tensor, dim: usize, index: usize) -> Result<Tensor> {
    check_dim("select", x, dim)?;
    if index >= x.dims()[dim] {
        fail!(
            "select: index {index} is out of range for dimension {dim} of {:?}",
            x.dims()
        );
    }
    Ok(x.narrow(dim, index, 1)?.squeeze(dim)?)
}

/// [`select`] with an index that counts from the end where it is below zero. (`aten.select.int`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::select_at(&x, 1, -1)?.to_vec1::<f32>()?, [2., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn select_at(x: &Tensor, dim: usize, index: i64) -> Result<Tensor> {
    check_dim("select", x, dim)?;
    let len = x.dims()[dim] as i64;
    let at = if index < 0 {
        index.saturating_add(len)
    } else {
        index
    };
    match usize::try_from(at) {
        Ok(at) => select(x, dim, at),
        Err(_) => fail!(
            "select: index {index} is out of range for dimension {dim} of {:?}",
            x.dims()
        ),
    }
}

/// A view that repeats dimensions of size 1. (`aten.expand`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32], [2.]], &Device::Cpu)?;
/// assert_eq!(ops::expand(&x, &[2, 3])?.to_vec2::<f32>()?, [[1., 1., 1.], [2., 2., 2.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn expand(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    super::walk::expand_to(x, shape)
}

/// The elements in reverse order along some dimensions. (`aten.flip`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::flip(&x, &[0])?.to_vec1::<f32>()?, [3., 2., 1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn flip(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let mut x = x.clone();
    for &dim in dims {
        check_dim("flip", &x, dim)?;
        let positions: Vec<usize> = (0..x.dims()[dim]).rev().collect();
        x = take(&x, dim, &positions)?;
    }
    Ok(x)
}

/// The elements moved along dimensions, those falling off re-entering; without dimensions, along
/// the flattened tensor. (`aten.roll`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::roll(&x, &[1], &[0])?.to_vec1::<f32>()?, [3., 1., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn roll(x: &Tensor, shifts: &[i64], dims: &[usize]) -> Result<Tensor> {
    if dims.is_empty() {
        let [shift] = shifts else {
            fail!("roll: {} shifts for a flattened tensor", shifts.len());
        };
        return Ok(roll(&x.flatten_all()?, &[*shift], &[0])?.reshape(x.shape())?);
    }
    if shifts.len() != dims.len() {
        fail!(
            "roll: {} shifts for {} dimensions",
            shifts.len(),
            dims.len()
        );
    }
    let mut x = x.clone();
    for (&shift, &dim) in shifts.iter().zip(dims) {
        check_dim("roll", &x, dim)?;
        let size = x.dims()[dim];
        if size == 0 {
            continue;
        }
        let cut = (-shift).rem_euclid(size as i64) as usize;
        let (front, back) = (x.narrow(dim, 0, cut)?, x.narrow(dim, cut, size - cut)?);
        if cut > 0 {
            x = cat(&[&back, &front], dim)?;
        }
    }
    Ok(x)
}

/// Copies of the whole tensor side by side; counts for new dimensions come first. (`aten.repeat`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::repeat(&x, &[2, 2])?.to_vec2::<f32>()?, [[1., 2., 1., 2.], [1., 2., 1., 2.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn repeat(x: &Tensor, counts: &[usize]) -> Result<Tensor> {
    let Some(new) = counts.len().checked_sub(x.rank()) else {
        fail!("repeat: {} counts for shape {:?}", counts.len(), x.dims());
    };
    let old = [vec![1; new], x.dims().to_vec()].concat();
    let spread: Vec<usize> = old.iter().flat_map(|&d| [1, d]).collect();
    let repeated: Vec<usize> = counts
        .iter()
        .zip(&old)
        .flat_map(|(&n, &d)| [n, d])
        .collect();
    let shape: Vec<usize> = counts.iter().zip(&old).map(|(n, d)| n * d).collect();
    Ok(x.reshape(spread)?.broadcast_as(repeated)?.reshape(shape)?)
}

/// Each element, or slice along `dim`, `count` times in a row; without `dim`, of the flattened
/// tensor. (`aten.repeat_interleave.self_int`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::repeat_interleave(&x, 2, Some(0))?.to_vec1::<f32>()?, [1., 1., 2., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn repeat_interleave(x: &Tensor, count: usize, dim: Option<usize>) -> Result<Tensor> {
    let Some(dim) = dim else {
        return repeat_interleave(&x.flatten_all()?, count, Some(0));
    };
    check_dim("repeat_interleave", x, dim)?;
    let mut shape = x.dims().to_vec();
    shape.insert(dim + 1, count);
    let repeated = x.unsqueeze(dim + 1)?.broadcast_as(shape)?;
    let mut shape = x.dims().to_vec();
    shape[dim] *= count;
    Ok(repeated.reshape(shape)?)
}

/// Views of given sizes along a dimension. (`aten.split_with_sizes`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let parts = ops::split(&x, &[2, 1], 0)?;
/// assert_eq!(parts[0].to_vec1::<f32>()?, [1., 2.]);
/// assert_eq!(parts[1].to_vec1::<f32>()?, [3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn split(x: &Tensor, sizes: &[usize], dim: usize) -> Result<Vec<Tensor>> {
    check_dim("split", x, dim)?;
    if sizes.iter().sum::<usize>() != x.dims()[dim] {
        fail!(
            "split: sizes {sizes:?} do not add up to dimension {dim} of {:?}",
            x.dims()
        );
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for &size in sizes {
        parts.push(x.narrow(dim, start, size)?);
        start += size;
    }
    Ok(parts)
}

/// Views of one size along a dimension, the last one maybe smaller. (`aten.split.Tensor`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let parts = ops::split_size(&x, 2, 0)?;
/// assert_eq!(parts[0].to_vec1::<f32>()?, [1., 2.]);
/// assert_eq!(parts[1].to_vec1::<f32>()?, [3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn split_size(x: &Tensor, size: usize, dim: usize) -> Result<Vec<Tensor>> {
    check_dim("split", x, dim)?;
    let total = x.dims()[dim];
    if size == 0 {
        fail!("split: parts of size 0");
    }
    let sizes: Vec<usize> = (0..total.max(1))
        .step_by(size)
        .map(|start| size.min(total - start))
        .collect();
    split(x, &sizes, dim)
}

/// At most `count` views of equal size along a dimension. (`aten.chunk`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let parts = ops::chunk(&x, 2, 0)?;
/// assert_eq!(parts[0].to_vec1::<f32>()?, [1., 2.]);
/// assert_eq!(parts[1].to_vec1::<f32>()?, [3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn chunk(x: &Tensor, count: usize, dim: usize) -> Result<Vec<Tensor>> {
    check_dim("chunk", x, dim)?;
    if count == 0 {
        fail!("chunk: no parts");
    }
    let total = x.dims()[dim];
    if total == 0 {
        return Ok(vec![x.clone(); count]);
    }
    split_size(x, total.div_ceil(count), dim)
}

/// The parts along a dimension, which disappears. (`aten.unbind`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let columns = ops::unbind(&x, 1)?;
/// assert_eq!(columns[1].to_vec1::<f32>()?, [2., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn unbind(x: &Tensor, dim: usize) -> Result<Vec<Tensor>> {
    check_dim("unbind", x, dim)?;
    (0..x.dims()[dim])
        .map(|index| select(x, dim, index))
        .collect()
}

/// The differences of neighbours along a dimension, `n` times; integers wrap. Booleans are for
/// [`diff_bool`]. (`aten.diff`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 4., 9.], &Device::Cpu)?;
/// assert_eq!(ops::diff(&x, 1, 0)?.to_vec1::<f32>()?, [3., 5.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn diff(x: &Tensor, n: usize, dim: usize) -> Result<Tensor> {
    neighbours("diff", x, n, dim, sub)
}

/// Whether neighbours along a dimension differ, `n` times, for booleans. (`aten.diff` of `bool`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1u8, 1, 0], &Device::Cpu)?;
/// assert_eq!(ops::diff_bool(&x, 1, 0)?.to_vec1::<u8>()?, [0, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn diff_bool(x: &Tensor, n: usize, dim: usize) -> Result<Tensor> {
    if x.dtype() != DType::U8 {
        fail!("diff: expected booleans, got {:?}", x.dtype());
    }
    neighbours("diff", x, n, dim, ne)
}

fn neighbours(
    op: &str,
    x: &Tensor,
    n: usize,
    dim: usize,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    check_dim(op, x, dim)?;
    let mut x = x.clone();
    for _ in 0..n {
        let left = x.dims()[dim].saturating_sub(1);
        let start = x.dims()[dim] - left;
        let (next, this) = (x.narrow(dim, start, left)?, x.narrow(dim, 0, left)?);
        x = f(&next, &this)?;
    }
    Ok(x)
}

/// The elements whose position in dimension `second` is `offset` more than in `first`, in a new
/// last dimension that takes the place of both. (`aten.diagonal`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::diagonal(&x, 0, 0, 1)?.to_vec1::<f32>()?, [1., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn diagonal(x: &Tensor, offset: i64, first: usize, second: usize) -> Result<Tensor> {
    check_dim("diagonal", x, first)?;
    check_dim("diagonal", x, second)?;
    if first == second {
        fail!("diagonal: dimension {first} twice");
    }
    let mut order: Vec<usize> = (0..x.rank())
        .filter(|&d| d != first && d != second)
        .collect();
    let mut shape: Vec<usize> = order.iter().map(|&d| x.dims()[d]).collect();
    order.extend([first, second]);
    let (rows, columns) = (x.dims()[first], x.dims()[second]);
    shape.push(rows * columns);
    let column = |row: usize| usize::try_from(row as i64 + offset).ok();
    let inside = |row| Some((row, column(row).filter(|&c| c < columns)?));
    let positions = (0..rows).filter_map(inside).map(|(r, c)| r * columns + c);
    let positions: Vec<usize> = positions.collect();
    let flat = x.permute(order)?.reshape(&shape[..])?;
    take(&flat, shape.len() - 1, &positions)
}

/// Windows of `size` elements every `step`, in a new last dimension. (`aten.unfold`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?;
/// assert_eq!(ops::unfold(&x, 0, 2, 1)?.to_vec2::<f32>()?, [[1., 2.], [2., 3.], [3., 4.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn unfold(x: &Tensor, dim: usize, size: usize, step: usize) -> Result<Tensor> {
    check_dim("unfold", x, dim)?;
    let total = x.dims()[dim];
    if step == 0 || size > total {
        fail!(
            "unfold: windows of {size} every {step} of dimension {dim} of {:?}",
            x.dims()
        );
    }
    let count = (total - size) / step + 1;
    let positions: Vec<usize> = (0..count).flat_map(|w| w * step..w * step + size).collect();
    let windows = take(x, dim, &positions)?;
    let mut shape = x.dims().to_vec();
    shape[dim] = count;
    shape.insert(dim + 1, size);
    let mut order: Vec<usize> = (0..shape.len()).filter(|&d| d != dim + 1).collect();
    order.push(dim + 1);
    Ok(windows.reshape(shape)?.permute(order)?)
}
