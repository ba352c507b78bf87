//! Broadcasting: one output walked in order, several strided inputs beside it.

use super::Result;
use super::memory::fail;
use candle_core::Tensor;
use std::ops::Range;

/// The shape that PyTorch gives an elementwise operation on two shapes.
pub(super) fn broadcast_shape(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => fail!("{op}: shapes {a:?} and {b:?} do not broadcast"),
        })
        .collect()
}

/// A view of `x` in `shape`, with stride 0 where it repeats.
pub(super) fn expand_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.dims() == shape {
        return Ok(x.clone());
    }
    Ok(x.broadcast_as(shape)?)
}

/// How to walk `N` strided inputs of one shape: neighbouring dimensions merged where possible.
pub(super) struct Plan<const N: usize> {
    dims: Vec<usize>,
    strides: Vec<[usize; N]>,
    starts: [usize; N],
}

impl<const N: usize> Plan<N> {
    /// The walk over inputs that were expanded to one shape.
    pub(super) fn new(inputs: [&Tensor; N]) -> Self {
        let shape = inputs[0].dims();
        let mut dims: Vec<usize> = Vec::with_capacity(shape.len());
        let mut strides: Vec<[usize; N]> = Vec::with_capacity(shape.len());
        for (d, &size) in shape.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let stride: [usize; N] = std::array::from_fn(|i| inputs[i].stride()[d]);
            match (dims.last_mut(), strides.last_mut()) {
                (Some(outer), Some(previous))
                    if (0..N).all(|i| previous[i] == stride[i] * size) =>
                {
                    *outer *= size;
                    *previous = stride;
                }
                _ => {
                    dims.push(size);
                    strides.push(stride);
                }
            }
        }
        if dims.is_empty() {
            dims.push(1);
            strides.push([0; N]);
        }
        Self {
            dims,
            strides,
            starts: std::array::from_fn(|i| inputs[i].layout().start_offset()),
        }
    }

    /// The strides of the inputs along the innermost dimension.
    #[inline(always)]
    pub(super) fn inner(&self) -> [usize; N] {
        self.strides[self.strides.len() - 1]
    }

    /// Calls `f(position in range, length, input offsets)` for runs of at most `limit` elements
    /// along the innermost dimension that cover the output elements `range`.
    pub(super) fn runs(
        &self,
        range: Range<usize>,
        limit: usize,
        f: &mut dyn FnMut(usize, usize, [usize; N]),
    ) {
        if range.is_empty() {
            return;
        }
        let last = self.dims.len() - 1;
        let mut index = vec![0usize; self.dims.len()];
        let mut rest = range.start;
        let mut offsets = self.starts;
        for d in (0..=last).rev() {
            index[d] = rest % self.dims[d];
            rest /= self.dims[d];
            shift(&mut offsets, &self.strides[d], |at, s| at + index[d] * s);
        }
        let mut done = 0;
        let total = range.len();
        while done < total {
            let len = (self.dims[last] - index[last]).min(total - done).min(limit);
            f(done, len, offsets);
            done += len;
            index[last] += len;
            shift(&mut offsets, &self.strides[last], |at, s| at + len * s);
            let mut d = last;
            while index[d] == self.dims[d] && d > 0 {
                shift(&mut offsets, &self.strides[d], |at, s| {
                    at - self.dims[d] * s
                });
                index[d] = 0;
                d -= 1;
                index[d] += 1;
                shift(&mut offsets, &self.strides[d], |at, s| at + s);
            }
        }
    }
}

#[inline(always)]
fn shift<const N: usize>(
    offsets: &mut [usize; N],
    strides: &[usize; N],
    to: impl Fn(usize, usize) -> usize,
) {
    for (offset, &stride) in offsets.iter_mut().zip(strides) {
        *offset = to(*offset, stride);
    }
}
