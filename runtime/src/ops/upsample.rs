//! Resizing images, `[.., height, width]`. Positions and weights are computed in `f32`, as PyTorch
//! computes them for images of at most that precision.

use candle_core::{Tensor, WithDType};

use super::Result;
use super::memory::{fail, on_cpu, with_any};
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
    resize("upsample_nearest2d", x, output, |size, out| {
        let scale = size as f32 / out as f32;
        (0..out)
            .map(|i| vec![(((i as f32 * scale) as usize).min(size - 1), 1.0)])
            .collect()
    })
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
    resize("upsample_nearest_exact2d", x, output, |size, out| {
        let scale = size as f32 / out as f32;
        (0..out)
            .map(|i| vec![((((i as f32 + 0.5) * scale) as usize).min(size - 1), 1.0)])
            .collect()
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
    resize("upsample_bilinear2d", x, output, |size, out| {
        (0..out)
            .map(|i| between(i, size, out, align_corners))
            .collect()
    })
}

/// The two elements around a position, of which the second is the first where the size stays.
fn between(i: usize, size: usize, out: usize, align_corners: bool) -> Taps {
    if size == out {
        return vec![(i, 1.0), (i, 0.0)];
    }
    let at = source(i, size, out, align_corners).max(0.0);
    let low = (at as usize).min(size - 1);
    let high = (low + 1).min(size - 1);
    let weight = at - low as f32;
    vec![(low, 1.0 - weight), (high, weight)]
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
    let y = resize("upsample_linear1d", &x, (1, output), |size, out| {
        // The row that was put around is no axis of the tensor.
        if (size, out) == (1, 1) {
            return vec![vec![(0, 1.0)]];
        }
        (0..out)
            .map(|i| between(i, size, out, align_corners))
            .collect()
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
    resize("upsample_bicubic2d", x, output, |size, out| {
        (0..out)
            .map(|i| {
                let at = source(i, size, out, align_corners);
                let (first, t) = (at.floor() as i64 - 1, at - at.floor());
                let weights = cubic(t.into(), -0.75).map(|weight| weight as f32);
                let clip = |p: i64| p.clamp(0, size as i64 - 1) as usize;
                (0..4)
                    .map(|k| (clip(first + k), weights[k as usize]))
                    .collect()
            })
            .collect()
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
    resize("upsample_bilinear2d_aa", x, output, |size, out| {
        covering(size, out, align_corners, 1.0, |t| (1.0 - t).max(0.0))
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
    resize("upsample_bicubic2d_aa", x, output, |size, out| {
        covering(size, out, align_corners, 2.0, |t| match t {
            ..1.0 => inner(t.into(), -0.5) as f32,
            ..2.0 => outer(t.into(), -0.5) as f32,
            _ => 0.0,
        })
    })
}

/// The pixels within `reach` of each output pixel's centre, in its own size where that is larger
/// than theirs, by the weight of their distance.
fn covering(
    size: usize,
    out: usize,
    align_corners: bool,
    reach: f32,
    weight: impl Fn(f32) -> f32,
) -> Vec<Taps> {
    let scale = step(size, out, align_corners);
    let width = scale.max(1.0);
    let pixel = |i: usize| {
        let centre = scale * (i as f32 + 0.5);
        let first = (centre - reach * width + 0.5).max(0.0) as usize;
        let end = ((centre + reach * width + 0.5) as usize).min(size);
        let of = |p: usize| weight(((p as f32 - centre + 0.5) / width).abs());
        let total: f32 = (first..end).map(of).sum();
        (first..end).map(|p| (p, of(p) / total)).collect()
    };
    (0..out).map(pixel).collect()
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

/// How much of the input one output pixel is.
fn step(size: usize, out: usize, align_corners: bool) -> f32 {
    match (align_corners, out) {
        (true, ..=1) => 0.0,
        (true, _) => (size - 1) as f32 / (out - 1) as f32,
        (false, _) => size as f32 / out as f32,
    }
}

/// The position in the input that output pixel `i` shows.
fn source(i: usize, size: usize, out: usize, align_corners: bool) -> f32 {
    let scale = step(size, out, align_corners);
    match align_corners {
        true => scale * i as f32,
        false => scale * (i as f32 + 0.5) - 0.5,
    }
}

/// The input pixels of one output pixel along one axis, with their weights.
type Taps = Vec<(usize, f32)>;

fn resize(
    op: &str,
    x: &Tensor,
    output: (usize, usize),
    taps: impl Fn(usize, usize) -> Vec<Taps>,
) -> Result<Tensor> {
    let (h, w) = image(op, x)?;
    if h == 0 || w == 0 || output.0 == 0 || output.1 == 0 {
        fail!("{op}: from {h} by {w} to {output:?}");
    }
    let (rows, columns) = (taps(h, output.0), taps(w, output.1));
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        with_any!(x.dtype(), op, T => {
            each_window::<T>(x, output, |plane, y, x| weigh(plane, w, &rows[y], &columns[x]))
        })
    })
}

fn weigh<T: WithDType>(plane: &[T], width: usize, rows: &Taps, columns: &Taps) -> T {
    // A single tap keeps the element as it is, whatever its dtype.
    if let ([(row, _)], [(column, _)]) = (rows.as_slice(), columns.as_slice()) {
        return plane[row * width + column];
    }
    let mut sum = 0.0f64;
    for &(row, by) in rows {
        let line: f64 = columns
            .iter()
            .map(|&(column, weight)| f64::from(weight) * plane[row * width + column].to_f64())
            .sum();
        sum += f64::from(by) * line;
    }
    T::from_f64(sum)
}
