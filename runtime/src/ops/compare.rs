//! Comparisons, logic and selection. Booleans are `U8` tensors of 0 and 1.

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};

use super::Result;
use super::map::{chunks, each, expanded, int_map, same_dtype, zip};
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
    eq eq_scalar eq_scalar_int: ==;
    /// `a != b`. (`aten.ne.Tensor`)
    ne ne_scalar ne_scalar_int: !=;
    /// `a < b`. (`aten.lt.Tensor`)
    lt lt_scalar lt_scalar_int: <;
    /// `a <= b`. (`aten.le.Tensor`)
    le le_scalar le_scalar_int: <=;
    /// `a > b`. (`aten.gt.Tensor`)
    gt gt_scalar gt_scalar_int: >;
    /// `a >= b`. (`aten.ge.Tensor`)
    ge ge_scalar ge_scalar_int: >=;
}

/// Where an element is not zero. (`aten._to_copy` to `bool`)
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
        pub fn $on_bool(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            bytes(stringify!($on_bool), a, b, &|$a, $b| $value)
        }
    )*};
}

logic! {
    /// Whether both are not zero, of any dtypes. (`aten.logical_and`)
    logical_and bool_and: |a, b| a & b;
    /// Whether one is not zero, of any dtypes. (`aten.logical_or`)
    logical_or bool_or: |a, b| a | b;
    /// Whether exactly one is not zero, of any dtypes. (`aten.logical_xor`)
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
pub fn logical_not(x: &Tensor) -> Result<Tensor> {
    eq_scalar(x, 0.0)
}

/// The negation of a boolean tensor. (`aten.bitwise_not` on `bool`)
pub fn bool_not(x: &Tensor) -> Result<Tensor> {
    if x.dtype() != DType::U8 {
        fail!("bool_not: expected booleans, got {:?}", x.dtype());
    }
    on_cpu(&[x], |x| each::<u8, u8>(x[0], &|v| u8::from(v == 0)))
}

macro_rules! bitwise {
    ($($(#[$doc:meta])* $name:ident: |$a:ident, $b:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_dtype(stringify!($name), a, b)?;
            on_cpu(&[a, b], |inputs| {
                let [x, y] = expanded(stringify!($name), inputs[0], inputs[1])?;
                match x.dtype() {
                    DType::I64 => zip::<i64, i64>(&x, &y, &|$a, $b| $value),
                    DType::U8 => zip::<u8, u8>(&x, &y, &|$a, $b| $value),
                    other => fail!("{}: expected integers, got {other:?}", stringify!($name)),
                }
            })
        }
    )*};
}

bitwise! {
    /// Bits in both. (`aten.bitwise_and.Tensor` on integers)
    int_and: |a, b| a & b;
    /// Bits in either. (`aten.bitwise_or.Tensor` on integers)
    int_or: |a, b| a | b;
    /// Bits in exactly one. (`aten.bitwise_xor.Tensor` on integers)
    int_xor: |a, b| a ^ b;
}

/// All bits flipped. (`aten.bitwise_not` on integers)
pub fn int_not(x: &Tensor) -> Result<Tensor> {
    int_map("int_not", x, |v| !v)
}

/// Where an element is NaN. (`aten.isnan`)
pub fn isnan(x: &Tensor) -> Result<Tensor> {
    float_test("isnan", x, f64::is_nan)
}

/// Where an element is infinite. (`aten.isinf`)
pub fn isinf(x: &Tensor) -> Result<Tensor> {
    float_test("isinf", x, f64::is_infinite)
}

/// Where an element is neither NaN nor infinite. (`aten.isfinite`)
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
pub fn masked_fill(x: &Tensor, mask: &Tensor, value: f64) -> Result<Tensor> {
    let value = super::create::full(value, &[], x.dtype(), x.device())?;
    where_(mask, &value, x)
}
