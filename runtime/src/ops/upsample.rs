//! Resizing images, `[.., height, width]`. Positions and weights are computed in `f32`, and in `f64`
//! for images of doubles, as PyTorch computes them.

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::map::chunks;
use super::memory::{fail, on_cpu, read, tensor, with_any, written};
use super::pool::{each_window, image};

/// Each output pixel takes the nearest input pixel before it. (`aten.upsample_nearest2d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let y = ops::upsample_nearest2d(&x, (2, 4))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 1., 2., 2., 3., 3., 6., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_nearest2d(x: &Tensor, output: (usize, usize)) -> Result<Tensor> {
    resize("upsample_nearest2d", x, output, |axis| axis.nearest(0.0))
}

/// Each output pixel takes the input pixel that its centre lies in.
/// (`aten._upsample_nearest_exact2d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2., 3.]]]], &Device::Cpu)?;
/// let y = ops::upsample_nearest_exact2d(&x, (1, 2))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 3.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_nearest_exact2d(x: &Tensor, output: (usize, usize)) -> Result<Tensor> {
    resize("upsample_nearest_exact2d", x, output, |axis| {
        axis.nearest(0.5)
    })
}

/// [`upsample_nearest_exact2d`] of one axis, `[.., length]`. (`aten._upsample_nearest_exact1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 2., 3.]]], &Device::Cpu)?;
/// assert_eq!(ops::upsample_nearest_exact1d(&x, 2)?.to_vec3::<f32>()?, [[[1., 3.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_nearest_exact1d(x: &Tensor, output: usize) -> Result<Tensor> {
    let x = x.unsqueeze(x.rank().saturating_sub(1))?;
    let y = upsample_nearest_exact2d(&x, (1, output))?;
    Ok(y.squeeze(y.rank() - 2)?)
}

/// [`upsample_nearest2d`] of one axis, `[.., length]`. (`aten.upsample_nearest1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 2.]]], &Device::Cpu)?;
/// assert_eq!(ops::upsample_nearest1d(&x, 3)?.to_vec3::<f32>()?, [[[1., 1., 2.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_nearest1d(x: &Tensor, output: usize) -> Result<Tensor> {
    let x = x.unsqueeze(x.rank().saturating_sub(1))?;
    let y = upsample_nearest2d(&x, (1, output))?;
    Ok(y.squeeze(y.rank() - 2)?)
}

/// Each output pixel weighs the four input pixels around it. (`aten.upsample_bilinear2d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let y = ops::upsample_bilinear2d(&x, (2, 3), true)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 1.5, 2., 3., 4.5, 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_bilinear2d(
    x: &Tensor,
    output: (usize, usize),
    align_corners: bool,
) -> Result<Tensor> {
    resize("upsample_bilinear2d", x, output, |axis| {
        axis.linear(align_corners)
    })
}

/// [`upsample_bilinear2d`] of one axis, `[.., length]`. (`aten.upsample_linear1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 2.]]], &Device::Cpu)?;
/// assert_eq!(ops::upsample_linear1d(&x, 3, true)?.to_vec3::<f32>()?, [[[1., 1.5, 2.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_linear1d(x: &Tensor, output: usize, align_corners: bool) -> Result<Tensor> {
    let x = x.unsqueeze(x.rank().saturating_sub(1))?;
    let y = resize("upsample_linear1d", &x, (1, output), |axis| {
        // The row that was put around is no axis of the tensor.
        match (axis.size, axis.out) {
            (1, 1) => axis.nearest(0.0),
            _ => axis.linear(align_corners),
        }
    })?;
    Ok(y.squeeze(y.rank() - 2)?)
}

/// Each output pixel weighs the sixteen input pixels around it by cubic convolution with
/// `a` = -0.75. (`aten.upsample_bicubic2d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let y = ops::upsample_bicubic2d(&x, (2, 2), true)?; // the same size
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 2., 3., 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_bicubic2d(
    x: &Tensor,
    output: (usize, usize),
    align_corners: bool,
) -> Result<Tensor> {
    resize("upsample_bicubic2d", x, output, |axis| {
        axis.each(|i| {
            let at = axis.source(i, align_corners);
            let first = at.floor() as i64 - 1;
            let weights = cubic(at - at.floor(), -0.75).map(|weight| axis.round(weight));
            let clip = |p: i64| p.clamp(0, axis.size as i64 - 1) as usize;
            let places = (first..).map(clip);
            places.zip(weights).collect()
        })
    })
}

/// [`upsample_bilinear2d`] over as many input pixels as an output pixel covers, by their distance
/// from its centre. (`aten._upsample_bilinear2d_aa`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
/// let y = ops::upsample_bilinear2d_aa(&x, (1, 1), false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_bilinear2d_aa(
    x: &Tensor,
    output: (usize, usize),
    align_corners: bool,
) -> Result<Tensor> {
    resize("upsample_bilinear2d_aa", x, output, |axis| {
        axis.covering(align_corners, 1.0, |t| (1.0 - t).max(0.0))
    })
}

/// [`upsample_bicubic2d`] over as many input pixels as an output pixel covers, with `a` = -0.5.
/// (`aten._upsample_bicubic2d_aa`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
/// let y = ops::upsample_bicubic2d_aa(&x, (1, 1), false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_bicubic2d_aa(
    x: &Tensor,
    output: (usize, usize),
    align_corners: bool,
) -> Result<Tensor> {
    resize("upsample_bicubic2d_aa", x, output, |axis| {
        axis.covering(align_corners, 2.0, |t| match t {
            ..1.0 => inner(t, -0.5),
            ..2.0 => outer(t, -0.5),
            _ => 0.0,
        })
    })
}

/// The weights of the four elements around a position that is `t` behind the second of them.
pub(super) fn cubic(t: f64, a: f64) -> [f64; 4] {
    [
        outer(t + 1.0, a),
        inner(t, a),
        inner(1.0 - t, a),
        outer(2.0 - t, a),
    ]
}

/// The cubic convolution kernel between 0 and 1.
fn inner(t: f64, a: f64) -> f64 {
    ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
}

/// The cubic convolution kernel between 1 and 2.
fn outer(t: f64, a: f64) -> f64 {
    ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
}

/// The input pixels of one output pixel along one axis, with their weights.
type Taps = Vec<(usize, f64)>;

/// An axis that is resized.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) out: usize,
    /// Whether positions and weights are in double precision.
    pub(super) double: bool,
}

impl Axis {
    fn each(self, taps: impl Fn(f64) -> Taps) -> Vec<Taps> {
        (0..self.out).map(|i| taps(i as f64)).collect()
    }

    /// A number in the precision that positions have.
    fn round(self, v: f64) -> f64 {
        match self.double {
            true => v,
            false => f64::from(v as f32),
        }
    }

    /// The pixel that lies `offset` behind the beginning of each output pixel.
    pub(super) fn nearest(self, offset: f64) -> Vec<Taps> {
        let scale = self.round(self.size as f64 / self.out as f64);
        let at = |i: f64| self.round(self.round(i + offset) * scale);
        self.each(|i| vec![((at(i) as usize).min(self.size - 1), 1.0)])
    }

    /// The two pixels around each output pixel, of which the second is the first where the size
    /// stays.
    pub(super) fn linear(self, align_corners: bool) -> Vec<Taps> {
        self.each(|i| {
            if self.size == self.out {
                return vec![(i as usize, 1.0), (i as usize, 0.0)];
            }
            let at = self.source(i, align_corners).max(0.0);
            let low = (at as usize).min(self.size - 1);
            let high = (low + 1).min(self.size - 1);
            let weight = self.round(at - low as f64);
            vec![(low, self.round(1.0 - weight)), (high, weight)]
        })
    }

    /// The pixels within `reach` of each output pixel's centre, in its own size where that is
    /// larger than theirs, by the weight of their distance.
    fn covering(self, align_corners: bool, reach: f64, weight: impl Fn(f64) -> f64) -> Vec<Taps> {
        let scale = self.step(align_corners);
        let width = scale.max(1.0);
        let reached = self.round(reach * width);
        self.each(|i| {
            let centre = self.round(scale * self.round(i + 0.5));
            let first = self.round(self.round(centre - reached) + 0.5).max(0.0) as usize;
            let end = self.round(self.round(centre + reached) + 0.5) as usize;
            let of = |p: usize| {
                let apart = self.round(self.round(p as f64 - centre) + 0.5);
                self.round(weight(self.round(apart / width).abs()))
            };
            let pixels = first..end.min(self.size);
            let total = pixels.clone().fold(0.0, |sum, p| self.round(sum + of(p)));
            pixels.map(|p| (p, self.round(of(p) / total))).collect()
        })
    }

    /// How much of the input one output pixel is.
    fn step(self, align_corners: bool) -> f64 {
        let (size, out) = (self.size as f64, self.out as f64);
        self.round(match (align_corners, self.out) {
            (true, ..=1) => 0.0,
            (true, _) => (size - 1.0) / (out - 1.0),
            (false, _) => size / out,
        })
    }

    /// The position in the input that output pixel `i` shows.
    fn source(self, i: f64, align_corners: bool) -> f64 {
        let scale = self.step(align_corners);
        match align_corners {
            true => self.round(scale * i),
            false => self.round(self.round(scale * self.round(i + 0.5)) - 0.5),
        }
    }
}

fn resize(
    op: &str,
    x: &Tensor,
    output: (usize, usize),
    taps: impl Fn(Axis) -> Vec<Taps>,
) -> Result<Tensor> {
    let (h, w) = image(op, x)?;
    if h == 0 || w == 0 || output.0 == 0 || output.1 == 0 {
        fail!("{op}: from {h} by {w} to {output:?}");
    }
    let double = x.dtype() == DType::F64;
    let [rows, columns] =
        [(h, output.0), (w, output.1)].map(|(size, out)| taps(Axis { size, out, double }));
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        with_any!(x.dtype(), op, T => {
            each_window::<T>(x, output, |plane, y, x| weigh(plane, w, &rows[y], &columns[x]))
        })
    })
}

/// Resizes the dimension before the last, each column by itself.
pub(super) fn resize_rows(
    op: &str,
    x: &Tensor,
    out: usize,
    taps: impl Fn(Axis) -> Vec<Taps>,
) -> Result<Tensor> {
    let (size, width) = image(op, x)?;
    if size == 0 || out == 0 {
        fail!("{op}: from {size} to {out}");
    }
    let double = x.dtype() == DType::F64;
    let rows = taps(Axis { size, out, double });
    on_cpu(&[x], |inputs| {
        with_any!(x.dtype(), op, T => read::<T, _>(inputs[0], |data| {
            let planes = data.len() / (size * width).max(1);
            let resized = written(planes * out * width, |to: &mut [T]| {
                chunks(to, width, &|start, to: &mut [T]| {
                    let row = start / width;
                    let plane = &data[row / out * size * width..][..size * width];
                    for (column, to) in to.iter_mut().enumerate() {
                        *to = weigh(plane, width, &rows[row % out], &[(column, 1.0)]);
                    }
                });
            });
            let before = &x.dims()[..x.rank() - 2];
            tensor(resized, [before, &[out, width]].concat())
        }))
    })
}

fn weigh<T: WithDType>(
    plane: &[T],
    width: usize,
    rows: &[(usize, f64)],
    columns: &[(usize, f64)],
) -> T {
    // A single tap keeps the element as it is, whatever its dtype.
    if let ([(row, _)], [(column, _)]) = (rows, columns) {
        return plane[row * width + column];
    }
    let mut sum = 0.0f64;
    for &(row, by) in rows {
        let line: f64 = columns
            .iter()
            .map(|&(column, weight)| weight * plane[row * width + column].to_f64())
            .sum();
        sum += by * line;
    }
    T::from_f64(sum)
}
