//! Convolutions, by products with unrolled windows; half types are computed in `f32`.

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::cast::to_dtype;
use super::elementwise::add;
use super::isa::{Isa, Kernel, dispatch};
use super::linalg::{Matrix, Multiplied, gemm};
use super::map::{always_chunks, same_dtype};
use super::memory::{fail, is_half, on_cpu, read, tensor};

/// A convolution's sizes, checked.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) groups: usize,
    /// Channels per group, in and out.
    pub(super) channels: [usize; 2],
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
}

impl Sizes {
    fn new(
        x: &Tensor,
        weight: &Tensor,
        stride: (usize, usize),
        padding: (usize, usize),
        dilation: (usize, usize),
        groups: usize,
    ) -> Result<Self> {
        let (&[batch, c, h, w], &[out, c_group, kh, kw]) = (x.dims(), weight.dims()) else {
            fail!(
                "convolution: input {:?}, weight {:?}",
                x.dims(),
                weight.dims()
            );
        };
        if groups == 0 || c != c_group * groups || out % groups != 0 || kh * kw == 0 {
            fail!(
                "convolution: input {:?}, weight {:?}, {groups} groups",
                x.dims(),
                weight.dims()
            );
        }
        let mut sizes = Self {
            batch,
            groups,
            channels: [c_group, out / groups],
            input: [h, w],
            output: [0, 0],
            kernel: [kh, kw],
            stride: [stride.0, stride.1],
            padding: [padding.0, padding.1],
            dilation: [dilation.0, dilation.1],
        };
        for axis in 0..2 {
            let reach = sizes.dilation[axis] * (sizes.kernel[axis] - 1) + 1;
            let padded = sizes.input[axis] + 2 * sizes.padding[axis];
            if sizes.stride[axis] == 0 || sizes.dilation[axis] == 0 || padded < reach {
                fail!("convolution: a kernel of {reach} elements over {padded}");
            }
            sizes.output[axis] = (padded - reach) / sizes.stride[axis] + 1;
        }
        Ok(sizes)
    }

    pub(super) fn unrolled(&self) -> usize {
        self.channels[0] * self.kernel[0] * self.kernel[1]
    }

    pub(super) fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether the windows are the input's pixels themselves.
    fn pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// The outputs along an axis whose tap `k` falls inside the input.
    pub(super) fn inside(&self, axis: usize, k: usize) -> std::ops::Range<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let shift = k * self.dilation[axis];
        let start = padding.saturating_sub(shift).div_ceil(stride);
        let end = (self.input[axis] + padding)
            .saturating_sub(shift)
            .div_ceil(stride);
        start.min(self.output[axis])..end.min(self.output[axis]).max(start.min(self.output[axis]))
    }
}

/// Two-dimensional convolution: `[batch, in, h, w]` by `[out, in / groups, kh, kw]`, with a bias of
/// `[out]`. (`aten.conv2d`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let x = Tensor::ones((1, 2, 5, 5), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((4, 2, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = ops::conv2d(&x, &weight, None, (2, 2), (1, 1), (1, 1), 1)?;
/// assert_eq!(y.dims(), [1, 4, 3, 3]);
/// assert_eq!(y.max_all()?.to_scalar::<f32>()?, 18.); // all of a window of 2 × 3 × 3
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: (usize, usize),
    padding: (usize, usize),
    dilation: (usize, usize),
    groups: usize,
) -> Result<Tensor> {
    same_dtype("conv2d", x, weight)?;
    let sizes = Sizes::new(x, weight, stride, padding, dilation, groups)?;
    computed(x, weight, bias, |x, weight| match x.dtype() {
        DType::F64 => convolve::<f64>(x, weight, &sizes),
        _ if sizes.channels == [1, 1] => depthwise(x, weight, &sizes),
        _ => convolve::<f32>(x, weight, &sizes),
    })
}

/// One-dimensional convolution: `[batch, in, length]` by `[out, in / groups, k]`. (`aten.conv1d`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[1f32, 2., 3., 4.]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[1f32, 10.]]], &Device::Cpu)?;
/// let y = ops::conv1d(&x, &weight, None, 1, 0, 1, 1)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[21., 32., 43.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn conv1d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    dilation: usize,
    groups: usize,
) -> Result<Tensor> {
    if x.rank() != 3 || weight.rank() != 3 {
        fail!("conv1d: input {:?}, weight {:?}", x.dims(), weight.dims());
    }
    let (x, weight) = (x.unsqueeze(2)?, weight.unsqueeze(2)?);
    let y = conv2d(
        &x,
        &weight,
        bias,
        (1, stride),
        (0, padding),
        (1, dilation),
        groups,
    )?;
    Ok(y.squeeze(2)?)
}

/// Runs a convolution in at least `f32` on the CPU, and adds the bias.
pub(super) fn computed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let dtype = x.dtype();
    if !super::memory::is_float(dtype) {
        fail!("convolution: expected floating point, got {dtype:?}");
    }
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    on_cpu(&inputs, |inputs| {
        let wide = |t: &Tensor| {
            if is_half(dtype) {
                to_dtype(t, DType::F32)
            } else {
                Ok(t.clone())
            }
        };
        let y = f(&wide(inputs[0])?, &wide(inputs[1])?)?;
        let y = match inputs.get(2) {
            Some(bias) => {
                let mut shape = vec![1; y.rank() - 1];
                shape[0] = bias.elem_count();
                add(&y, &wide(bias)?.reshape(shape)?)?
            }
            None => y,
        };
        to_dtype(&y, dtype)
    })
}

/// Elements of unrolled windows held at a time, at most.
const UNROLLED: usize = 256 * 1024;

fn convolve<T: Multiplied>(x: &Tensor, weight: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let [c, o] = sizes.channels;
    let pixels = sizes.pixels();
    let plane = sizes.input[0] * sizes.input[1];
    let shape = [
        sizes.batch,
        o * sizes.groups,
        sizes.output[0],
        sizes.output[1],
    ];
    read::<T, _>(x, |x| {
        read::<T, _>(weight, |weight| {
            let mut out = vec![T::from_f64(0.0); shape.iter().product()];
            if out.is_empty() || c == 0 {
                return tensor(out, &shape[..]);
            }
            let images = sizes.batch * sizes.groups;
            let one = |i: usize, out: &mut [T], parallel: bool| {
                let x = &x[i * c * plane..(i + 1) * c * plane];
                let group = i % sizes.groups;
                let weight = &weight[group * o * sizes.unrolled()..][..o * sizes.unrolled()];
                one_image(x, weight, out, sizes, parallel);
            };
            if images >= rayon::current_num_threads() && images > 1 {
                always_chunks(&mut out, o * pixels, &|start, out: &mut [T]| {
                    one(start / (o * pixels), out, false)
                });
            } else {
                out.chunks_mut(o * pixels)
                    .enumerate()
                    .for_each(|(i, out)| one(i, out, true));
            }
            tensor(out, &shape[..])
        })
    })
}

/// One group of one image: `[out, unrolled] [unrolled, pixels]`, in strips of output rows.
fn one_image<T: Multiplied>(x: &[T], weight: &[T], out: &mut [T], sizes: &Sizes, parallel: bool) {
    let (o, k, pixels) = (sizes.channels[1], sizes.unrolled(), sizes.pixels());
    let view = |rows, columns, row_stride, offset| Matrix {
        offset,
        rows,
        columns,
        row_stride,
        column_stride: 1,
    };
    let weights = view(o, k, k, 0);
    let one = T::from_f64(1.0);
    if sizes.pointwise() {
        let (inputs, out_view) = (view(k, pixels, pixels, 0), view(o, pixels, pixels, 0));
        gemm(
            out, out_view, false, weight, weights, x, inputs, one, parallel,
        );
        return;
    }
    let width = sizes.output[1];
    let strip = (UNROLLED / (k * width)).clamp(1, sizes.output[0]);
    let mut unrolled = vec![T::from_f64(0.0); k * strip * width];
    for first in (0..sizes.output[0]).step_by(strip) {
        let rows = strip.min(sizes.output[0] - first);
        let columns = rows * width;
        let windows = &mut unrolled[..k * columns];
        let fill = |start: usize, line: &mut [T]| unroll(x, line, start / columns, first, sizes);
        if parallel && windows.len() > 64 * 1024 {
            always_chunks(windows, columns, &fill);
        } else {
            windows
                .chunks_mut(columns)
                .enumerate()
                .for_each(|(i, line)| fill(i * columns, line));
        }
        let out_view = view(o, columns, pixels, first * width);
        let window_view = view(k, columns, columns, 0);
        gemm(
            out,
            out_view,
            false,
            weight,
            weights,
            windows,
            window_view,
            one,
            parallel,
        );
    }
}

/// What one tap (channel, row and column of the kernel) sees from each output pixel of a strip.
fn unroll<T: WithDType>(x: &[T], line: &mut [T], tap: usize, first: usize, sizes: &Sizes) {
    let [kh, kw] = sizes.kernel;
    let [h, w] = sizes.input;
    let (channel, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
    let plane = &x[channel * h * w..(channel + 1) * h * w];
    let columns = sizes.inside(1, kx);
    let rows = sizes.inside(0, ky);
    let stride = sizes.stride[1];
    let zero = T::from_f64(0.0);
    for (i, out) in line.chunks_mut(sizes.output[1]).enumerate() {
        if !rows.contains(&(first + i)) {
            out.fill(zero);
            continue;
        }
        let y = (first + i) * sizes.stride[0] + ky * sizes.dilation[0] - sizes.padding[0];
        let source = &plane[y * w..(y + 1) * w];
        out[..columns.start].fill(zero);
        out[columns.end..].fill(zero);
        if columns.is_empty() {
            continue;
        }
        let x = columns.start * stride + kx * sizes.dilation[1] - sizes.padding[1];
        let inside = &mut out[columns.clone()];
        if stride == 1 {
            inside.copy_from_slice(&source[x..x + inside.len()]);
        } else {
            for (to, from) in inside.iter_mut().zip(source[x..].iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}

/// One kernel per channel: each tap adds a shifted, scaled plane.
fn depthwise(x: &Tensor, weight: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let shape = [sizes.batch, sizes.groups, sizes.output[0], sizes.output[1]];
    let plane = sizes.input[0] * sizes.input[1];
    let taps = sizes.kernel[0] * sizes.kernel[1];
    read::<f32, _>(x, |x| {
        read::<f32, _>(weight, |weight| {
            let mut out = vec![0.0f32; shape.iter().product()];
            super::map::chunks(
                &mut out,
                sizes.pixels().max(1),
                &|start, out: &mut [f32]| {
                    let i = start / sizes.pixels().max(1);
                    let group = i % sizes.groups;
                    dispatch(Depthwise {
                        x: &x[i * plane..(i + 1) * plane],
                        weight: &weight[group * taps..(group + 1) * taps],
                        out,
                        sizes,
                    });
                },
            );
            tensor(out, &shape[..])
        })
    })
}

struct Depthwise<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    out: &'a mut [f32],
    sizes: &'a Sizes,
}

impl Kernel for Depthwise<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self {
            x,
            weight,
            out,
            sizes,
        } = self;
        let (w, stride) = (sizes.input[1], sizes.stride[1]);
        for (tap, &by) in weight.iter().enumerate() {
            let (ky, kx) = (tap / sizes.kernel[1], tap % sizes.kernel[1]);
            let columns = sizes.inside(1, kx);
            if columns.is_empty() {
                continue;
            }
            let at = columns.start * stride + kx * sizes.dilation[1] - sizes.padding[1];
            for row in sizes.inside(0, ky) {
                let y = row * sizes.stride[0] + ky * sizes.dilation[0] - sizes.padding[0];
                let source = &x[y * w + at..(y + 1) * w];
                let line = row * sizes.output[1];
                let line = &mut out[line + columns.start..line + columns.end];
                if stride == 1 {
                    for (to, &v) in line.iter_mut().zip(source) {
                        *to = S::fma(v, by, *to);
                    }
                } else {
                    for (to, &v) in line.iter_mut().zip(source.iter().step_by(stride)) {
                        *to = S::fma(v, by, *to);
                    }
                }
            }
        }
    }
}
