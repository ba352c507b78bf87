//! Bags of embeddings: rows of a table, folded by the bag they belong to.

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::map::same_dtype;
use super::memory::{fail, is_float, on_cpu, read, tensor, to_i64, with_any};

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
    /// The largest of each column.
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
    let &[rows, width] = table.dims() else {
        fail!("embedding_bag: a table of shape {:?}", table.dims());
    };
    if !is_float(table.dtype()) {
        fail!(
            "embedding_bag: expected floating point, got {:?}",
            table.dtype()
        );
    }
    let scale = match scale {
        Some(scale) => {
            same_dtype("embedding_bag", table, scale)?;
            scale
                .flatten_all()?
                .to_dtype(DType::F64)?
                .to_vec1::<f64>()?
        }
        None => Vec::new(),
    };
    let (indices, mut starts) = (to_i64(indices)?, to_i64(offsets)?);
    if !closed {
        starts.push(indices.len() as i64);
    }
    if !scale.is_empty() && scale.len() != indices.len() {
        fail!(
            "embedding_bag: {} scales for {} indices",
            scale.len(),
            indices.len()
        );
    }
    let mut bags: Vec<Vec<(usize, f64)>> = Vec::with_capacity(starts.len());
    for bounds in starts.windows(2) {
        let range = usize::try_from(bounds[0])
            .ok()
            .zip(usize::try_from(bounds[1]).ok());
        let Some(range) = range.filter(|&(a, b)| a <= b && b <= indices.len()) else {
            fail!("embedding_bag: a bag from {} to {}", bounds[0], bounds[1]);
        };
        let mut bag = Vec::with_capacity(range.1 - range.0);
        let within = indices.iter().enumerate().take(range.1).skip(range.0);
        for (i, &index) in within {
            if Some(index) == padding {
                continue;
            }
            let Some(row) = usize::try_from(index).ok().filter(|&row| row < rows) else {
                fail!("embedding_bag: index {index} is out of range for size {rows}");
            };
            bag.push((row, scale.get(i).copied().unwrap_or(1.0)));
        }
        bags.push(bag);
    }
    on_cpu(&[table], |inputs| {
        with_any!(table.dtype(), "embedding_bag", T => read::<T, _>(inputs[0], |table| {
            let mut out = Vec::with_capacity(bags.len() * width);
            for bag in &bags {
                for column in 0..width {
                    let values = bag.iter().map(|&(row, scale)| {
                        scale * table[row * width + column].to_f64()
                    });
                    out.push(T::from_f64(folded(fold, values)));
                }
            }
            tensor(out, (bags.len(), width))
        }))
    })
}

fn folded(fold: Bag, values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    let larger = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
    match fold {
        _ if count == 0 => 0.0,
        Bag::Sum => values.sum(),
        Bag::Mean => values.sum::<f64>() / count as f64,
        Bag::Max => values.fold(f64::NEG_INFINITY, larger),
    }
}
