//! Images as columns of windows, `[.., channels, height, width]`, and back.

use candle_core::Tensor;

use super::Result;
use super::create::full;
use super::index::take;
use super::memory::fail;
use super::pad::pad;
use super::pool::image;
use super::scatter::scatter_add;
use super::shape::expand;

/// Positions along an axis: of each element of a window, all places of the window.
struct Axis {
    kernel: usize,
    places: usize,
    at: Vec<usize>,
}

impl Axis {
    fn new(op: &str, padded: usize, kernel: usize, stride: usize, dilation: usize) -> Result<Self> {
        let covered = dilation.saturating_mul(kernel.saturating_sub(1));
        if kernel == 0 || stride == 0 || dilation == 0 || covered >= padded {
            fail!(
                "{op}: a window of {kernel}, stride {stride} and dilation {dilation} over {padded} \
                 elements"
            );
        }
        let places = (padded - covered - 1) / stride + 1;
        let at = (0..kernel).flat_map(|k| (0..places).map(move |i| k * dilation + i * stride));
        Ok(Self {
            kernel,
            places,
            at: at.collect(),
        })
    }
}

/// The windows of an image that is padded with zeros, each a column: from `[.., c, h, w]` to
/// `[.., c kernel kernel, places]`. (`aten.im2col`, `torch.nn.functional.unfold`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2., 3.], [4., 5., 6.]]]], &Device::Cpu)?;
/// let y = ops::im2col(&x, (2, 2), (1, 1), (0, 0), (1, 1))?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[1., 2.], [2., 3.], [4., 5.], [5., 6.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn im2col(
    x: &Tensor,
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
    dilation: (usize, usize),
) -> Result<Tensor> {
    let (h, w) = image("im2col", x)?;
    let (high, wide) = (h + 2 * padding.0, w + 2 * padding.1);
    let rows = Axis::new("im2col", high, kernel.0, stride.0, dilation.0)?;
    let columns = Axis::new("im2col", wide, kernel.1, stride.1, dilation.1)?;
    let first = x.rank() - 2;
    let mut pads = vec![(0, 0); first];
    pads.extend([padding.0, padding.1].map(|p| (p as i64, p as i64)));
    let x = take(&pad(x, &pads, 0.0)?, first, &rows.at)?;
    let x = take(&x, first + 1, &columns.at)?;
    let (batch, channels) = (&x.dims()[..first - 1], x.dims()[first - 1]);
    let planes = batch.iter().product::<usize>() * channels;
    let split = x.reshape((
        planes,
        rows.kernel,
        rows.places,
        columns.kernel,
        columns.places,
    ))?;
    let column = channels * rows.kernel * columns.kernel;
    let shape = [batch, &[column, rows.places * columns.places]].concat();
    Ok(split.permute((0, 1, 3, 2, 4))?.reshape(shape)?)
}

/// The image of size `output` whose windows are the columns, added where they overlap; what lies in
/// the padding is left out. From `[.., c kernel kernel, places]` to `[.., c, h, w]`. (`aten.col2im`,
/// `torch.nn.functional.fold`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 2.], [2., 3.]]], &Device::Cpu)?;
/// let y = ops::col2im(&x, (1, 3), (1, 2), (1, 1), (0, 0), (1, 1))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 4., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn col2im(
    x: &Tensor,
    output: (usize, usize),
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
    dilation: (usize, usize),
) -> Result<Tensor> {
    let (high, wide) = (output.0 + 2 * padding.0, output.1 + 2 * padding.1);
    let rows = Axis::new("col2im", high, kernel.0, stride.0, dilation.0)?;
    let columns = Axis::new("col2im", wide, kernel.1, stride.1, dilation.1)?;
    let (window, places) = (kernel.0 * kernel.1, rows.places * columns.places);
    let (batch, channels) = match x.dims() {
        [batch @ .., column, n] if column % window == 0 && *n == places => {
            (batch.to_vec(), column / window)
        }
        other => fail!("col2im: {other:?} is not columns of {window} of {places} windows"),
    };
    let mut at = Vec::with_capacity(window * places);
    for row in rows.at.chunks(rows.places) {
        for column in columns.at.chunks(columns.places) {
            for y in row {
                at.extend(column.iter().map(|x| (y * wide + x) as i64));
            }
        }
    }
    let planes = batch.iter().product::<usize>() * channels;
    let elements = at.len();
    let index = expand(
        &Tensor::from_vec(at, (1, elements), x.device())?,
        &[planes, elements],
    )?;
    let zeros = full(0.0, &[planes, high * wide], x.dtype(), x.device())?;
    let sums = scatter_add(&zeros, 1, &index, &x.reshape((planes, elements))?)?;
    let image = sums.reshape([&batch[..], &[channels, high, wide]].concat())?;
    let first = image.rank() - 2;
    let image = image.narrow(first, padding.0, output.0)?;
    Ok(image.narrow(first + 1, padding.1, output.1)?)
}
