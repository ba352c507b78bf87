//! Channels to space and back.

use candle_core::Tensor;

use super::Result;
use super::memory::fail;

/// Channels to space: `[.., c r r, h, w]` to `[.., c, h r, w r]`. (`aten.pixel_shuffle`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32]], [[2.]], [[3.]], [[4.]]]], &Device::Cpu)?;
/// let y = ops::pixel_shuffle(&x, 2)?;
/// assert_eq!(y.dims(), [1, 1, 2, 2]);
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 2., 3., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pixel_shuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (batch, [c, h, w]) = image("pixel_shuffle", x)?;
    if factor == 0 || c % (factor * factor) != 0 {
        fail!("pixel_shuffle: {c} channels by a factor of {factor}");
    }
    let c = c / (factor * factor);
    let x = x.reshape((batch.iter().product::<usize>(), c, factor, factor, h, w))?;
    let x = x.permute((0, 1, 4, 2, 5, 3))?;
    Ok(x.reshape([batch, &[c, h * factor, w * factor]].concat())?)
}

/// Space to channels: `[.., c, h r, w r]` to `[.., c r r, h, w]`. (`aten.pixel_unshuffle`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let y = ops::pixel_unshuffle(&x, 2)?;
/// assert_eq!(y.dims(), [1, 4, 1, 1]);
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 2., 3., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pixel_unshuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (batch, [c, h, w]) = image("pixel_unshuffle", x)?;
    if factor == 0 || h % factor != 0 || w % factor != 0 {
        fail!("pixel_unshuffle: {h} by {w} by a factor of {factor}");
    }
    let (h, w) = (h / factor, w / factor);
    let x = x.reshape((batch.iter().product::<usize>(), c, h, factor, w, factor))?;
    let x = x.permute((0, 1, 3, 5, 2, 4))?;
    Ok(x.reshape([batch, &[c * factor * factor, h, w]].concat())?)
}

fn image<'a>(op: &str, x: &'a Tensor) -> Result<(&'a [usize], [usize; 3])> {
    match x.dims() {
        [batch @ .., c, h, w] => Ok((batch, [*c, *h, *w])),
        other => fail!("{op}: expected [.., channels, height, width], got {other:?}"),
    }
}
