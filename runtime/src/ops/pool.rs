//! Pooling over windows of images, `[.., height, width]`.

use candle_core::{Tensor, WithDType};
use std::iter::StepBy;
use std::ops::Range;

use super::Result;
use super::map::chunks;
use super::memory::{fail, on_cpu, read, tensor, with_any, written};

/// Positions along one axis.
pub(super) type Window = StepBy<Range<usize>>;

/// Where the windows lie along one axis.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Axis {
    pub(super) fn new(
        op: &str,
        input: usize,
        (kernel, stride, padding, dilation): (usize, usize, usize, usize),
        ceil: bool,
    ) -> Result<Self> {
        if kernel == 0 || stride == 0 || dilation == 0 || 2 * padding > kernel {
            fail!("{op}: kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}");
        }
        let padded = input + 2 * padding;
        let Some(room) = padded.checked_sub(dilation * (kernel - 1) + 1) else {
            fail!("{op}: a window of {kernel} does not fit {padded} elements");
        };
        let mut output = room / stride + 1;
        if ceil {
            output = room.div_ceil(stride) + 1;
            // The last window must start inside the input or the padding before it.
            if (output - 1) * stride >= input + padding {
                output -= 1;
            }
        }
        Ok(Self {
            input,
            output,
            kernel,
            stride,
            padding,
            dilation,
        })
    }

    /// The window's positions inside the input.
    fn window(self, i: usize) -> Window {
        let Self {
            input,
            kernel,
            stride,
            padding,
            dilation,
            ..
        } = self;
        let first = i * stride;
        // What lies in the padding before the input is left out, and so is what lies behind it.
        let skipped = padding.saturating_sub(first).div_ceil(dilation);
        let start = first + skipped * dilation - padding;
        let end = (first + (kernel - 1) * dilation + 1).saturating_sub(padding);
        (start..end.min(input).max(start)).step_by(dilation)
    }

    /// The positions of every window.
    pub(super) fn windows(self) -> Vec<Window> {
        (0..self.output).map(|i| self.window(i)).collect()
    }

    /// The window's length, padding included but not what a rounded-up output adds.
    fn span(self, i: usize) -> usize {
        let start = i * self.stride;
        (start + self.kernel).min(self.input + 2 * self.padding) - start
    }
}

/// The mean of each window. The padding counts as zeros, or not at all without
/// `count_include_pad`; `divisor` replaces the number of elements. (`aten.avg_pool2d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let y = ops::avg_pool2d(&x, (2, 2), (2, 2), (0, 0), false, true, None)?;
/// assert_eq!(y.dims(), [1, 1, 1, 1]);
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn avg_pool2d(
    x: &Tensor,
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: Option<usize>,
) -> Result<Tensor> {
    let (h, w) = image("avg_pool2d", x)?;
    let rows = Axis::new(
        "avg_pool2d",
        h,
        (kernel.0, stride.0, padding.0, 1),
        ceil_mode,
    )?;
    let columns = Axis::new(
        "avg_pool2d",
        w,
        (kernel.1, stride.1, padding.1, 1),
        ceil_mode,
    )?;
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        with_any!(x.dtype(), "avg_pool2d", T => {
            each_window::<T>(x, (rows.output, columns.output), |plane, y, x| {
                let (mut sum, mut inside) = (0.0f64, 0usize);
                for row in rows.window(y) {
                    for column in columns.window(x) {
                        sum += plane[row * w + column].to_f64();
                        inside += 1;
                    }
                }
                let count = match divisor {
                    Some(divisor) => divisor,
                    None if count_include_pad => rows.span(y) * columns.span(x),
                    None => inside,
                };
                T::from_f64(sum / count as f64)
            })
        })
    })
}

/// [`avg_pool2d`] over one axis, `[.., length]`. (`aten.avg_pool1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 4., 2.]]], &Device::Cpu)?;
/// let y = ops::avg_pool1d(&x, 2, 1, 0, false, true)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[2.5, 3.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn avg_pool1d(
    x: &Tensor,
    kernel: usize,
    stride: usize,
    padding: usize,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Result<Tensor> {
    let x = x.unsqueeze(x.rank().saturating_sub(1))?;
    let (kernel, stride, padding) = ((1, kernel), (1, stride), (0, padding));
    let y = avg_pool2d(
        &x,
        kernel,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        None,
    )?;
    Ok(y.squeeze(y.rank() - 2)?)
}

/// Means over windows that divide the image into `output` parts. (`aten._adaptive_avg_pool2d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let y = ops::adaptive_avg_pool2d(&x, (1, 2))?;
/// assert_eq!(y.dims(), [1, 1, 1, 2]);
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn adaptive_avg_pool2d(x: &Tensor, output: (usize, usize)) -> Result<Tensor> {
    let (h, w) = image("adaptive_avg_pool2d", x)?;
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        with_any!(x.dtype(), "adaptive_avg_pool2d", T => {
            each_window::<T>(x, output, |plane, y, x| {
                let (rows, columns) = (part(y, h, output.0), part(x, w, output.1));
                let count = rows.len() * columns.len();
                let mut sum = 0.0f64;
                for row in rows {
                    for column in columns.clone() {
                        sum += plane[row * w + column].to_f64();
                    }
                }
                T::from_f64(sum / count as f64)
            })
        })
    })
}

/// [`adaptive_avg_pool2d`] over one axis, `[.., length]`. (`aten.adaptive_avg_pool1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 4., 2., 4.]]], &Device::Cpu)?;
/// let y = ops::adaptive_avg_pool1d(&x, 2)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[2.5, 3.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn adaptive_avg_pool1d(x: &Tensor, output: usize) -> Result<Tensor> {
    let x = x.unsqueeze(x.rank().saturating_sub(1))?;
    let y = adaptive_avg_pool2d(&x, (1, output))?;
    Ok(y.squeeze(y.rank() - 2)?)
}

/// The `i`-th of `parts` nearly equal parts of `0..size`, which may overlap.
pub(super) fn part(i: usize, size: usize, parts: usize) -> Range<usize> {
    i * size / parts..((i + 1) * size).div_ceil(parts)
}

pub(super) fn image(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.dims() {
        [.., h, w] if x.rank() >= 3 => Ok((*h, *w)),
        other => fail!("{op}: expected [.., channels, height, width], got {other:?}"),
    }
}

/// One value per output pixel of each plane, from `f(plane, row, column)`.
pub(super) fn each_window<T: WithDType>(
    x: &Tensor,
    (rows, columns): (usize, usize),
    f: impl Fn(&[T], usize, usize) -> T + Sync,
) -> Result<Tensor> {
    let &[ref batch @ .., h, w] = x.dims() else {
        fail!("pooling: expected an image, got {:?}", x.dims());
    };
    let planes: usize = batch.iter().product();
    read::<T, _>(x, |data| {
        let size = rows * columns;
        let out = written(planes * size, |out: &mut [T]| {
            chunks(out, size.max(1), &|start, out: &mut [T]| {
                let plane = start / size.max(1);
                let plane = &data[plane * h * w..(plane + 1) * h * w];
                for (i, to) in out.iter_mut().enumerate() {
                    *to = f(plane, i / columns, i % columns);
                }
            });
        });
        tensor(out, [batch, &[rows, columns]].concat())
    })
}
