//! The arithmetic of advanced indexing, shared by reading and writing.

use candle_core::{DType, Tensor};

use super::Result;
use super::index::{contiguous_strides, nonzero};
use super::memory::{fail, to_i64};
use super::walk::{broadcast_shape, expand_to};

/// An advanced index resolved against a tensor: which rows of a three-dimensional view
/// `[outer, indexed dimensions, inner]` it addresses.
pub(super) struct Picked {
    x: Tensor,
    /// The order of dimensions that brings the indexed ones together.
    pub(super) order: Vec<usize>,
    outer: Vec<usize>,
    indexed: usize,
    inner: Vec<usize>,
    index_shape: Vec<usize>,
    /// The addressed positions among the indexed dimensions taken as one.
    pub(super) positions: Vec<usize>,
}

impl Picked {
    pub(super) fn new(op: &str, x: &Tensor, indices: &[Option<&Tensor>]) -> Result<Self> {
        let indices = without_masks(op, x, indices)?;
        let dims = x.dims();
        if indices.len() > dims.len() {
            fail!("{op}: {} indices for shape {dims:?}", indices.len());
        }
        let used: Vec<(usize, &Tensor)> = indices
            .iter()
            .enumerate()
            .filter_map(|(d, t)| Some((d, t.as_ref()?)))
            .collect();
        let (Some(&(first, _)), Some(&(last, _))) = (used.first(), used.last()) else {
            fail!("{op}: no index tensor");
        };
        let mut index_shape = vec![];
        for (_, index) in &used {
            index_shape = broadcast_shape(op, &index_shape, index.dims())?;
        }
        let sizes: Vec<usize> = used.iter().map(|&(d, _)| dims[d]).collect();
        let positions = linear_positions(op, &used, &sizes, &index_shape)?;

        let neighbours = last - first + 1 == used.len();
        let outer_end = if neighbours { first } else { 0 };
        let is_used = |d: &usize| used.iter().any(|(u, _)| u == d);
        let rest: Vec<usize> = (outer_end..dims.len()).filter(|d| !is_used(d)).collect();
        let order = (0..outer_end)
            .chain(used.iter().map(|&(d, _)| d))
            .chain(rest.iter().copied());
        Ok(Self {
            x: x.clone(),
            order: order.collect(),
            outer: dims[..outer_end].to_vec(),
            indexed: sizes.iter().product(),
            inner: rest.iter().map(|&d| dims[d]).collect(),
            index_shape,
            positions,
        })
    }

    /// The tensor as `[outer, indexed, inner]`.
    pub(super) fn source(&self) -> Result<Tensor> {
        let x = self.x.permute(self.order.clone())?;
        Ok(x.reshape((
            self.outer.iter().product::<usize>(),
            self.indexed,
            self.inner_len(),
        ))?)
    }

    /// Undoes [`source`](Self::source).
    pub(super) fn restore(&self, x: &Tensor) -> Result<Tensor> {
        let permuted: Vec<usize> = self.order.iter().map(|&d| self.x.dims()[d]).collect();
        let mut inverse = vec![0; self.order.len()];
        for (to, &from) in self.order.iter().enumerate() {
            inverse[from] = to;
        }
        Ok(x.reshape(permuted)?.permute(inverse)?)
    }

    /// The addressed elements as `[outer, positions, inner]`.
    pub(super) fn rows_shape(&self) -> [usize; 3] {
        [
            self.outer.iter().product(),
            self.positions.len(),
            self.inner_len(),
        ]
    }

    fn inner_len(&self) -> usize {
        self.inner.iter().product()
    }

    /// The shape of `x[indices]`.
    pub(super) fn result_shape(&self) -> Vec<usize> {
        [self.outer.as_slice(), &self.index_shape, &self.inner].concat()
    }
}

fn without_masks(op: &str, x: &Tensor, indices: &[Option<&Tensor>]) -> Result<Vec<Option<Tensor>>> {
    let mut out: Vec<Option<Tensor>> = Vec::with_capacity(indices.len());
    for index in indices {
        match index {
            Some(mask) if mask.dtype() == DType::U8 => {
                let covered = x.dims().get(out.len()..out.len() + mask.rank());
                if covered != Some(mask.dims()) || mask.rank() == 0 {
                    fail!(
                        "{op}: mask of shape {:?} on shape {:?}",
                        mask.dims(),
                        x.dims()
                    );
                }
                let positions = nonzero(mask)?;
                for d in 0..mask.rank() {
                    out.push(Some(positions.narrow(1, d, 1)?.squeeze(1)?));
                }
            }
            other => out.push(other.cloned()),
        }
    }
    Ok(out)
}

fn linear_positions(
    op: &str,
    used: &[(usize, &Tensor)],
    sizes: &[usize],
    shape: &[usize],
) -> Result<Vec<usize>> {
    let strides = contiguous_strides(sizes);
    let mut positions = vec![0usize; shape.iter().product()];
    for ((&(dim, index), &size), &stride) in used.iter().zip(sizes).zip(&strides) {
        let values = to_i64(&expand_to(index, shape)?)?;
        for (position, i) in positions.iter_mut().zip(values) {
            let wrapped = if i < 0 {
                i.saturating_add(size as i64)
            } else {
                i
            };
            match usize::try_from(wrapped) {
                Ok(along) if along < size => *position += along * stride,
                _ => fail!("{op}: index {i} is out of range for dimension {dim} of size {size}"),
            }
        }
    }
    Ok(positions)
}
