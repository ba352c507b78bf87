//! Comparisons, logic and selection. Booleans are `U8` tensors of 0 and 1.

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};

use super::Result;
use super::map::{chunks, each, expanded, same_dtype, zip};
use super::memory::{
    BLOCK, Narrow, fail, is_float, is_half, on_cpu, tensor, with_any, with_storage, written,
};
use super::walk::{Plan, broadcast_shape, expand_to};

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $scalar:ident $scalar_int:ident: $op:tt;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_dtype(stringify!($name), a, b)?;
            on_cpu(&[a, b], |inputs| {
                let [a, b] = expanded(stringify!($name), inputs[0], inputs[1])?;
                let (a, b) = (comparable(&a)?, comparable(&b)?);
                match a.dtype() {
                    DType::I64 => zip::<i64, u8>(&a, &b, &|x, y| u8::from(x $op y)),
                    DType::F64 => zip::<f64, u8>(&a, &b, &|x, y| u8::from(x $op y)),
                    _ => zip::<f32, u8>(&a, &b, &|x, y| u8::from(x $op y)),
                }
            })
        }

        /// The comparison of each element with a number, which is first rounded to the dtype, as
        /// PyTorch does; integers are compared as doubles.
        ///
        /// ```
        /// # use pycandle::{Device, Tensor, ops};
        /// let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
        #[doc = concat!("let holds = ops::", stringify!($scalar), "(&x, 2.0)?;")]
        #[doc = concat!("let expected = [1f32, 2., 3.].map(|x| u8::from(x ", stringify!($op), " 2.0));")]
        /// assert_eq!(holds.to_vec1::<u8>()?, expected);
        /// # Ok::<(), pycandle::Error>(())
        /// ```
        pub fn $scalar(x: &Tensor, s: f64) -> Result<Tensor> {
            on_cpu(&[x], |inputs| {
                let s = rounded(s, inputs[0].dtype());
                let x = comparable(inputs[0])?;
                match x.dtype() {
                    DType::I64 => each::<i64, u8>(&x, &|v| u8::from((v as f64) $op s)),
                    DType::F64 => each::<f64, u8>(&x, &|v| u8::from(v $op s)),
                    _ => each::<f32, u8>(&x, &|v| u8::from(f64::from(v) $op s)),
                }
            })
        }

        /// The comparison of each integer with another.
        ///
        /// ```
        /// # use pycandle::{Device, Tensor, ops};
        /// let x = Tensor::new(&[1i64, 2, 3], &Device::Cpu)?;
        #[doc = concat!("let holds = ops::", stringify!($scalar_int), "(&x, 2)?;")]
        #[doc = concat!("let expected = [1, 2, 3].map(|x| u8::from(x ", stringify!($op), " 2));")]
        /// assert_eq!(holds.to_vec1::<u8>()?, expected);
        /// # Ok::<(), pycandle::Error>(())
        /// ```
        pub fn $scalar_int(x: &Tensor, s: i64) -> Result<Tensor> {
            if x.dtype() == DType::I64 {
                return on_cpu(&[x], |x| each::<i64, u8>(x[0], &|v| u8::from(v $op s)));
            }
            $scalar(x, s as f64)
        }
    )*};
}

/// The tensor in one of the dtypes that comparisons are compiled for, exactly.
fn comparable(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::U8 => Ok(x.to_dtype(DType::I64)?),
        dtype if is_half(dtype) => Ok(x.to_dtype(DType::F32)?),
        DType::I64 | DType::F32 | DType::F64 => Ok(x.clone()),
        other => fail!("comparison: unsupported dtype {other:?}"),
    }
}

fn rounded(s: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(s as f32),
        DType::BF16 => f64::from(bf16::nearest(s as f32).wide()),
        DType::F16 => f64::from(f16::nearest(s as f32).wide()),
        _ => s,
    }
}

comparisons! {
    /// `a == b`. (`aten.eq.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
    /// let b = Tensor::new(&[2f32, 2., 2.], &Device::Cpu)?;
    /// assert_eq!(ops::eq(&a, &b)?.to_vec1::<u8>()?, [0, 1, 0]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    eq eq_scalar eq_scalar_int: ==;
    /// `a != b`. (`aten.ne.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
    /// let b = Tensor::new(&[2f32, 2., 2.], &Device::Cpu)?;
    /// assert_eq!(ops::ne(&a, &b)?.to_vec1::<u8>()?, [1, 0, 1]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    ne ne_scalar ne_scalar_int: !=;
    /// `a < b`. (`aten.lt.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
    /// let b = Tensor::new(&[2f32, 2., 2.], &Device::Cpu)?;
    /// assert_eq!(ops::lt(&a, &b)?.to_vec1::<u8>()?, [1, 0, 0]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    lt lt_scalar lt_scalar_int: <;
    /// `a <= b`. (`aten.le.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
    /// let b = Tensor::new(&[2f32, 2., 2.], &Device::Cpu)?;
    /// assert_eq!(ops::le(&a, &b)?.to_vec1::<u8>()?, [1, 1, 0]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    le le_scalar le_scalar_int: <=;
    /// `a > b`. (`aten.gt.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
    /// let b = Tensor::new(&[2f32, 2., 2.], &Device::Cpu)?;
    /// assert_eq!(ops::gt(&a, &b)?.to_vec1::<u8>()?, [0, 0, 1]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    gt gt_scalar gt_scalar_int: >;
    /// `a >= b`. (`aten.ge.Tensor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
    /// let b = Tensor::new(&[2f32, 2., 2.], &Device::Cpu)?;
    /// assert_eq!(ops::ge(&a, &b)?.to_vec1::<u8>()?, [0, 1, 1]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    ge ge_scalar ge_scalar_int: >=;
}

/// Where an element is not zero. (`aten._to_copy` to `bool`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, -2., f32::NAN], &Device::Cpu)?;
/// assert_eq!(ops::to_bool(&x)?.to_vec1::<u8>()?, [0, 1, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn to_bool(x: &Tensor) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        with_any!(x.dtype(), "to_bool", T => {
            let zero = T::from_f64(0.0);
            each::<T, u8>(x, &|v| u8::from(v != zero))
        })
    })
}

macro_rules! logic {
    ($($(#[$doc:meta])* $name:ident $on_bool:ident: |$a:ident, $b:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            $on_bool(&to_bool(a)?, &to_bool(b)?)
        }

        /// The same on tensors that already are boolean.
        ///
        /// ```
        /// # use pycandle::{Device, Tensor, ops};
        /// let a = Tensor::new(&[0u8, 0, 1, 1], &Device::Cpu)?;
        /// let b = Tensor::new(&[0u8, 1, 0, 1], &Device::Cpu)?;
        #[doc = concat!("let y = ops::", stringify!($on_bool), "(&a, &b)?.to_vec1::<u8>()?;")]
        #[doc = concat!("assert_eq!(y, ops::", stringify!($name), "(&a, &b)?.to_vec1::<u8>()?);")]
        /// # Ok::<(), pycandle::Error>(())
        /// ```
        pub fn $on_bool(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            bytes(stringify!($on_bool), a, b, &|$a, $b| $value)
        }
    )*};
}

logic! {
    /// Whether both are not zero, of any dtypes. (`aten.logical_and`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[0f32, 0., 2.], &Device::Cpu)?;
    /// let b = Tensor::new(&[0i64, 7, 7], &Device::Cpu)?;
    /// assert_eq!(ops::logical_and(&a, &b)?.to_vec1::<u8>()?, [0, 0, 1]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    logical_and bool_and: |a, b| a & b;
    /// Whether one is not zero, of any dtypes. (`aten.logical_or`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[0f32, 0., 2.], &Device::Cpu)?;
    /// let b = Tensor::new(&[0i64, 7, 7], &Device::Cpu)?;
    /// assert_eq!(ops::logical_or(&a, &b)?.to_vec1::<u8>()?, [0, 1, 1]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    logical_or bool_or: |a, b| a | b;
    /// Whether exactly one is not zero, of any dtypes. (`aten.logical_xor`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let a = Tensor::new(&[0f32, 0., 2.], &Device::Cpu)?;
    /// let b = Tensor::new(&[0i64, 7, 7], &Device::Cpu)?;
    /// assert_eq!(ops::logical_xor(&a, &b)?.to_vec1::<u8>()?, [0, 1, 0]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    logical_xor bool_xor: |a, b| a ^ b;
}

fn bytes(name: &str, a: &Tensor, b: &Tensor, f: &(dyn Fn(u8, u8) -> u8 + Sync)) -> Result<Tensor> {
    if (a.dtype(), b.dtype()) != (DType::U8, DType::U8) {
        fail!(
            "{name}: expected booleans, got {:?} and {:?}",
            a.dtype(),
            b.dtype()
        );
    }
    on_cpu(&[a, b], |inputs| {
        let [a, b] = expanded(name, inputs[0], inputs[1])?;
        zip::<u8, u8>(&a, &b, f)
    })
}

/// Where an element is zero. (`aten.logical_not`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, -2.], &Device::Cpu)?;
/// assert_eq!(ops::logical_not(&x)?.to_vec1::<u8>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn logical_not(x: &Tensor) -> Result<Tensor> {
    eq_scalar(x, 0.0)
}

/// The negation of a boolean tensor. (`aten.bitwise_not` on `bool`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0u8, 1], &Device::Cpu)?;
/// assert_eq!(ops::bool_not(&x)?.to_vec1::<u8>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn bool_not(x: &Tensor) -> Result<Tensor> {
    if x.dtype() != DType::U8 {
        fail!("bool_not: expected booleans, got {:?}", x.dtype());
    }
    on_cpu(&[x], |x| each::<u8, u8>(x[0], &|v| u8::from(v == 0)))
}

/// Where an element is NaN. (`aten.isnan`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, f32::NAN], &Device::Cpu)?;
/// assert_eq!(ops::isnan(&x)?.to_vec1::<u8>()?, [0, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn isnan(x: &Tensor) -> Result<Tensor> {
    float_test("isnan", x, f64::is_nan)
}

/// Where an element is infinite. (`aten.isinf`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, f32::NEG_INFINITY], &Device::Cpu)?;
/// assert_eq!(ops::isinf(&x)?.to_vec1::<u8>()?, [0, 1]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn isinf(x: &Tensor) -> Result<Tensor> {
    float_test("isinf", x, f64::is_infinite)
}

/// Where an element is neither NaN nor infinite. (`aten.isfinite`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, f32::INFINITY], &Device::Cpu)?;
/// assert_eq!(ops::isfinite(&x)?.to_vec1::<u8>()?, [1, 0]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn isfinite(x: &Tensor) -> Result<Tensor> {
    float_test("isfinite", x, f64::is_finite)
}

fn float_test(name: &str, x: &Tensor, test: impl Fn(f64) -> bool + Sync) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        let test = &test;
        if !is_float(x.dtype()) {
            return with_any!(x.dtype(), name, T => each::<T, u8>(x, &|_| u8::from(test(0.0))));
        }
        with_any!(x.dtype(), name, T => each::<T, u8>(x, &|v| u8::from(test(v.to_f64()))))
    })
}

/// `a` where the condition holds, else `b`; all three broadcast. (`aten.where.self`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let condition = Tensor::new(&[1u8, 0], &Device::Cpu)?;
/// let a = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let b = Tensor::new(9f32, &Device::Cpu)?;
/// assert_eq!(ops::where_(&condition, &a, &b)?.to_vec1::<f32>()?, [1., 9.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn where_(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_dtype("where", a, b)?;
    if condition.dtype() != DType::U8 {
        fail!(
            "where: expected a boolean condition, got {:?}",
            condition.dtype()
        );
    }
    let shape = broadcast_shape("where", a.dims(), b.dims())?;
    let shape = broadcast_shape("where", condition.dims(), &shape)?;
    let condition = expand_to(condition, &shape)?;
    let (a, b) = (expand_to(a, &shape)?, expand_to(b, &shape)?);
    if !a.device().is_cpu() {
        return Ok(condition.where_cond(&a, &b)?);
    }
    with_any!(a.dtype(), "where", T => select_elements::<T>(&condition, &a, &b))
}

fn select_elements<T: WithDType>(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let plan = Plan::new([condition, a, b]);
    let [sc, sa, sb] = plan.inner();
    with_storage::<u8, _>(condition, |c, _| {
        with_storage::<T, _>(a, |x, _| {
            with_storage::<T, _>(b, |y, _| {
                let out = written(a.elem_count(), |out: &mut [T]| {
                    chunks(out, 16 * BLOCK, &|start, out: &mut [T]| {
                        let range = start..start + out.len();
                        plan.runs(range, usize::MAX, &mut |at, len, [oc, oa, ob]| {
                            for (i, to) in out[at..at + len].iter_mut().enumerate() {
                                let (x, y) = (x[oa + i * sa], y[ob + i * sb]);
                                *to = if c[oc + i * sc] != 0 { x } else { y };
                            }
                        });
                    });
                });
                tensor(out, a.dims())
            })
        })
    })
}

/// `x` with a number where the mask holds; both broadcast. (`aten.masked_fill.Scalar`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// let mask = Tensor::new(&[0u8, 1], &Device::Cpu)?;
/// assert_eq!(ops::masked_fill(&x, &mask, -1.0)?.to_vec1::<f32>()?, [1., -1.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn masked_fill(x: &Tensor, mask: &Tensor, value: f64) -> Result<Tensor> {
    let value = super::create::full(value, &[], x.dtype(), x.device())?;
    where_(mask, &value, x)
}
