//! Matrix products. Half types are multiplied in `f32` and rounded once.

use std::ops::Range;

use candle_core::{DType, Tensor, WithDType};

use super::Result;
use super::cast::to_dtype;
use super::composed::widened;
use super::elementwise::add;
use super::map::{always_chunks, same_dtype};
use super::memory::{fail, is_half, tensor, with_storage};
use super::scalar::mul_scalar;
use super::walk::{broadcast_shape, expand_to};

/// A strided matrix inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) offset: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl Matrix {
    /// Row after row, from the first element on.
    pub(super) fn packed(rows: usize, columns: usize) -> Self {
        Self::columns(rows, columns, 0..columns)
    }

    /// Some columns of a packed matrix of `width` columns.
    pub(super) fn columns(rows: usize, width: usize, columns: Range<usize>) -> Self {
        Self {
            offset: columns.start,
            rows,
            columns: columns.len(),
            row_stride: width,
            column_stride: 1,
        }
    }

    /// The transposed matrix.
    pub(super) fn t(self) -> Self {
        Self {
            offset: self.offset,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn check(&self, len: usize) -> bool {
        self.rows == 0
            || self.columns == 0
            || self.offset
                + (self.rows - 1) * self.row_stride
                + (self.columns - 1) * self.column_stride
                < len
    }
}

/// The element types that the gemm crate multiplies as what they are.
///
/// # Safety
/// The type is `f32` or `f64`: the gemm crate tells types apart by their identity, and reads and
/// writes memory accordingly.
pub(super) unsafe trait Multiplied: WithDType {}

// SAFETY: one of the two.
unsafe impl Multiplied for f32 {}
// SAFETY: one of the two.
unsafe impl Multiplied for f64 {}

/// `out = a b`, or `out += a b`. All three are views of slices; one thread unless `parallel`.
///
/// # Panics
/// When a view reaches past its slice or the sizes disagree: a mistake of this crate.
#[allow(clippy::too_many_arguments)]
pub(super) fn gemm<T: Multiplied>(
    out: &mut [T],
    out_view: Matrix,
    accumulate: bool,
    a: &[T],
    a_view: Matrix,
    b: &[T],
    b_view: Matrix,
    alpha: T,
    parallel: bool,
) {
    let (m, k, n) = (a_view.rows, a_view.columns, b_view.columns);
    assert!(b_view.rows == k && out_view.rows == m && out_view.columns == n);
    assert!(out_view.check(out.len()) && a_view.check(a.len()) && b_view.check(b.len()));
    let parallelism = if parallel {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    let one = T::from_f64(1.0);
    // SAFETY: the asserts above keep every element that the three views address inside their
    // slices, `out` is borrowed mutably and so overlaps neither input, and `T` is a float that the
    // gemm crate knows, by the contract of `Multiplied`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr().add(out_view.offset.min(out.len())),
            out_view.column_stride as isize,
            out_view.row_stride as isize,
            accumulate,
            a.as_ptr().add(a_view.offset.min(a.len())),
            a_view.column_stride as isize,
            a_view.row_stride as isize,
            b.as_ptr().add(b_view.offset.min(b.len())),
            b_view.column_stride as isize,
            b_view.row_stride as isize,
            one,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The product, by PyTorch's rules: vectors are rows on the left and columns on the right, leading
/// dimensions broadcast. (`aten.matmul`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let b = Tensor::new(&[1f32, 10.], &Device::Cpu)?;
/// assert_eq!(ops::matmul(&a, &b)?.to_vec1::<f32>()?, [21., 43.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_dtype("matmul", a, b)?;
    match (a.rank(), b.rank()) {
        (0, _) | (_, 0) => fail!("matmul: shapes {:?} and {:?}", a.dims(), b.dims()),
        (1, 1) => Ok(matmul(&a.unsqueeze(0)?, &b.unsqueeze(1)?)?.reshape(())?),
        (1, _) => {
            let out = matmul(&a.unsqueeze(0)?, b)?;
            Ok(out.squeeze(out.rank() - 2)?)
        }
        (_, 1) => {
            let out = matmul(a, &b.unsqueeze(1)?)?;
            Ok(out.squeeze(out.rank() - 1)?)
        }
        // A batch of rows times one matrix is one product of more rows.
        (_, 2) if a.rank() > 2 && a.is_contiguous() => {
            let k = a.dims()[a.rank() - 1];
            if k == 0 {
                return batched(a, b);
            }
            let out = batched(&a.reshape(((), k))?, b)?;
            let shape = [&a.dims()[..a.rank() - 1], &b.dims()[1..]].concat();
            Ok(out.reshape(shape)?)
        }
        _ => batched(a, b),
    }
}

/// The products of the heads of `x`, `[batch, heads, m, k]`, with fewer ones, `[batch, groups, k, n]`,
/// each of which several heads in a row share. (`aten.matmul` with each of those repeated, which are
/// not copied here)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32]], [[2.]], [[3.]], [[4.]]]], &Device::Cpu)?;
/// let shared = Tensor::new(&[[[[10f32]], [[100.]]]], &Device::Cpu)?;
/// let y = ops::matmul_heads(&x, &shared)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [10., 20., 300., 400.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn matmul_heads(x: &Tensor, heads: &Tensor) -> Result<Tensor> {
    let (&[batch, all, m, k], &[_, groups, _, n]) = (x.dims(), heads.dims()) else {
        fail!("matmul_heads: shapes {:?} and {:?}", x.dims(), heads.dims());
    };
    if groups == 0 || all % groups != 0 {
        fail!("matmul_heads: {all} heads over {groups}");
    }
    // The rows of heads that share a matrix are rows of one product.
    let rows = x.reshape((batch, groups, all / groups * m, k))?;
    Ok(matmul(&rows, heads)?.reshape((batch, all, m, n))?)
}

/// The products of two batches of matrices, `[batch, m, k]` by `[batch, k, n]`. (`aten.bmm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[[[1f32, 2.]]], &Device::Cpu)?;
/// let b = Tensor::new(&[[[1f32], [10.]]], &Device::Cpu)?;
/// assert_eq!(ops::bmm(&a, &b)?.to_vec3::<f32>()?, [[[21.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn bmm(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if (a.rank(), b.rank()) != (3, 3) || a.dims()[0] != b.dims()[0] {
        fail!("bmm: shapes {:?} and {:?}", a.dims(), b.dims());
    }
    matmul(a, b)
}

fn batched(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (&[ref a_batch @ .., m, k], &[ref b_batch @ .., k2, n]) = (a.dims(), b.dims()) else {
        fail!("matmul: shapes {:?} and {:?}", a.dims(), b.dims());
    };
    if k != k2 {
        fail!(
            "matmul: shapes {:?} and {:?} do not fit",
            a.dims(),
            b.dims()
        );
    }
    let batch = broadcast_shape("matmul", a_batch, b_batch)?;
    let shape = [batch.as_slice(), &[m, n]].concat();
    if !a.device().is_cpu() {
        let a = expand_to(a, &[batch.as_slice(), &[m, k]].concat())?.contiguous()?;
        let b = expand_to(b, &[batch.as_slice(), &[k, n]].concat())?.contiguous()?;
        return Ok(a.matmul(&b)?);
    }
    match a.dtype() {
        DType::F32 => batched_on_cpu::<f32>(a, b, &batch, &shape),
        DType::F64 => batched_on_cpu::<f64>(a, b, &batch, &shape),
        dtype if is_half(dtype) => {
            let (a, b) = (dense_f32(a)?, dense_f32(b)?);
            to_dtype(&batched_on_cpu::<f32>(&a, &b, &batch, &shape)?, dtype)
        }
        // Integer products are rare and small.
        DType::I64 => integer_product(a, b, &batch, &shape),
        other => fail!("matmul: unsupported dtype {other:?}"),
    }
}

/// A half tensor in `f32`, strided as before where that costs nothing more.
fn dense_f32(x: &Tensor) -> Result<Tensor> {
    // A transposed matrix is widened as it lies, and transposed again as a view.
    let (rank, strides) = (x.rank(), x.stride());
    if rank >= 2 && strides[rank - 1] != 1 && strides[rank - 2] == 1 {
        let (x, y) = (rank - 2, x.transpose(rank - 2, rank - 1)?);
        return Ok(to_dtype(&y, DType::F32)?.transpose(x, rank - 1)?);
    }
    to_dtype(x, DType::F32)
}

fn batched_on_cpu<T: Multiplied>(
    a: &Tensor,
    b: &Tensor,
    batch: &[usize],
    shape: &[usize],
) -> Result<Tensor> {
    let [.., m, k] = *a.dims() else {
        fail!("matmul: not a matrix")
    };
    let n = shape[shape.len() - 1];
    let a = expand_to(a, &[batch, &[m, k]].concat())?;
    let b = expand_to(b, &[batch, &[k, n]].concat())?;
    let count: usize = batch.iter().product();
    let (a_views, b_views) = (matrices(&a), matrices(&b));
    with_storage::<T, _>(&a, |x, _| {
        with_storage::<T, _>(&b, |y, _| {
            let mut out = vec![T::from_f64(0.0); count * m * n];
            if out.is_empty() {
                return tensor(out, shape);
            }
            let out_view = Matrix::packed(m, n);
            let one = |i: usize, out: &mut [T], parallel: bool| {
                let one = T::from_f64(1.0);
                gemm(
                    out,
                    out_view,
                    false,
                    x,
                    a_views(i),
                    y,
                    b_views(i),
                    one,
                    parallel,
                );
            };
            let threads = rayon::current_num_threads();
            if count >= threads && count > 1 {
                always_chunks(&mut out, m * n, &|start, out: &mut [T]| {
                    one(start / (m * n), out, false)
                });
            } else {
                out.chunks_mut(m * n)
                    .enumerate()
                    .for_each(|(i, out)| one(i, out, true));
            }
            tensor(out, shape)
        })
    })
}

/// The `i`-th matrix of a batch, as a function.
fn matrices(x: &Tensor) -> impl Fn(usize) -> Matrix + Sync {
    let (dims, strides) = (x.dims().to_vec(), x.stride().to_vec());
    let start = x.layout().start_offset();
    let batch = dims.len() - 2;
    move |mut i| {
        let mut offset = start;
        for d in (0..batch).rev() {
            offset += i % dims[d] * strides[d];
            i /= dims[d];
        }
        Matrix {
            offset,
            rows: dims[batch],
            columns: dims[batch + 1],
            row_stride: strides[batch],
            column_stride: strides[batch + 1],
        }
    }
}

fn integer_product(a: &Tensor, b: &Tensor, batch: &[usize], shape: &[usize]) -> Result<Tensor> {
    let [.., m, k] = *a.dims() else {
        fail!("matmul: not a matrix")
    };
    let n = shape[shape.len() - 1];
    let a = expand_to(a, &[batch, &[m, k]].concat())?;
    let b = expand_to(b, &[batch, &[k, n]].concat())?;
    let (a_views, b_views) = (matrices(&a), matrices(&b));
    with_storage::<i64, _>(&a, |x, _| {
        with_storage::<i64, _>(&b, |y, _| {
            let mut out = Vec::with_capacity(shape.iter().product());
            for i in 0..batch.iter().product() {
                let (a, b) = (a_views(i), b_views(i));
                for row in 0..m {
                    for column in 0..n {
                        out.push((0..k).fold(0i64, |sum, j| {
                            let left = x[a.offset + row * a.row_stride + j * a.column_stride];
                            let right = y[b.offset + j * b.row_stride + column * b.column_stride];
                            sum.wrapping_add(left.wrapping_mul(right))
                        }));
                    }
                }
            }
            tensor(out, shape)
        })
    })
}

/// `beta bias + alpha a b`, of matrices; half types in `f32`, rounded once. (`aten.addmm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let bias = Tensor::new(&[100f32], &Device::Cpu)?;
/// let a = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f32], [10.]], &Device::Cpu)?;
/// assert_eq!(ops::addmm(&bias, &a, &b, 1.0, 2.0)?.to_vec2::<f32>()?, [[142.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn addmm(bias: &Tensor, a: &Tensor, b: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    widened([bias, a, b], |[bias, a, b]| {
        combined(bias, matmul(a, b)?, beta, alpha)
    })
}

/// `beta bias + alpha a b`, of batches of matrices; half types in `f32`, rounded once.
/// (`aten.baddbmm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let bias = Tensor::new(&[100f32], &Device::Cpu)?;
/// let a = Tensor::new(&[[[1f32, 2.]]], &Device::Cpu)?;
/// let b = Tensor::new(&[[[1f32], [10.]]], &Device::Cpu)?;
/// assert_eq!(ops::baddbmm(&bias, &a, &b, 1.0, 2.0)?.to_vec3::<f32>()?, [[[142.]]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn baddbmm(bias: &Tensor, a: &Tensor, b: &Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    widened([bias, a, b], |[bias, a, b]| {
        combined(bias, bmm(a, b)?, beta, alpha)
    })
}

fn combined(bias: &Tensor, product: Tensor, beta: f64, alpha: f64) -> Result<Tensor> {
    let product = if alpha == 1.0 {
        product
    } else {
        mul_scalar(&product, alpha)?
    };
    // PyTorch leaves NaN in an ignored bias out.
    if beta == 0.0 {
        return Ok(product);
    }
    let bias = if beta == 1.0 {
        bias.clone()
    } else {
        mul_scalar(bias, beta)?
    };
    add(&product, &bias)
}
