//! Transposed convolutions: a product per image, then its columns added where they fall.

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::conv::{Sizes, computed};
use super::linalg::{Matrix, Multiplied, gemm};
use super::map::{always_chunks, same_dtype};
use super::memory::{fail, read, tensor};

/// Transposed two-dimensional convolution: `[batch, in, h, w]` by `[in, out / groups, kh, kw]`.
/// (`aten.conv_transpose2d.input`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 2, 3, 3), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((2, 4, 2, 2), DType::F32, &Device::Cpu)?;
/// let y = ops::conv_transpose2d(&x, &weight, None, (2, 2), (0, 0), (0, 0), 1, (1, 1))?;
/// assert_eq!(y.dims(), [1, 4, 6, 6]);
/// assert_eq!(y.min_all()?.to_scalar::<f32>()?, 2.); // of both channels
/// # Ok::<(), pycandle::Error>(())
/// ```
#[allow(clippy::too_many_arguments)]
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: (usize, usize),
    padding: (usize, usize),
    output_padding: (usize, usize),
    groups: usize,
    dilation: (usize, usize),
) -> Result<Tensor> {
    same_dtype("conv_transpose2d", x, weight)?;
    let (&[batch, c, h, w], &[c2, o, kh, kw]) = (x.dims(), weight.dims()) else {
        fail!(
            "conv_transpose2d: input {:?}, weight {:?}",
            x.dims(),
            weight.dims()
        );
    };
    if c != c2 || groups == 0 || c % groups != 0 || [h, w, kh, kw].contains(&0) {
        fail!(
            "conv_transpose2d: input {:?}, weight {:?}, {groups} groups",
            x.dims(),
            weight.dims()
        );
    }
    let size = |n: usize, k: usize, s: usize, p: usize, extra: usize, d: usize| {
        ((n - 1) * s + d * (k - 1) + extra + 1)
            .checked_sub(2 * p)
            .filter(|&n| n > 0 && s * d > 0)
    };
    let output = (
        size(h, kh, stride.0, padding.0, output_padding.0, dilation.0),
        size(w, kw, stride.1, padding.1, output_padding.1, dilation.1),
    );
    let (Some(oh), Some(ow)) = output else {
        fail!(
            "conv_transpose2d: no output of {:?} by {:?}",
            x.dims(),
            weight.dims()
        );
    };
    // The sizes of the convolution that this one transposes.
    let sizes = Sizes {
        batch,
        groups,
        channels: [o, c / groups],
        input: [oh, ow],
        output: [h, w],
        kernel: [kh, kw],
        stride: [stride.0, stride.1],
        padding: [padding.0, padding.1],
        dilation: [dilation.0, dilation.1],
    };
    computed(x, weight, bias, |x, weight| match x.dtype() {
        DType::F64 => transposed::<f64>(x, weight, &sizes, |to, v| *to += v),
        _ => transposed::<f32>(x, weight, &sizes, |to, v| *to += v),
    })
}

/// Transposed one-dimensional convolution: `[batch, in, length]` by `[in, out / groups, k]`.
/// (`aten.conv_transpose1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 2.]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[1f32, 10.]]], &Device::Cpu)?;
/// let y = ops::conv_transpose1d(&x, &weight, None, 1, 0, 0, 1, 1)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[1., 12., 20.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[allow(clippy::too_many_arguments)]
pub fn conv_transpose1d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    output_padding: usize,
    groups: usize,
    dilation: usize,
) -> Result<Tensor> {
    if x.rank() != 3 || weight.rank() != 3 {
        fail!(
            "conv_transpose1d: input {:?}, weight {:?}",
            x.dims(),
            weight.dims()
        );
    }
    let (x, weight) = (x.unsqueeze(2)?, weight.unsqueeze(2)?);
    let (stride, padding, extra) = ((1, stride), (0, padding), (0, output_padding));
    let y = conv_transpose2d(
        &x,
        &weight,
        bias,
        stride,
        padding,
        extra,
        groups,
        (1, dilation),
    )?;
    Ok(y.squeeze(2)?)
}

/// Transposed three-dimensional convolution: `[batch, in, d, h, w]` by
/// `[in, out / groups, kd, kh, kw]`. (`aten.conv_transpose3d.input`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 2, 2, 3, 3), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((2, 4, 2, 2, 2), DType::F32, &Device::Cpu)?;
/// let (two, zero, one) = ((2, 2, 2), (0, 0, 0), (1, 1, 1));
/// let y = ops::conv_transpose3d(&x, &weight, None, two, zero, zero, 1, one)?;
/// assert_eq!(y.dims(), [1, 4, 4, 6, 6]);
/// assert_eq!(y.min_all()?.to_scalar::<f32>()?, 2.); // of both channels
/// # Ok::<(), pycandle::Error>(())
/// ```
#[allow(clippy::too_many_arguments)]
pub fn conv_transpose3d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: (usize, usize, usize),
    padding: (usize, usize, usize),
    output_padding: (usize, usize, usize),
    groups: usize,
    dilation: (usize, usize, usize),
) -> Result<Tensor> {
    let (&[batch, _, depth, ..], &[_, _, kernel, ..]) = (x.dims(), weight.dims()) else {
        fail!(
            "conv_transpose3d: input {:?}, weight {:?}",
            x.dims(),
            weight.dims()
        );
    };
    let size = (depth.saturating_sub(1) * stride.0
        + dilation.0 * kernel.saturating_sub(1)
        + output_padding.0
        + 1)
    .checked_sub(2 * padding.0);
    let size = size.filter(|&n| n > 0 && depth * kernel * stride.0 * dilation.0 > 0);
    let (5, 5, Some(size)) = (x.rank(), weight.rank(), size) else {
        fail!(
            "conv_transpose3d: input {:?}, weight {:?}",
            x.dims(),
            weight.dims()
        );
    };
    computed(x, weight, bias, |x, weight| {
        // The slices of the input as a batch of images; each slice of the kernel sends them on.
        let slices = x.transpose(1, 2)?.flatten(0, 1)?.contiguous()?;
        let mut sum: Option<Tensor> = None;
        for k in 0..kernel {
            let part = conv_transpose2d(
                &slices,
                &weight.narrow(2, k, 1)?.squeeze(2)?.contiguous()?,
                None,
                (stride.1, stride.2),
                (padding.1, padding.2),
                (output_padding.1, output_padding.2),
                groups,
                (dilation.1, dilation.2),
            )?;
            let (_, out, h, w) = part.dims4()?;
            let part = part.reshape((batch, depth, out, h, w))?;
            let all = match sum {
                Some(sum) => sum,
                None => Tensor::zeros((batch, size, out, h, w), x.dtype(), x.device())?,
            };
            // Where the slices fall, as far as that is inside.
            let place = |i: usize| (i * stride.0 + k * dilation.0).checked_sub(padding.0);
            let inside = (0..depth).filter_map(|i| Some((i as u32, place(i)?)));
            let inside = inside.filter(|&(_, at)| at < size);
            let (from, to): (Vec<u32>, Vec<u32>) = inside.map(|(i, at)| (i, at as u32)).unzip();
            sum = Some(match from.is_empty() {
                true => all,
                false => {
                    let [from, to] = [from, to].map(|at| Tensor::new(at, x.device()));
                    all.index_add(&to?, &part.index_select(&from?, 1)?, 1)?
                }
            });
        }
        let Some(sum) = sum else {
            fail!("conv_transpose3d: weight {:?}", weight.dims());
        };
        Ok(sum.transpose(1, 2)?.contiguous()?)
    })
}

fn transposed<T: Multiplied>(
    x: &Tensor,
    weight: &Tensor,
    sizes: &Sizes,
    add: impl Fn(&mut T, T) + Sync,
) -> Result<Tensor> {
    let [o, c] = sizes.channels;
    let (k, pixels) = (sizes.unrolled(), sizes.pixels());
    let [oh, ow] = sizes.input;
    let shape = [sizes.batch, o * sizes.groups, oh, ow];
    read::<T, _>(x, |x| {
        read::<T, _>(weight, |weight| {
            let mut out = vec![T::from_f64(0.0); shape.iter().product()];
            if out.is_empty() {
                return tensor(out, &shape[..]);
            }
            let one = |start: usize, out: &mut [T]| {
                let i = start / (o * oh * ow);
                let group = i % sizes.groups;
                let mut unrolled = vec![T::from_f64(0.0); k * pixels];
                let view = |rows, columns, row_stride, column_stride| Matrix {
                    offset: 0,
                    rows,
                    columns,
                    row_stride,
                    column_stride,
                };
                gemm(
                    &mut unrolled,
                    view(k, pixels, pixels, 1),
                    false,
                    &weight[group * c * k..(group + 1) * c * k],
                    view(k, c, 1, k),
                    &x[i * c * pixels..(i + 1) * c * pixels],
                    view(c, pixels, pixels, 1),
                    T::from_f64(1.0),
                    false,
                );
                for (tap, line) in unrolled.chunks(pixels).enumerate() {
                    roll_up(line, out, tap, sizes, &add);
                }
            };
            always_chunks(&mut out, o * oh * ow, &one);
            tensor(out, &shape[..])
        })
    })
}

/// Adds what one tap sends to the pixels it falls on.
fn roll_up<T: WithDType>(
    line: &[T],
    out: &mut [T],
    tap: usize,
    sizes: &Sizes,
    add: &impl Fn(&mut T, T),
) {
    let [kh, kw] = sizes.kernel;
    let [oh, ow] = sizes.input;
    let (channel, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
    let plane = &mut out[channel * oh * ow..(channel + 1) * oh * ow];
    for row in sizes.inside(0, ky) {
        let y = row * sizes.stride[0] + ky * sizes.dilation[0] - sizes.padding[0];
        for column in sizes.inside(1, kx) {
            let x = column * sizes.stride[1] + kx * sizes.dilation[1] - sizes.padding[1];
            add(&mut plane[y * ow + x], line[row * sizes.output[1] + column]);
        }
    }
}
