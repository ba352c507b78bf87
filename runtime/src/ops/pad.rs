//! Padding and cropping.

use candle_core::Tensor;

use super::Result;
use super::create::full;
use super::index::take;
use super::memory::fail;

/// The pairs of numbers to add before and after each of the last dimensions, one per dimension, in
/// the tensor's order; negative numbers cut. (`aten.constant_pad_nd`, whose list is reversed)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::pad(&x, &[(1, -1)], 9.0)?.to_vec1::<f32>()?, [9., 1., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pad(x: &Tensor, pads: &[(i64, i64)], value: f64) -> Result<Tensor> {
    let mut x = x.clone();
    for (dim, before, after) in padded_dims(&x, pads)? {
        x = trim(&x, dim, before, after)?;
        let part = |size: i64| {
            let mut shape = x.dims().to_vec();
            shape[dim] = size.max(0) as usize;
            full(value, &shape, x.dtype(), x.device())
        };
        x = match (before > 0, after > 0) {
            (true, true) => cat_any(&[&part(before)?, &x, &part(after)?], dim)?,
            (true, false) => cat_any(&[&part(before)?, &x], dim)?,
            (false, true) => cat_any(&[&x, &part(after)?], dim)?,
            (false, false) => x,
        };
    }
    Ok(x)
}

/// `cat` without the exception for empty 1-d tensors.
fn cat_any(tensors: &[&Tensor], dim: usize) -> Result<Tensor> {
    let parts = tensors
        .iter()
        .map(|t| Ok(t.contiguous()?))
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, dim)?)
}

fn padded_dims(x: &Tensor, pads: &[(i64, i64)]) -> Result<Vec<(usize, i64, i64)>> {
    let Some(first) = x.rank().checked_sub(pads.len()) else {
        fail!("pad: {} pairs for shape {:?}", pads.len(), x.dims());
    };
    Ok(pads
        .iter()
        .enumerate()
        .map(|(i, &(before, after))| (first + i, before, after))
        .filter(|&(_, before, after)| (before, after) != (0, 0))
        .collect())
}

fn trim(x: &Tensor, dim: usize, before: i64, after: i64) -> Result<Tensor> {
    let (front, back) = ((-before).max(0), (-after).max(0));
    let left = x.dims()[dim] as i64 - front - back;
    if left < 0 {
        fail!(
            "pad: cutting {front} and {back} from dimension {dim} of {:?}",
            x.dims()
        );
    }
    Ok(x.narrow(dim, front as usize, left as usize)?)
}

/// `pad` with the elements mirrored at the border, which is not repeated. (`aten.reflection_pad*`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::pad_reflect(&x, &[(2, 0)])?.to_vec1::<f32>()?, [3., 2., 1., 2., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pad_reflect(x: &Tensor, pads: &[(i64, i64)]) -> Result<Tensor> {
    pad_from(x, pads, |i, size| match i {
        // Past the mirror image there is nothing: an impossible position is an error.
        i if i <= -size || i >= 2 * size - 1 => -1,
        i if i.abs() >= size => 2 * (size - 1) - i,
        i => i.abs(),
    })
}

/// `pad` with the border elements repeated. (`aten.replication_pad*`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::pad_replicate(&x, &[(2, 0)])?.to_vec1::<f32>()?, [1., 1., 1., 2., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pad_replicate(x: &Tensor, pads: &[(i64, i64)]) -> Result<Tensor> {
    pad_from(x, pads, |i, size| i.clamp(0, (size - 1).max(0)))
}

/// `pad` with the elements of the other end. (`aten.pad`, `mode="circular"`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// assert_eq!(ops::pad_circular(&x, &[(2, 0)])?.to_vec1::<f32>()?, [2., 3., 1., 2., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pad_circular(x: &Tensor, pads: &[(i64, i64)]) -> Result<Tensor> {
    pad_from(x, pads, |i, size| match i {
        // PyTorch goes around once.
        i if i < -size || i >= 2 * size => -1,
        i => i.rem_euclid(size),
    })
}

fn pad_from(x: &Tensor, pads: &[(i64, i64)], from: impl Fn(i64, i64) -> i64) -> Result<Tensor> {
    let mut x = x.clone();
    for (dim, before, after) in padded_dims(&x, pads)? {
        let size = x.dims()[dim] as i64;
        let positions = (-before..size + after)
            .map(|i| {
                let from = from(i, size);
                if (0..size).contains(&from) {
                    Ok(from as usize)
                } else {
                    fail!(
                        "pad: {before} and {after} are too much for dimension {dim} of {:?}",
                        x.dims()
                    )
                }
            })
            .collect::<Result<Vec<_>>>()?;
        x = take(&x, dim, &positions)?;
    }
    Ok(x)
}
