//! Comparison, logic and selection.

use super::create::{of_number, truth};
use super::{Row, Rule, arith, float, int, number, number_or_size, op};
use crate::ir::Expr;
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::{Dim, Dtype, Scalar};

pub const ROWS: &[Row] = &[
    ("aten.all.default", Rule::Fn(all)),
    ("aten.all.dim", Rule::Fn(all)),
    ("aten.any.default", Rule::Fn(any)),
    ("aten.any.dim", Rule::Fn(any)),
    (
        "aten.eq.Scalar",
        Rule::Fn(|c| compare(c, ["eq", "eq_scalar", "eq_scalar_int"])),
    ),
    (
        "aten.eq.Tensor",
        Rule::Fn(|c| compare(c, ["eq", "eq_scalar", "eq_scalar_int"])),
    ),
    (
        "aten.ge.Scalar",
        Rule::Fn(|c| compare(c, ["ge", "ge_scalar", "ge_scalar_int"])),
    ),
    (
        "aten.ge.Tensor",
        Rule::Fn(|c| compare(c, ["ge", "ge_scalar", "ge_scalar_int"])),
    ),
    (
        "aten.gt.Scalar",
        Rule::Fn(|c| compare(c, ["gt", "gt_scalar", "gt_scalar_int"])),
    ),
    (
        "aten.gt.Tensor",
        Rule::Fn(|c| compare(c, ["gt", "gt_scalar", "gt_scalar_int"])),
    ),
    (
        "aten.isfinite.default",
        Rule::Fn(|c| op("isfinite", [c.tensor("self")?.expr])),
    ),
    (
        "aten.isinf.default",
        Rule::Fn(|c| op("isinf", [c.tensor("self")?.expr])),
    ),
    (
        "aten.isnan.default",
        Rule::Fn(|c| op("isnan", [c.tensor("self")?.expr])),
    ),
    (
        "aten.le.Scalar",
        Rule::Fn(|c| compare(c, ["le", "le_scalar", "le_scalar_int"])),
    ),
    (
        "aten.le.Tensor",
        Rule::Fn(|c| compare(c, ["le", "le_scalar", "le_scalar_int"])),
    ),
    (
        "aten.logical_and.default",
        Rule::Fn(|c| logical(c, "bool_and")),
    ),
    ("aten.logical_not.default", Rule::Fn(logical_not)),
    (
        "aten.logical_or.default",
        Rule::Fn(|c| logical(c, "bool_or")),
    ),
    (
        "aten.logical_xor.default",
        Rule::Fn(|c| logical(c, "bool_xor")),
    ),
    (
        "aten.lt.Scalar",
        Rule::Fn(|c| compare(c, ["lt", "lt_scalar", "lt_scalar_int"])),
    ),
    (
        "aten.lt.Tensor",
        Rule::Fn(|c| compare(c, ["lt", "lt_scalar", "lt_scalar_int"])),
    ),
    ("aten.masked_fill.Scalar", Rule::Fn(masked_fill)),
    ("aten.masked_fill.Tensor", Rule::Fn(masked_fill)),
    (
        "aten.ne.Scalar",
        Rule::Fn(|c| compare(c, ["ne", "ne_scalar", "ne_scalar_int"])),
    ),
    (
        "aten.ne.Tensor",
        Rule::Fn(|c| compare(c, ["ne", "ne_scalar", "ne_scalar_int"])),
    ),
    ("aten.where.Scalar", Rule::Fn(select)),
    ("aten.where.ScalarOther", Rule::Fn(select)),
    ("aten.where.ScalarSelf", Rule::Fn(select)),
    ("aten.where.self", Rule::Fn(select)),
];

/// Names: of two tensors, of a tensor with a float, of a tensor with an integer.
fn compare(c: &Ctx, [tensors, float_name, int_name]: [&'static str; 3]) -> Result<Expr, Why> {
    let a = c.tensor("self")?;
    if c.is_tensor("other") {
        let b = c.tensor("other")?;
        let dtype = arith::result_type(&a, &b);
        return op(tensors, [a.cast(c, dtype), b.cast(c, dtype)]);
    }
    match c.size("other") {
        Ok(Dim::Size(i)) if !a.dtype.is_float() => {
            return op(int_name, [a.expr, int(wrapped(i, a.dtype))]);
        }
        Ok(Dim::Size(_)) | Err(_) => {}
        Ok(size) if !a.dtype.is_float() => return op(int_name, [a.expr, Expr::SizeAsInt(size)]),
        Ok(_) => return op(float_name, [a.expr, number_or_size(c, "other")?]),
    }
    let x = match c.scalar("other")? {
        // An integer tensor against a float is compared in the default float dtype.
        Scalar::Float(_) if !a.dtype.is_float() => a.cast(c, Dtype::Float32),
        _ => a.expr,
    };
    op(float_name, [x, float(number(c, "other")?)])
}

/// An integer as PyTorch converts it to a tensor's dtype before comparing: cut to its bits.
pub(super) fn wrapped(i: i64, dtype: Dtype) -> i64 {
    match dtype {
        Dtype::Uint8 => i64::from(i as u8),
        Dtype::Int8 => i64::from(i as i8),
        Dtype::Int16 => i64::from(i as i16),
        Dtype::Int32 => i64::from(i as i32),
        _ => i,
    }
}

fn as_bool(c: &Ctx, x: &Operand) -> Expr {
    x.cast(c, Dtype::Bool)
}

fn logical(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let (a, b) = (c.tensor("self")?, c.tensor("other")?);
    op(name, [as_bool(c, &a), as_bool(c, &b)])
}

fn logical_not(c: &Ctx) -> Result<Expr, Why> {
    op("bool_not", [as_bool(c, &c.tensor("self")?)])
}

fn reduced(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dims = c.dims("dim", x.rank())?;
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    op(name, [as_bool(c, &x), super::ints(&dims), keepdim])
}

fn any(c: &Ctx) -> Result<Expr, Why> {
    reduced(c, "any")
}

fn all(c: &Ctx) -> Result<Expr, Why> {
    reduced(c, "all")
}

fn masked_fill(c: &Ctx) -> Result<Expr, Why> {
    let (x, mask) = (c.tensor("self")?, c.tensor("mask")?);
    if c.is_tensor("value") {
        let value = c.tensor("value")?.cast(c, c.out_dtype());
        return op("where_", [mask.expr, value, x.expr]);
    }
    let value = match number(c, "value") {
        Ok(_) if x.dtype == Dtype::Bool => truth(c, "value")?,
        Ok(value) => value,
        Err(_) => {
            let value = of_number(c, "value", x.dtype, &[])?;
            return op("where_", [mask.expr, value, x.expr]);
        }
    };
    op("masked_fill", [x.expr, mask.expr, float(value)])
}

fn select(c: &Ctx) -> Result<Expr, Why> {
    let branch = |name: &str| match c.is_tensor(name) {
        true => Ok(c.tensor(name)?.cast(c, c.out_dtype())),
        false => of_number(c, name, c.out_dtype(), &[]),
    };
    let (a, b) = (branch("self")?, branch("other")?);
    op("where_", [c.tensor("condition")?.expr, a, b])
}
