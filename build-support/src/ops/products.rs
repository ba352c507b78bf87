//! Products of vectors and matrices, and sums with a product.

use super::{Row, Rule, float, int, method, number, op, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Why};
use crate::manifest::Dtype;

pub const ROWS: &[Row] = &[
    ("aten.addcdiv.default", Rule::Fn(addcdiv)),
    ("aten.addcmul.default", Rule::Fn(addcmul)),
    ("aten.bmm.default", Rule::Fn(|c| matmul(c, "mat2"))),
    ("aten.cdist.default", Rule::Fn(cdist)),
    (
        "aten.cosine_similarity.default",
        Rule::Fn(cosine_similarity),
    ),
    ("aten.dot.default", Rule::Fn(|c| matmul(c, "tensor"))),
    ("aten.matmul.default", Rule::Fn(|c| matmul(c, "other"))),
    ("aten.mm.default", Rule::Fn(|c| matmul(c, "mat2"))),
    ("aten.mv.default", Rule::Fn(|c| matmul(c, "vec"))),
    ("aten.outer.default", Rule::Fn(outer)),
    (
        "aten.pairwise_distance.default",
        Rule::Fn(pairwise_distance),
    ),
    ("aten.vdot.default", Rule::Fn(|c| matmul(c, "other"))),
];

fn matmul(c: &Ctx, other: &str) -> Result<Expr, Why> {
    op("matmul", [c.tensor("self")?.expr, c.tensor(other)?.expr])
}

/// Every element of one vector times every element of another.
fn outer(c: &Ctx) -> Result<Expr, Why> {
    let cast = |name| Ok::<_, Why>(c.tensor(name)?.cast(c, c.out_dtype()));
    let column = method(cast("self")?, "unsqueeze", [int(1)])?;
    let name = match c.out_dtype() {
        Dtype::Bool => "bool_and",
        _ => "mul",
    };
    op(name, [column, cast("vec2")?])
}

/// The tensors of a sum with a product, and the factor of it.
fn terms(c: &Ctx) -> Result<([Expr; 3], f64), Why> {
    let cast = |name| Ok::<_, Why>(c.tensor(name)?.cast(c, c.out_dtype()));
    let factor = match c.given("value") {
        true => number(c, "value")?,
        false => 1.0,
    };
    Ok(([cast("self")?, cast("tensor1")?, cast("tensor2")?], factor))
}

fn addcmul(c: &Ctx) -> Result<Expr, Why> {
    let ([x, a, b], factor) = terms(c)?;
    if c.out_dtype().is_float() {
        return op("addcmul", [x, a, b, float(factor)]);
    }
    if c.out_dtype() == Dtype::Bool || factor.fract() != 0.0 {
        return why("the sum of integers with a fraction of a product, or of booleans");
    }
    let a = match factor {
        1.0 => a,
        _ => op("mul_scalar_int", [a, int(factor as i64)])?,
    };
    op("add", [x, op("mul", [a, b])?])
}

fn addcdiv(c: &Ctx) -> Result<Expr, Why> {
    let ([x, a, b], factor) = terms(c)?;
    if !c.out_dtype().is_float() {
        return why("the quotient of integers");
    }
    op("addcdiv", [x, a, b, float(factor)])
}

fn cdist(c: &Ctx) -> Result<Expr, Why> {
    let p = float(c.float_or("p", 2.0)?);
    op("cdist", [c.tensor("x1")?.expr, c.tensor("x2")?.expr, p])
}

fn cosine_similarity(c: &Ctx) -> Result<Expr, Why> {
    let (a, b) = (c.tensor("x1")?, c.tensor("x2")?);
    let dim = int(c.dim_or("dim", 1, c.out_shape().len() + 1)?);
    let eps = float(c.float_or("eps", 1e-8)?);
    let [a, b] = [a, b].map(|x| x.cast(c, c.out_dtype()));
    op("cosine_similarity", [a, b, dim, eps])
}

fn pairwise_distance(c: &Ctx) -> Result<Expr, Why> {
    let [a, b] = [c.tensor("x1")?, c.tensor("x2")?].map(|x| x.cast(c, c.out_dtype()));
    let (p, eps) = (
        float(c.float_or("p", 2.0)?),
        float(c.float_or("eps", 1e-6)?),
    );
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    op("pairwise_distance", [a, b, p, eps, keepdim])
}
