//! Reductions and what normalises along dimensions.

use super::{Row, Rule, float, int, ints, op, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Operand, Why};

pub const ROWS: &[Row] = &[
    (
        "aten._log_softmax.default",
        Rule::Fn(|c| along(c, "log_softmax")),
    ),
    ("aten._softmax.default", Rule::Fn(|c| along(c, "softmax"))),
    ("aten.amax.default", Rule::Fn(|c| over(c, "amax"))),
    ("aten.amin.default", Rule::Fn(|c| over(c, "amin"))),
    ("aten.aminmax.default", Rule::Many(aminmax)),
    ("aten.argmax.default", Rule::Fn(|c| arg(c, "argmax"))),
    ("aten.argmin.default", Rule::Fn(|c| arg(c, "argmin"))),
    ("aten.cumprod.default", Rule::Fn(|c| along(c, "cumprod"))),
    ("aten.cumsum.default", Rule::Fn(|c| along(c, "cumsum"))),
    ("aten.linalg_vector_norm.default", Rule::Fn(norm)),
    (
        "aten.log_softmax.int",
        Rule::Fn(|c| along(c, "log_softmax")),
    ),
    (
        "aten.logcumsumexp.default",
        Rule::Fn(|c| along(c, "logcumsumexp")),
    ),
    ("aten.logsumexp.default", Rule::Fn(|c| over(c, "logsumexp"))),
    ("aten.max.default", Rule::Fn(|c| over(c, "amax"))),
    ("aten.mean.default", Rule::Fn(|c| over(c, "mean"))),
    ("aten.mean.dim", Rule::Fn(|c| over(c, "mean"))),
    ("aten.min.default", Rule::Fn(|c| over(c, "amin"))),
    ("aten.prod.default", Rule::Fn(|c| over(c, "prod"))),
    ("aten.prod.dim_int", Rule::Fn(|c| over(c, "prod"))),
    ("aten.softmax.int", Rule::Fn(|c| along(c, "softmax"))),
    ("aten.std.correction", Rule::Fn(|c| spread(c, "std"))),
    ("aten.std.default", Rule::Fn(|c| spread(c, "std"))),
    ("aten.std.dim", Rule::Fn(|c| spread(c, "std"))),
    (
        "aten.std_mean.correction",
        Rule::Many(|c| and_mean(c, "std")),
    ),
    ("aten.std_mean.dim", Rule::Many(|c| and_mean(c, "std"))),
    ("aten.sum.default", Rule::Fn(|c| over(c, "sum"))),
    ("aten.sum.dim_IntList", Rule::Fn(|c| over(c, "sum"))),
    ("aten.var.correction", Rule::Fn(|c| spread(c, "var"))),
    ("aten.var.default", Rule::Fn(|c| spread(c, "var"))),
    ("aten.var.dim", Rule::Fn(|c| spread(c, "var"))),
    (
        "aten.var_mean.correction",
        Rule::Many(|c| and_mean(c, "var")),
    ),
    ("aten.var_mean.dim", Rule::Many(|c| and_mean(c, "var"))),
];

/// The input in the dtype in which the op computes: its own, or that of the `dtype` argument.
fn input(c: &Ctx) -> Result<(Operand, Expr), Why> {
    let x = c.tensor("self")?;
    let cast = x.cast(c, c.out_dtype());
    Ok((x, cast))
}

fn over(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let (x, cast) = input(c)?;
    let dims = c.dims("dim", x.rank())?;
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    op(name, [cast, ints(&dims), keepdim])
}

fn along(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let (x, cast) = input(c)?;
    op(name, [cast, int(c.dim("dim", x.rank())? as i64)])
}

fn arg(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = if c.given("dim") {
        Expr::Some(Box::new(int(c.dim("dim", x.rank())? as i64)))
    } else {
        Expr::None
    };
    op(
        name,
        [x.expr, dim, Expr::Bool(c.bool_or("keepdim", false)?)],
    )
}

fn spread(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dims = c.dims("dim", x.rank())?;
    let unbiased = if c.bool_or("unbiased", true)? {
        1.0
    } else {
        0.0
    };
    let correction = c.float_or("correction", unbiased)?;
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    op(name, [x.expr, ints(&dims), float(correction), keepdim])
}

/// The smallest and the largest elements; of a dimension, or of all.
fn aminmax(c: &Ctx) -> Result<Lowered, Why> {
    let parts = vec![(0, over(c, "amin")?), (1, over(c, "amax")?)];
    Ok(Lowered::Each(parts))
}

fn and_mean(c: &Ctx, name: &'static str) -> Result<Lowered, Why> {
    let parts = vec![(0, spread(c, name)?), (1, over(c, "mean")?)];
    Ok(Lowered::Each(parts))
}

fn norm(c: &Ctx) -> Result<Expr, Why> {
    let (x, cast) = input(c)?;
    if x.rank() == 0 {
        return why("a tensor without dimensions");
    }
    let dims = c.dims("dim", x.rank())?;
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    op(
        "vector_norm",
        [cast, float(c.float_or("ord", 2.0)?), ints(&dims), keepdim],
    )
}
