//! Convolution, pooling and resizing of volumes, `[.., depth, height, width]`, by those of images.

use candle_core::{DType, Tensor};

use super::cast::to_dtype;
use super::conv::{computed, conv2d};
use super::memory::{fail, is_half};
use super::pool::{adaptive_avg_pool2d, avg_pool2d};
use super::upsample::{
    Axis, resize_rows, upsample_bilinear2d, upsample_nearest_exact2d, upsample_nearest2d,
};
use super::{Result, elementwise};

/// Of depth, height and width.
type Triple = (usize, usize, usize);

/// Three-dimensional convolution: `[batch, in, d, h, w]` by `[out, in / groups, kd, kh, kw]`, with a
/// bias of `[out]`. (`aten.conv3d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 2, 4, 5, 5), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((4, 2, 3, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = ops::conv3d(&x, &weight, None, (1, 2, 2), (1, 1, 1), (1, 1, 1), 1)?;
/// assert_eq!(y.dims(), [1, 4, 4, 3, 3]);
/// assert_eq!(y.max_all()?.to_scalar::<f32>()?, 54.); // all of a window of 2 × 3 × 3 × 3
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn conv3d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: Triple,
    padding: Triple,
    dilation: Triple,
    groups: usize,
) -> Result<Tensor> {
    let (&[batch, _, depth, ..], &[_, _, kernel, ..]) = (x.dims(), weight.dims()) else {
        fail!("conv3d: input {:?}, weight {:?}", x.dims(), weight.dims());
    };
    let padded = depth + 2 * padding.0;
    let covered = dilation.0 * kernel.saturating_sub(1) + 1;
    if x.rank() != 5 || weight.rank() != 5 || kernel * stride.0 == 0 || padded < covered {
        fail!("conv3d: input {:?}, weight {:?}", x.dims(), weight.dims());
    }
    let places = (padded - covered) / stride.0 + 1;
    computed(x, weight, bias, |x, weight| {
        let x = x.pad_with_zeros(2, padding.0, padding.0)?;
        let mut sum: Option<Tensor> = None;
        for k in 0..kernel {
            // The slices that this slice of the kernel meets, as a batch of images.
            let at: Vec<u32> = (0..places)
                .map(|i| (i * stride.0 + k * dilation.0) as u32)
                .collect();
            let at = Tensor::new(at, x.device())?;
            let slices = x.index_select(&at, 2)?.transpose(1, 2)?.flatten(0, 1)?;
            let part = conv2d(
                &slices,
                &weight.narrow(2, k, 1)?.squeeze(2)?.contiguous()?,
                None,
                (stride.1, stride.2),
                (padding.1, padding.2),
                (dilation.1, dilation.2),
                groups,
            )?;
            sum = Some(match sum {
                Some(sum) => elementwise::add(&sum, &part)?,
                None => part,
            });
        }
        let Some(sum) = sum else {
            fail!("conv3d: weight {:?}", weight.dims());
        };
        let (_, out, h, w) = sum.dims4()?;
        let sum = sum.reshape((batch, places, out, h, w))?;
        Ok(sum.transpose(1, 2)?.contiguous()?)
    })
}

/// The mean of each window of a volume; as [`avg_pool2d`]. (`aten.avg_pool3d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// let y = ops::avg_pool3d(&x, (2, 2, 2), (2, 2, 2), (0, 0, 0), false, true)?;
/// assert_eq!(y.dims(), [1, 1, 1, 2, 2]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn avg_pool3d(
    x: &Tensor,
    kernel: Triple,
    stride: Triple,
    padding: Triple,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Result<Tensor> {
    // A window is a product of three, and so is the number of its elements.
    let pool = |x: &Tensor, kernel, stride, padding| {
        avg_pool2d(
            x,
            kernel,
            stride,
            padding,
            ceil_mode,
            count_include_pad,
            None,
        )
    };
    apart(
        x,
        |x| {
            pool(
                x,
                (kernel.1, kernel.2),
                (stride.1, stride.2),
                (padding.1, padding.2),
            )
        },
        |x| pool(x, (kernel.0, 1), (stride.0, 1), (padding.0, 0)),
    )
}

/// Means over windows that divide a volume into `output` parts. (`aten.adaptive_avg_pool3d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(ops::adaptive_avg_pool3d(&x, (1, 2, 3))?.dims(), [1, 1, 1, 2, 3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn adaptive_avg_pool3d(x: &Tensor, output: Triple) -> Result<Tensor> {
    apart(
        x,
        |x| adaptive_avg_pool2d(x, (output.1, output.2)),
        |x| adaptive_avg_pool2d(x, (output.0, x.dims()[x.rank() - 1])),
    )
}

/// Each element takes the nearest of the input before it. (`aten.upsample_nearest3d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(ops::upsample_nearest3d(&x, (4, 2, 3))?.dims(), [1, 1, 4, 2, 3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_nearest3d(x: &Tensor, output: Triple) -> Result<Tensor> {
    let depth = |axis: Axis| axis.nearest(0.0);
    resized("upsample_nearest3d", x, output, upsample_nearest2d, depth)
}

/// Each element takes the one of the input that its centre lies in.
/// (`aten._upsample_nearest_exact3d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(ops::upsample_nearest_exact3d(&x, (4, 2, 3))?.dims(), [1, 1, 4, 2, 3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_nearest_exact3d(x: &Tensor, output: Triple) -> Result<Tensor> {
    let op = "upsample_nearest_exact3d";
    resized(op, x, output, upsample_nearest_exact2d, |axis| {
        axis.nearest(0.5)
    })
}

/// Each element weighs the eight of the input around it. (`aten.upsample_trilinear3d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(ops::upsample_trilinear3d(&x, (4, 2, 3), false)?.dims(), [1, 1, 4, 2, 3]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn upsample_trilinear3d(x: &Tensor, output: Triple, align_corners: bool) -> Result<Tensor> {
    let image = |x: &Tensor, size| upsample_bilinear2d(x, size, align_corners);
    let depth = |axis: Axis| axis.linear(align_corners);
    resized("upsample_trilinear3d", x, output, image, depth)
}

/// Resizes height and width of each slice, then depth.
fn resized(
    op: &str,
    x: &Tensor,
    output: Triple,
    image: impl Fn(&Tensor, (usize, usize)) -> Result<Tensor>,
    depth: impl Fn(Axis) -> Vec<Vec<(usize, f64)>>,
) -> Result<Tensor> {
    apart(
        x,
        |x| image(x, (output.1, output.2)),
        |x| resize_rows(op, x, output.0, &depth),
    )
}

/// Treats height and width of each slice, then depth; half types are rounded once.
fn apart(
    x: &Tensor,
    slices: impl Fn(&Tensor) -> Result<Tensor>,
    depth: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let &[ref before @ .., d, h, w] = x.dims() else {
        fail!("pooling: expected a volume, got {:?}", x.dims());
    };
    let planes: usize = before.iter().product();
    let dtype = x.dtype();
    let wide = match is_half(dtype) {
        true => to_dtype(x, DType::F32)?,
        false => x.clone(),
    };
    let y = slices(&wide.reshape((planes, d, h, w))?)?;
    let (_, _, h, w) = y.dims4()?;
    let y = depth(&y.reshape((planes, 1, d, h * w))?)?;
    let d = y.dims()[2];
    to_dtype(&y.reshape([before, &[d, h, w]].concat())?, dtype)
}
