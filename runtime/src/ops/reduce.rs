//! Reductions. An empty list of dimensions means all of them.
//!
//! Floating-point sums are kept in doubles and rounded once; integer sums wrap.

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};

use super::Result;
use super::compare::to_bool;
use super::elementwise::{add, mul, sub};
use super::functions::{abs, exp, log, sqrt};
use super::isa::{Isa, Kernel, dispatch};
use super::memory::{BLOCK, Narrow, fail, is_float, on_cpu, read, tensor, with_any, written};
use super::scalar::pow_scalar;

/// The tensor with the reduced dimensions last and merged, as rows.
struct Rows {
    x: Tensor,
    len: usize,
    shape: Vec<usize>,
}

impl Rows {
    fn new(op: &str, x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Self> {
        let rank = x.rank();
        if let Some(dim) = dims.iter().find(|&&d| d >= rank && !(rank == 0 && d == 0)) {
            fail!(
                "{op}: dimension {dim} does not exist in shape {:?}",
                x.dims()
            );
        }
        let reduced = |d: &usize| dims.is_empty() || dims.contains(d);
        let (gone, kept): (Vec<usize>, Vec<usize>) = (0..rank).partition(|d| reduced(d));
        let shape = (0..rank)
            .filter(|d| keepdim || !reduced(d))
            .map(|d| if reduced(&d) { 1 } else { x.dims()[d] })
            .collect();
        let len = gone.iter().map(|&d| x.dims()[d]).product();
        let order = [kept, gone].concat();
        let x = if order.is_empty() {
            x.clone()
        } else {
            x.permute(order)?.contiguous()?
        };
        Ok(Self { x, len, shape })
    }

    /// One result per row.
    fn each<T: WithDType, U: WithDType>(&self, f: &(dyn Fn(&[T]) -> U + Sync)) -> Result<Tensor> {
        read::<T, _>(&self.x, |data| {
            let count: usize = self.shape.iter().product();
            let out = written(count, |out| {
                let rows_per_task = (32 * 1024 / self.len.max(1)).max(1);
                let task = |start: usize, out: &mut [U]| {
                    for (i, to) in out.iter_mut().enumerate() {
                        *to = f(&data[(start + i) * self.len..(start + i + 1) * self.len]);
                    }
                };
                if data.len() < 64 * 1024 {
                    task(0, out);
                } else {
                    super::map::always_chunks(out, rows_per_task, &task);
                }
            });
            tensor(out, &self.shape[..])
        })
    }
}

/// Adds up `f` of every element in doubles.
struct Sum<'a, T, F>(&'a [T], F);

impl<T: Narrow, F: Fn(f64) -> f64> Kernel for Sum<'_, T, F> {
    type Out = f64;
    #[inline(always)]
    fn run<S: Isa>(self) -> f64 {
        let mut lanes = [0.0f64; 16];
        let mut buffer = [0.0f32; BLOCK];
        for block in self.0.chunks(BLOCK) {
            let values = T::load(block, &mut buffer);
            let (groups, rest) = values.as_chunks::<16>();
            for group in groups {
                for lane in 0..16 {
                    lanes[lane] += (self.1)(f64::from(group[lane]));
                }
            }
            for (lane, &v) in lanes.iter_mut().zip(rest) {
                *lane += (self.1)(f64::from(v));
            }
        }
        lanes.iter().sum()
    }
}

/// A floating-point reduction of rows to a double, rounded to the dtype.
trait RowFold: Sync {
    fn narrow<T: Narrow>(&self, row: &[T]) -> f64;
    fn double(&self, row: &[f64]) -> f64;
}

fn fold_rows(op: &str, rows: &Rows, fold: &impl RowFold) -> Result<Tensor> {
    match rows.x.dtype() {
        DType::F32 => rows.each::<f32, f32>(&|row| fold.narrow(row) as f32),
        DType::BF16 => rows.each::<bf16, bf16>(&|row| bf16::nearest(fold.narrow(row) as f32)),
        DType::F16 => rows.each::<f16, f16>(&|row| f16::nearest(fold.narrow(row) as f32)),
        DType::F64 => rows.each::<f64, f64>(&|row| fold.double(row)),
        other => fail!("{op}: expected floating point, got {other:?}"),
    }
}

struct SumFold;
impl RowFold for SumFold {
    fn narrow<T: Narrow>(&self, row: &[T]) -> f64 {
        dispatch(Sum(row, |v| v))
    }
    fn double(&self, row: &[f64]) -> f64 {
        pairwise(row)
    }
}

fn pairwise(row: &[f64]) -> f64 {
    if row.len() <= 64 {
        return row.iter().sum();
    }
    let (a, b) = row.split_at(row.len() / 2);
    pairwise(a) + pairwise(b)
}

struct MeanFold;
impl RowFold for MeanFold {
    fn narrow<T: Narrow>(&self, row: &[T]) -> f64 {
        SumFold.narrow(row) / row.len() as f64
    }
    fn double(&self, row: &[f64]) -> f64 {
        pairwise(row) / row.len() as f64
    }
}

struct VarFold(f64);
impl RowFold for VarFold {
    fn narrow<T: Narrow>(&self, row: &[T]) -> f64 {
        let mean = MeanFold.narrow(row);
        let squares = dispatch(Sum(row, move |v| (v - mean) * (v - mean)));
        squares / (row.len() as f64 - self.0).max(0.0)
    }
    fn double(&self, row: &[f64]) -> f64 {
        let mean = MeanFold.double(row);
        let squares: Vec<f64> = row.iter().map(|v| (v - mean) * (v - mean)).collect();
        pairwise(&squares) / (row.len() as f64 - self.0).max(0.0)
    }
}

struct ProdFold;
impl RowFold for ProdFold {
    fn narrow<T: Narrow>(&self, row: &[T]) -> f64 {
        row.iter().map(|v| f64::from(v.wide())).product()
    }
    fn double(&self, row: &[f64]) -> f64 {
        row.iter().product()
    }
}

/// The sum; of booleans and integers as `I64`. (`aten.sum.dim_IntList`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::sum(&x, &[1], false)?.to_vec1::<f32>()?, [3., 7.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sum(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    folded("sum", x, dims, keepdim, &SumFold, &|row| {
        row.iter().fold(0, |a, &v| a.wrapping_add(v))
    })
}

/// The product; of booleans and integers as `I64`. (`aten.prod.dim_int`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::prod(&x, &[0], false)?.to_vec1::<f32>()?, [3., 8.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn prod(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    folded("prod", x, dims, keepdim, &ProdFold, &|row| {
        row.iter().fold(1, |a, &v| a.wrapping_mul(v))
    })
}

fn folded(
    op: &str,
    x: &Tensor,
    dims: &[usize],
    keepdim: bool,
    fold: &impl RowFold,
    ints: &(dyn Fn(&[i64]) -> i64 + Sync),
) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        if is_float(x.dtype()) {
            return fold_rows(op, &Rows::new(op, x, dims, keepdim)?, fold);
        }
        let x = x.to_dtype(DType::I64)?;
        Rows::new(op, &x, dims, keepdim)?.each::<i64, i64>(ints)
    })
}

/// The mean, of floating point. (`aten.mean.dim`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::mean(&x, &[1], true)?.to_vec2::<f32>()?, [[1.5], [3.5]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn mean(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    on_cpu(&[x], |x| {
        fold_rows("mean", &Rows::new("mean", x[0], dims, keepdim)?, &MeanFold)
    })
}

/// The variance: squared deviations over the count less `correction`. (`aten.var.correction`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::var(&x, &[1], 1.0, false)?.to_vec1::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn var(x: &Tensor, dims: &[usize], correction: f64, keepdim: bool) -> Result<Tensor> {
    let fold = VarFold(correction);
    on_cpu(&[x], |x| {
        fold_rows("var", &Rows::new("var", x[0], dims, keepdim)?, &fold)
    })
}

/// The standard deviation, the root of [`var`]. (`aten.std.correction`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 3.], [5., 9.]], &Device::Cpu)?;
/// assert_eq!(ops::std(&x, &[1], 0.0, false)?.to_vec1::<f32>()?, [1., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn std(x: &Tensor, dims: &[usize], correction: f64, keepdim: bool) -> Result<Tensor> {
    struct StdFold(VarFold);
    impl RowFold for StdFold {
        fn narrow<T: Narrow>(&self, row: &[T]) -> f64 {
            self.0.narrow(row).sqrt()
        }
        fn double(&self, row: &[f64]) -> f64 {
            self.0.double(row).sqrt()
        }
    }
    let fold = StdFold(VarFold(correction));
    on_cpu(&[x], |x| {
        fold_rows("std", &Rows::new("std", x[0], dims, keepdim)?, &fold)
    })
}

/// The position of the first element that `better` prefers to all before; the first NaN wins.
fn best<T: WithDType>(row: &[T], better: impl Fn(&T, &T) -> bool) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if is_nan(v) {
            return i;
        }
        if better(v, &row[best]) {
            best = i;
        }
    }
    best
}

fn is_nan<T: PartialOrd>(v: &T) -> bool {
    v.partial_cmp(v).is_none()
}

#[derive(Clone, Copy)]
enum End {
    Largest,
    Smallest,
}

fn extreme<T: WithDType>(row: &[T], end: End) -> usize {
    match end {
        End::Largest => best(row, |v, b| v > b),
        End::Smallest => best(row, |v, b| v < b),
    }
}

fn extremes(
    op: &str,
    x: &Tensor,
    dims: &[usize],
    keep: bool,
    end: End,
) -> Result<(Tensor, Tensor)> {
    on_cpu(&[x], |inputs| {
        let rows = Rows::new(op, inputs[0], dims, keep)?;
        if rows.len == 0 {
            fail!(
                "{op}: no elements along the reduced dimensions of {:?}",
                x.dims()
            );
        }
        with_any!(rows.x.dtype(), op, T => {
            let values = rows.each::<T, T>(&|row| row[extreme(row, end)])?;
            let indices = rows.each::<T, i64>(&|row| extreme(row, end) as i64)?;
            Ok((values, indices))
        })
    })
}

fn extreme_values(op: &str, x: &Tensor, dims: &[usize], keep: bool, end: End) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let rows = Rows::new(op, inputs[0], dims, keep)?;
        if rows.len == 0 {
            fail!(
                "{op}: no elements along the reduced dimensions of {:?}",
                x.dims()
            );
        }
        with_any!(rows.x.dtype(), op, T => rows.each::<T, T>(&|row| row[extreme(row, end)]))
    })
}

/// The largest elements; NaN where there is one. (`aten.amax`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::amax(&x, &[0], false)?.to_vec1::<f32>()?, [3., 4.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn amax(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    extreme_values("amax", x, dims, keepdim, End::Largest)
}

/// The smallest elements; NaN where there is one. (`aten.amin`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::amin(&x, &[0, 1], true)?.to_vec2::<f32>()?, [[1.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn amin(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    extreme_values("amin", x, dims, keepdim, End::Smallest)
}

/// The largest elements along a dimension and their first positions, as `I64`. (`aten.max.dim`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 5.], [4., 2.]], &Device::Cpu)?;
/// let (values, at) = ops::max_dim(&x, 1, false)?;
/// assert_eq!(values.to_vec1::<f32>()?, [5., 4.]);
/// assert_eq!(at.to_vec1::<i64>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn max_dim(x: &Tensor, dim: usize, keepdim: bool) -> Result<(Tensor, Tensor)> {
    extremes("max", x, &[dim], keepdim, End::Largest)
}

/// The smallest elements along a dimension and their first positions, as `I64`. (`aten.min.dim`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 5.], [4., 2.]], &Device::Cpu)?;
/// let (values, at) = ops::min_dim(&x, 1, false)?;
/// assert_eq!(values.to_vec1::<f32>()?, [1., 2.]);
/// assert_eq!(at.to_vec1::<i64>()?, [0, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn min_dim(x: &Tensor, dim: usize, keepdim: bool) -> Result<(Tensor, Tensor)> {
    extremes("min", x, &[dim], keepdim, End::Smallest)
}

/// The first position, as `I64`, of the largest element along a dimension, or of the flattened
/// tensor; NaN counts as the largest. (`aten.argmax`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 5.], [4., 2.]], &Device::Cpu)?;
/// assert_eq!(ops::argmax(&x, Some(1), false)?.to_vec1::<i64>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn argmax(x: &Tensor, dim: Option<usize>, keepdim: bool) -> Result<Tensor> {
    Ok(extremes("argmax", x, dim.as_slice(), keepdim, End::Largest)?.1)
}

/// The first position, as `I64`, of the smallest element along a dimension, or of the flattened
/// tensor; NaN counts as the smallest. (`aten.argmin`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 5.], [4., 2.]], &Device::Cpu)?;
/// assert_eq!(ops::argmin(&x, Some(1), false)?.to_vec1::<i64>()?, [0, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn argmin(x: &Tensor, dim: Option<usize>, keepdim: bool) -> Result<Tensor> {
    Ok(extremes("argmin", x, dim.as_slice(), keepdim, End::Smallest)?.1)
}

/// Whether any element is not zero. (`aten.any.dims`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[0f32, 5.], [0., 0.]], &Device::Cpu)?;
/// assert_eq!(ops::any(&x, &[1], false)?.to_vec1::<u8>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn any(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    on_cpu(&[x], |x| {
        let rows = Rows::new("any", &to_bool(x[0])?, dims, keepdim)?;
        rows.each::<u8, u8>(&|row| u8::from(row.contains(&1)))
    })
}

/// Whether no element is zero. (`aten.all.dims`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 5.], [0., 1.]], &Device::Cpu)?;
/// assert_eq!(ops::all(&x, &[1], false)?.to_vec1::<u8>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn all(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    on_cpu(&[x], |x| {
        let rows = Rows::new("all", &to_bool(x[0])?, dims, keepdim)?;
        rows.each::<u8, u8>(&|row| u8::from(!row.contains(&0)))
    })
}

/// `log(sum(e^x))`, without overflow. (`aten.logsumexp`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[90f32, f32::NEG_INFINITY], &Device::Cpu)?;
/// assert_eq!(ops::logsumexp(&x, &[0], true)?.to_vec1::<f32>()?, [90.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn logsumexp(x: &Tensor, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = if super::memory::is_half(dtype) {
        x.to_dtype(DType::F32)?
    } else {
        x.clone()
    };
    let max = amax(&x, dims, true)?;
    // An infinite maximum would give NaN when subtracted from itself.
    let zero = super::create::full(0.0, &[], x.dtype(), x.device())?;
    let max = super::compare::where_(&super::compare::isinf(&max)?, &zero, &max)?;
    let sums = log(&sum(&exp(&sub(&x, &max)?)?, dims, true)?)?;
    let out = add(&sums, &max)?;
    let rows = Rows::new("logsumexp", &x, dims, keepdim)?;
    super::cast::to_dtype(&out.reshape(rows.shape)?, dtype)
}

/// The vector norm of any order, infinite ones included. (`aten.linalg_vector_norm`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[3f32, -4.], &Device::Cpu)?;
/// assert_eq!(ops::vector_norm(&x, 2.0, &[0], true)?.to_vec1::<f32>()?, [5.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn vector_norm(x: &Tensor, ord: f64, dims: &[usize], keepdim: bool) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = if super::memory::is_half(dtype) {
        x.to_dtype(DType::F32)?
    } else {
        x.clone()
    };
    let out = if ord == f64::INFINITY {
        amax(&abs(&x)?, dims, keepdim)?
    } else if ord == f64::NEG_INFINITY {
        amin(&abs(&x)?, dims, keepdim)?
    } else if ord == 0.0 {
        sum(
            &super::compare::ne_scalar(&x, 0.0)?.to_dtype(x.dtype())?,
            dims,
            keepdim,
        )?
    } else if ord == 1.0 {
        sum(&abs(&x)?, dims, keepdim)?
    } else if ord == 2.0 {
        sqrt(&sum(&mul(&x, &x)?, dims, keepdim)?)?
    } else {
        pow_scalar(
            &sum(&pow_scalar(&abs(&x)?, ord)?, dims, keepdim)?,
            1.0 / ord,
        )?
    };
    super::cast::to_dtype(&out, dtype)
}
