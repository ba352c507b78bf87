//! Products with a weight matrix, read in its own dtype. Half types are multiplied in `f32` and
//! rounded once, after the bias.

use candle_core::{DType, Tensor};

use super::Result;
use super::cast::to_dtype;
use super::elementwise::add;
use super::gemv;
use super::linalg::{Matrix, gemm, matmul};
use super::map::{always_chunks, same_dtype};
use super::memory::{Narrow, fail, from_f32, is_half, on_cpu, read, to_f32, widen, with_narrow};
use crate::dispatch::Layout;

/// `x w^T + b`: `[.., in]` by `[out, in]` gives `[.., out]`. (`aten.linear`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 10.], [0., 1.], [1., 1.]], &Device::Cpu)?;
/// assert_eq!(ops::linear(&x, &weight, None)?.to_vec2::<f32>()?, [[21., 2., 3.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_with(x, weight, bias, Layout::OutIn)
}

/// `x w y + b` for each of the matrices in `w`: `[.., n]` and `[.., m]` by `[out, n, m]` give
/// `[.., out]`. Half types in `f32`, rounded once. (`aten.bilinear`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[[1f32, 0.], [0., 10.]]], &Device::Cpu)?;
/// assert_eq!(ops::bilinear(&x, &x, &weight, None)?.to_vec2::<f32>()?, [[41.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn bilinear(x: &Tensor, y: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (&[ref batch @ .., n], &[ref other @ .., m]) = (x.dims(), y.dims()) else {
        fail!("bilinear: inputs {:?} and {:?}", x.dims(), y.dims());
    };
    let out = weight.dims().first().copied().unwrap_or(0);
    if batch != other || weight.dims() != [out, n, m] {
        fail!(
            "bilinear: inputs {:?} and {:?}, weight {:?}",
            x.dims(),
            y.dims(),
            weight.dims()
        );
    }
    if is_half(x.dtype()) {
        let [wide, other, of] = [x, y, weight].map(|t| to_dtype(t, DType::F32));
        let bias = bias.map(|b| to_dtype(b, DType::F32)).transpose()?;
        return to_dtype(&bilinear(&wide?, &other?, &of?, bias.as_ref())?, x.dtype());
    }
    let rows: usize = batch.iter().product();
    let columns = weight.transpose(0, 1)?.reshape((n, out * m))?;
    let half = matmul(&x.reshape((rows, n))?, &columns)?.reshape((rows, out, m))?;
    let product = matmul(&half, &y.reshape((rows, m, 1))?)?;
    let product = product.reshape([batch, &[out]].concat())?;
    bias.map_or(Ok(product.clone()), |bias| add(&product, bias))
}

/// [`linear`] with a weight of either layout: `x w + b` where it is transposed.
pub(crate) fn linear_with(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    layout: Layout,
) -> Result<Tensor> {
    same_dtype("linear", x, weight)?;
    let (&[ref batch @ .., k], &[first, second]) = (x.dims(), weight.dims()) else {
        fail!("linear: shapes {:?} and {:?}", x.dims(), weight.dims());
    };
    let (n, k2) = match layout {
        Layout::OutIn => (first, second),
        Layout::InOut => (second, first),
    };
    if k != k2 || bias.is_some_and(|b| b.elem_count() != n) {
        fail!(
            "linear: input {:?}, {}weight {:?}, bias {:?}",
            x.dims(),
            if layout == Layout::InOut {
                "transposed "
            } else {
                ""
            },
            weight.dims(),
            bias.map(Tensor::dims)
        );
    }
    let m: usize = batch.iter().product();
    let shape = [batch, &[n]].concat();
    let narrow = is_half(x.dtype()) || x.dtype() == DType::F32;
    if !narrow || m == 0 || n == 0 || k == 0 || !x.device().is_cpu() {
        return composed(x, weight, bias, layout);
    }
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    on_cpu(&inputs, |inputs| {
        let bias = inputs.get(2).map(|bias| to_f32(bias)).transpose()?;
        let rows = to_f32(inputs[0])?;
        with_narrow!(x.dtype(), "linear", T => {
            let out = read::<T, _>(inputs[1], |weight| {
                Ok(rows_by_weight(&rows, weight, bias.as_deref(), [m, n, k], layout))
            })?;
            from_f32(out, &shape, x.dtype())
        })
    })
}

/// The definition: for other devices, for doubles and for empty tensors.
fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, layout: Layout) -> Result<Tensor> {
    // So that the bias is added before the only rounding.
    let dtype = x.dtype();
    let wide = |t: &Tensor| match bias {
        Some(_) if is_half(dtype) => to_dtype(t, DType::F32),
        _ => Ok(t.clone()),
    };
    let weight = match layout {
        Layout::OutIn => wide(weight)?.t()?,
        Layout::InOut => wide(weight)?,
    };
    let y = matmul(&wide(x)?, &weight)?;
    match bias {
        Some(bias) => to_dtype(&add(&y, &wide(bias)?)?, dtype),
        None => Ok(y),
    }
}

fn rows_by_weight<T: Narrow>(
    x: &[f32],
    weight: &[T],
    bias: Option<&[f32]>,
    [m, n, k]: [usize; 3],
    layout: Layout,
) -> Vec<f32> {
    let few = match layout {
        Layout::OutIn => gemv::ROWS,
        Layout::InOut => gemv::FEW,
    };
    if m > few {
        return by_panels(x, weight, bias, [m, n, k], layout);
    }
    let mut out = match layout {
        Layout::OutIn => gemv::product(x, weight, [m, n, k]),
        Layout::InOut => gemv::transposed(x, weight, [m, n, k]),
    };
    if let Some(bias) = bias {
        for row in out.chunks_mut(n) {
            row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
        }
    }
    out
}

/// Any number of rows, by matrix products. Half types are widened some rows of the weight at a time.
fn by_panels<T: Narrow>(
    x: &[f32],
    weight: &[T],
    bias: Option<&[f32]>,
    [m, n, k]: [usize; 3],
    layout: Layout,
) -> Vec<f32> {
    /// Elements of a widened panel: what a second-level cache holds.
    const PANEL: usize = 512 * 1024;
    let (rows, width) = match layout {
        Layout::OutIn => (n, k),
        Layout::InOut => (k, n),
    };
    let mut out = match bias {
        Some(bias) => bias.repeat(m),
        None => vec![0.0f32; m * n],
    };
    let whole = T::DTYPE == DType::F32;
    let at_once = match whole {
        true => rows,
        false => (PANEL / width).max(64).min(rows),
    };
    let mut panel = vec![0.0f32; if whole { 0 } else { at_once * width }];
    for first in (0..rows).step_by(at_once) {
        let rows = at_once.min(rows - first);
        let source = &weight[first * width..(first + rows) * width];
        let source = if whole {
            // `load` gives `f32` elements back as they are.
            T::load(source, &mut [])
        } else {
            let wide = &mut panel[..rows * width];
            always_chunks(wide, 16 * 1024, &|at, to: &mut [f32]| {
                widen(&source[at..at + to.len()], to)
            });
            &*wide
        };
        // Of an `[out, in]` weight the panel gives some columns of the output, all of their sums;
        // of an `[in, out]` weight a part of all sums.
        let (x_view, weight_view, out_view) = match layout {
            Layout::OutIn => (
                Matrix::packed(m, k),
                Matrix::packed(rows, k).t(),
                Matrix::columns(m, n, first..first + rows),
            ),
            Layout::InOut => (
                Matrix::columns(m, k, first..first + rows),
                Matrix::packed(rows, n),
                Matrix::packed(m, n),
            ),
        };
        let accumulate = bias.is_some() || (layout == Layout::InOut && first > 0);
        gemm(
            &mut out,
            out_view,
            accumulate,
            x,
            x_view,
            source,
            weight_view,
            1.0,
            true,
        );
    }
    out
}
