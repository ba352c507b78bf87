//! Bags of embeddings: rows of a table, folded by the bag they belong to.

use std::ops::Range;

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::elementwise::float_only;
use super::map::{always_chunks, same_dtype};
use super::memory::{fail, on_cpu, read, tensor, to_i64, with_any, written};

/// What [`embedding_bag`] makes of the rows of a bag.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let table = Tensor::new(&[[1f32], [10.]], &Device::Cpu)?;
/// let (all, start) = (Tensor::new(&[0i64, 1], &Device::Cpu)?, Tensor::new(&[0i64], &Device::Cpu)?);
/// let largest = ops::embedding_bag(&table, &all, &start, ops::Bag::Max, None, false, None)?;
/// assert_eq!(largest.to_vec2::<f32>()?, [[10.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bag {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest of each column; NaN where that of the first row is.
    Max,
}

/// Rows of a table, `[rows, width]`, folded by bag: `[bags, width]`, zeros for a bag without rows.
/// Bags begin at `offsets` into the indices; the last offset only ends the last bag where `closed`.
/// Rows are multiplied by their `scale`, if there is one; an index that is `padding` is left out.
/// Sums are kept in doubles and rounded once. (`aten.embedding_bag.padding_idx`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let table = Tensor::new(&[[1f32], [10.], [100.]], &Device::Cpu)?;
/// let indices = Tensor::new(&[0i64, 2, 1], &Device::Cpu)?;
/// let offsets = Tensor::new(&[0i64, 2], &Device::Cpu)?;
/// let bags = ops::embedding_bag(&table, &indices, &offsets, ops::Bag::Sum, None, false, None)?;
/// assert_eq!(bags.to_vec2::<f32>()?, [[101.], [10.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn embedding_bag(
    table: &Tensor,
    indices: &Tensor,
    offsets: &Tensor,
    fold: Bag,
    scale: Option<&Tensor>,
    closed: bool,
    padding: Option<i64>,
) -> Result<Tensor> {
    float_only("embedding_bag", table)?;
    let &[rows, width] = table.dims() else {
        fail!("embedding_bag: a table of shape {:?}", table.dims());
    };
    let bags = Bags::new(
        rows,
        indices,
        offsets,
        closed,
        padding,
        scales(table, scale)?,
    )?;
    on_cpu(&[table], |inputs| {
        with_any!(table.dtype(), "embedding_bag", T => read::<T, _>(inputs[0], |table| {
            let count = bags.bounds.len();
            let out = written(count * width, |out: &mut [T]| {
                always_chunks(out, width.max(1), &|start, out: &mut [T]| {
                    let bag = &bags.rows[bags.bounds[start / width].clone()];
                    for (column, to) in out.iter_mut().enumerate() {
                        let values = bag.iter().map(|&(row, scale)| {
                            scale * table[row * width + column].to_f64()
                        });
                        *to = T::from_f64(folded(fold, values));
                    }
                });
            });
            tensor(out, (count, width))
        }))
    })
}

/// One number per index, or none.
fn scales(table: &Tensor, scale: Option<&Tensor>) -> Result<Option<Vec<f64>>> {
    let Some(scale) = scale else {
        return Ok(None);
    };
    same_dtype("embedding_bag", table, scale)?;
    let scale = scale.flatten_all()?.to_dtype(DType::F64)?;
    Ok(Some(scale.to_vec1()?))
}

struct Bags {
    /// Rows of the table with their scales, bag by bag.
    rows: Vec<(usize, f64)>,
    /// Of each bag, in those.
    bounds: Vec<Range<usize>>,
}

impl Bags {
    fn new(
        rows: usize,
        indices: &Tensor,
        offsets: &Tensor,
        closed: bool,
        padding: Option<i64>,
        scales: Option<Vec<f64>>,
    ) -> Result<Self> {
        let (indices, mut starts) = (to_i64(indices)?, to_i64(offsets)?);
        if !closed {
            starts.push(indices.len() as i64);
        }
        if let Some(scales) = scales.as_ref().filter(|s| s.len() != indices.len()) {
            let (scales, indices) = (scales.len(), indices.len());
            fail!("embedding_bag: {scales} scales for {indices} indices");
        }
        // Negative rows count from the end, in the padding alone.
        let padding = padding.map(|p| if p < 0 { p + rows as i64 } else { p });
        let mut bags = Self {
            rows: Vec::with_capacity(indices.len()),
            bounds: Vec::with_capacity(starts.len()),
        };
        for bounds in starts.windows(2) {
            let range = usize::try_from(bounds[0])
                .ok()
                .zip(usize::try_from(bounds[1]).ok());
            let Some((from, to)) = range.filter(|&(a, b)| a <= b && b <= indices.len()) else {
                fail!("embedding_bag: a bag from {} to {}", bounds[0], bounds[1]);
            };
            let start = bags.rows.len();
            for (i, &index) in indices.iter().enumerate().take(to).skip(from) {
                if Some(index) == padding {
                    continue;
                }
                let Some(row) = usize::try_from(index).ok().filter(|&row| row < rows) else {
                    fail!("embedding_bag: index {index} is out of range for size {rows}");
                };
                bags.rows.push((row, scales.as_ref().map_or(1.0, |s| s[i])));
            }
            bags.bounds.push(start..bags.rows.len());
        }
        Ok(bags)
    }
}

fn folded(fold: Bag, mut values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    let Some(first) = values.next() else {
        return 0.0;
    };
    match fold {
        Bag::Sum => values.fold(0.0 + first, |sum, v| sum + v),
        Bag::Mean => values.fold(0.0 + first, |sum, v| sum + v) / count as f64,
        // A NaN that comes first stays, and no later one is larger.
        Bag::Max => values.fold(first, |most, v| if v > most { v } else { most }),
    }
}
