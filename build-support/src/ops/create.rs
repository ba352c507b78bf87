//! Tensors made from nothing but sizes.

use super::{Row, Rule, count, float, int, number, number_or_size, op, signed, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Why, storage};
use crate::manifest::{Dim, Dtype, Scalar};

pub const ROWS: &[Row] = &[
    ("aten.arange.default", Rule::Fn(arange)),
    ("aten.arange.start", Rule::Fn(arange)),
    ("aten.arange.start_step", Rule::Fn(arange)),
    ("aten.empty.memory_format", Rule::Fn(zeros)),
    ("aten.empty_like.default", Rule::Fn(zeros)),
    ("aten.eye.default", Rule::Fn(eye)),
    ("aten.fill.Scalar", Rule::Fn(|c| full(c, "value"))),
    ("aten.fill.Tensor", Rule::Fn(fill)),
    ("aten.full.default", Rule::Fn(|c| full(c, "fill_value"))),
    (
        "aten.full_like.default",
        Rule::Fn(|c| full(c, "fill_value")),
    ),
    ("aten.linspace.default", Rule::Fn(linspace)),
    ("aten.new_empty.default", Rule::Fn(zeros)),
    ("aten.new_full.default", Rule::Fn(|c| full(c, "fill_value"))),
    ("aten.new_ones.default", Rule::Fn(ones)),
    ("aten.new_zeros.default", Rule::Fn(zeros)),
    ("aten.ones.default", Rule::Fn(ones)),
    ("aten.ones_like.default", Rule::Fn(ones)),
    ("aten.scalar_tensor.default", Rule::Fn(|c| full(c, "s"))),
    ("aten.tril.default", Rule::Fn(|c| triangle(c, "tril"))),
    (
        "aten.tril_indices.default",
        Rule::Fn(|c| triangle_indices(c, "tril_indices")),
    ),
    ("aten.triu.default", Rule::Fn(|c| triangle(c, "triu"))),
    (
        "aten.triu_indices.default",
        Rule::Fn(|c| triangle_indices(c, "triu_indices")),
    ),
    ("aten.zero.default", Rule::Fn(zeros)),
    ("aten.zeros.default", Rule::Fn(zeros)),
    ("aten.zeros_like.default", Rule::Fn(zeros)),
];

fn zeros(c: &Ctx) -> Result<Expr, Why> {
    filled(c, 0.0)
}

fn ones(c: &Ctx) -> Result<Expr, Why> {
    filled(c, 1.0)
}

fn filled(c: &Ctx, value: f64) -> Result<Expr, Why> {
    let shape = Expr::Shape(c.out_shape().to_vec());
    let dtype = c.dtype_expr(c.out_dtype());
    op("full", [float(value), shape, dtype, Expr::Device])
}

fn full(c: &Ctx, name: &str) -> Result<Expr, Why> {
    of_number(c, name, c.out_dtype(), c.out_shape())
}

/// The shape of `self`, of a value that is a tensor without dimensions.
fn fill(c: &Ctx) -> Result<Expr, Why> {
    let value = c.tensor("value")?.cast(c, c.out_dtype());
    op("expand", [value, Expr::Shape(c.out_shape().to_vec())])
}

/// A tensor of the number that an argument is, converted as PyTorch does: integers exactly, to
/// booleans by whether they are zero.
pub(super) fn of_number(c: &Ctx, name: &str, dtype: Dtype, shape: &[Dim]) -> Result<Expr, Why> {
    let shape = Expr::Shape(shape.to_vec());
    let open = c.size(name).ok().filter(|d| !matches!(d, Dim::Size(_)));
    if let Some(size) = open.filter(|_| dtype != Dtype::Bool) {
        let x = op("full_int", [Expr::SizeAsInt(size), shape, Expr::Device])?;
        return Ok(crate::lower::cast(c, x, Dtype::Int64, dtype));
    }
    let value = match c.scalar(name)? {
        Scalar::Int(i) if storage(dtype) == Dtype::Int64 => {
            return op("full_int", [int(i), shape, Expr::Device]);
        }
        _ if dtype == Dtype::Bool => truth(c, name)?,
        _ => number(c, name)?,
    };
    op(
        "full",
        [float(value), shape, c.dtype_expr(dtype), Expr::Device],
    )
}

/// A number argument as a boolean: 0 or 1.
pub(super) fn truth(c: &Ctx, name: &str) -> Result<f64, Why> {
    Ok(f64::from(u8::from(c.float(name)? != 0.0)))
}

fn arange(c: &Ctx) -> Result<Expr, Why> {
    let dtype = c.out_dtype();
    if let [Ok(start), Ok(end), Ok(step)] =
        [("start", 0), ("end", 0), ("step", 1)].map(|(name, default)| whole(c, name, default))
    {
        let negative = |size: &Dim| matches!(size, Dim::Size(n) if *n < 0);
        let from_zero = !start.can_be_negative() && !negative(&end);
        if dtype == Dtype::Int64 && step == Dim::Size(1) && from_zero {
            return op("range", [Expr::Size(start), Expr::Size(end), Expr::Device]);
        }
        let bounds = [&start, &end, &step].map(signed);
        let x = op("arange_int", bounds.into_iter().chain([Expr::Device]))?;
        // Sizes are exact integers: counted in i64, then cast.
        return Ok(crate::lower::cast(c, x, Dtype::Int64, dtype));
    }
    // PyTorch cuts the fractions off and counts what is left.
    let is_cut = |name| c.float(name).is_ok_and(|number| number.fract() != 0.0);
    if !dtype.is_float() && ["start", "end", "step"].into_iter().any(is_cut) {
        return why("makes integers of fractions: give whole numbers");
    }
    let bound = |name, default| match c.given(name) {
        true => number_or_size(c, name),
        false => Ok(float(default)),
    };
    let (start, end) = (bound("start", 0.0)?, number_or_size(c, "end")?);
    let step = bound("step", 1.0)?;
    op(
        "arange",
        [start, end, step, c.dtype_expr(dtype), Expr::Device],
    )
}

fn linspace(c: &Ctx) -> Result<Expr, Why> {
    let (start, end) = (number_or_size(c, "start")?, number_or_size(c, "end")?);
    let steps = Expr::Size(c.size("steps")?);
    let dtype = c.dtype_expr(c.out_dtype());
    op("linspace", [start, end, steps, dtype, Expr::Device])
}

/// An argument of `arange` that is a size; beside one that is symbolic, a float such as -1.0 is too.
fn whole(c: &Ctx, name: &str, default: i64) -> Result<Dim, Why> {
    if !c.given(name) {
        return Ok(Dim::Size(default));
    }
    let symbolic = ["start", "end"]
        .iter()
        .any(|n| matches!(c.size(n), Ok(d) if !matches!(d, Dim::Size(_))));
    match c.float(name) {
        Ok(f) if symbolic && f.fract() == 0.0 && f.abs() < 2f64.powi(53) => Ok(Dim::Size(f as i64)),
        _ => c.size(name),
    }
}

fn eye(c: &Ctx) -> Result<Expr, Why> {
    let [rows, columns] = c.out_shape() else {
        return why("its result is no matrix");
    };
    let sizes = [rows, columns].map(|size| Expr::Size(size.clone()));
    let kind = [c.dtype_expr(c.out_dtype()), Expr::Device];
    op("eye", sizes.into_iter().chain(kind))
}

fn triangle(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let diagonal = match c.given("diagonal") {
        true => c.size("diagonal")?,
        false => Dim::Size(0),
    };
    op(name, [c.tensor("self")?.expr, signed(&diagonal)])
}

fn triangle_indices(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let (rows, columns) = (count(c, "row")?, count(c, "col")?);
    let places = op(
        name,
        [rows, columns, int(c.int_or("offset", 0)?), Expr::Device],
    )?;
    Ok(crate::lower::cast(c, places, Dtype::Int64, c.out_dtype()))
}
