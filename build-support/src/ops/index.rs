//! Indexing, gathering, sorting.

use super::{Row, Rule, int, op, some, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Why};
use crate::manifest::Dtype;

pub const ROWS: &[Row] = &[
    ("aten.gather.default", Rule::Fn(gather)),
    ("aten.index.Tensor", Rule::Fn(index)),
    ("aten.index_put.default", Rule::Fn(index_put)),
    ("aten.index_select.default", Rule::Fn(index_select)),
    ("aten.max.dim", Rule::Many(|c| extreme(c, "max_dim"))),
    ("aten.min.dim", Rule::Many(|c| extreme(c, "min_dim"))),
    ("aten.scatter.src", Rule::Fn(scatter)),
    ("aten.scatter_add.default", Rule::Fn(scatter_add)),
    ("aten.sort.default", Rule::Many(sort)),
    ("aten.topk.default", Rule::Many(topk)),
];

fn index(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let indices = c.tensors_opt("indices")?;
    if indices.iter().flatten().any(|i| i.dtype == Dtype::Bool) {
        return why("a boolean mask as an index gives a shape that depends on the data");
    }
    let indices = indices.into_iter().map(|i| some(i.map(|i| i.expr)));
    op("index", [x.expr, Expr::Slice(indices.collect())])
}

fn index_put(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let indices = c.tensors_opt("indices")?;
    if indices.iter().flatten().any(|i| i.dtype == Dtype::Bool) {
        return why("a boolean mask as an index");
    }
    let indices = indices.into_iter().map(|i| some(i.map(|i| i.expr)));
    let values = c.tensor("values")?.cast(c, x.dtype);
    let accumulate = Expr::Bool(c.bool_or("accumulate", false)?);
    op(
        "index_put",
        [x.expr, Expr::Slice(indices.collect()), values, accumulate],
    )
}

fn gather(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    op("gather", [x.expr, int(dim as i64), c.tensor("index")?.expr])
}

fn index_select(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    op(
        "index_select",
        [x.expr, int(dim as i64), c.tensor("index")?.expr],
    )
}

fn scatter(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim("dim", x.rank())? as i64);
    op(
        "scatter",
        [x.expr, dim, c.tensor("index")?.expr, c.tensor("src")?.expr],
    )
}

fn scatter_add(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim("dim", x.rank())? as i64);
    op(
        "scatter_add",
        [x.expr, dim, c.tensor("index")?.expr, c.tensor("src")?.expr],
    )
}

fn extreme(c: &Ctx, name: &'static str) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    Ok(Lowered::Tuple(op(
        name,
        [x.expr, int(dim as i64), keepdim],
    )?))
}

fn sort(c: &Ctx) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", -1, x.rank())?;
    let descending = Expr::Bool(c.bool_or("descending", false)?);
    let stable = Expr::Bool(c.bool_or("stable", false)?);
    Ok(Lowered::Tuple(op(
        "sort",
        [x.expr, int(dim as i64), descending, stable],
    )?))
}

fn topk(c: &Ctx) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", -1, x.rank())?;
    let k = match c.size("k")? {
        crate::manifest::Dim::Size(k) => int(k),
        k => Expr::Size(k),
    };
    let largest = Expr::Bool(c.bool_or("largest", true)?);
    let sorted = Expr::Bool(c.bool_or("sorted", true)?);
    Ok(Lowered::Tuple(op(
        "topk",
        [x.expr, k, int(dim as i64), largest, sorted],
    )?))
}
