//! Indexing, gathering, sorting.

use super::create::{of_number, truth};
use super::{Row, Rule, count, float, int, number, op, some, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::{Dim, Dtype, Scalar};

pub const ROWS: &[Row] = &[
    ("aten.argsort.default", Rule::Fn(argsort)),
    ("aten.argsort.stable", Rule::Fn(argsort)),
    ("aten.gather.default", Rule::Fn(gather)),
    ("aten.index.Tensor", Rule::Fn(index)),
    ("aten.index_add.default", Rule::Fn(index_add)),
    ("aten.index_fill.int_Scalar", Rule::Fn(index_fill)),
    ("aten.index_fill.int_Tensor", Rule::Fn(index_fill)),
    ("aten.index_put.default", Rule::Fn(index_put)),
    ("aten.index_select.default", Rule::Fn(index_select)),
    ("aten.max.dim", Rule::Many(|c| extreme(c, "max_dim"))),
    ("aten.min.dim", Rule::Many(|c| extreme(c, "min_dim"))),
    ("aten.one_hot.default", Rule::Fn(one_hot)),
    ("aten.scatter.src", Rule::Fn(scatter)),
    ("aten.scatter.value", Rule::Fn(scatter_value)),
    ("aten.scatter_add.default", Rule::Fn(scatter_add)),
    ("aten.sort.default", Rule::Many(sort)),
    ("aten.sort.stable", Rule::Many(sort)),
    ("aten.topk.default", Rule::Many(topk)),
];

fn index(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let indices = positions(c.tensors_opt("indices")?)?;
    op("index", [x.expr, indices])
}

/// The indices, which PyTorch takes for masks when they are booleans or bytes.
fn positions(indices: Vec<Option<Operand>>) -> Result<Expr, Why> {
    let mask = |i: &Operand| matches!(i.dtype, Dtype::Bool | Dtype::Uint8);
    if indices.iter().flatten().any(mask) {
        return why(
            "indexes with a mask, and how much it picks depends on the data: use `torch.where`, `masked_fill` or integer positions",
        );
    }
    let indices = indices.into_iter().map(|i| some(i.map(|i| i.expr)));
    Ok(Expr::Slice(indices.collect()))
}

fn index_put(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let indices = positions(c.tensors_opt("indices")?)?;
    let values = c.tensor("values")?.cast(c, x.dtype);
    let accumulate = Expr::Bool(c.bool_or("accumulate", false)?);
    op("index_put", [x.expr, indices, values, accumulate])
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

fn scatter_value(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim("dim", x.rank())? as i64);
    let value = match x.dtype {
        Dtype::Bool => truth(c, "value")?,
        _ => number(c, "value")?,
    };
    let index = c.tensor("index")?.expr;
    op("scatter_value", [x.expr, dim, index, float(value)])
}

/// `source` added at rows of a dimension: an accumulating write at an index.
fn index_add(c: &Ctx) -> Result<Expr, Why> {
    let (x, source) = (c.tensor("self")?, c.tensor("source")?);
    let dim = c.dim("dim", x.rank())?;
    let alpha = match c.given("alpha") {
        true => c.scalar("alpha")?,
        false => Scalar::Int(1),
    };
    let source = match alpha {
        Scalar::Int(1) => source.expr,
        Scalar::Int(alpha) if !x.dtype.is_float() => {
            op("mul_scalar_int", [source.expr, int(alpha)])?
        }
        _ if x.dtype.is_float() => op("mul_scalar", [source.expr, float(number(c, "alpha")?)])?,
        _ => return why("argument `alpha` is a float for integers"),
    };
    let mut indices = vec![Expr::None; dim];
    indices.push(some(Some(c.tensor("index")?.expr)));
    let accumulate = Expr::Bool(true);
    op(
        "index_put",
        [x.expr, Expr::Slice(indices), source, accumulate],
    )
}

/// One value at rows of a dimension: a write at an index.
fn index_fill(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    let value = match c.is_tensor("value") {
        true => c.tensor("value")?.cast(c, x.dtype),
        false => of_number(c, "value", x.dtype, &[])?,
    };
    let mut indices = vec![Expr::None; dim];
    indices.push(some(Some(c.tensor("index")?.expr)));
    let accumulate = Expr::Bool(false);
    op(
        "index_put",
        [x.expr, Expr::Slice(indices), value, accumulate],
    )
}

fn one_hot(c: &Ctx) -> Result<Expr, Why> {
    if c.int_or("num_classes", -1)? < 0 {
        return why("the number of classes depends on the data: give `num_classes`");
    }
    op(
        "one_hot",
        [c.tensor("self")?.expr, count(c, "num_classes")?],
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
    let both = op(name, [x.expr, int(dim as i64), keepdim])?;
    Ok(Lowered::Tuple(both, 2))
}

fn order(c: &Ctx) -> Result<[Expr; 4], Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim_or("dim", -1, x.rank())? as i64);
    let flag = |name| Ok::<_, Why>(Expr::Bool(c.bool_or(name, false)?));
    Ok([x.expr, dim, flag("descending")?, flag("stable")?])
}

fn sort(c: &Ctx) -> Result<Lowered, Why> {
    Ok(Lowered::Tuple(op("sort", order(c)?)?, 2))
}

fn argsort(c: &Ctx) -> Result<Expr, Why> {
    op("argsort", order(c)?)
}

fn topk(c: &Ctx) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", -1, x.rank())?;
    let k = match c.size("k")? {
        Dim::Size(_) => count(c, "k")?,
        k => Expr::Size(k),
    };
    let largest = Expr::Bool(c.bool_or("largest", true)?);
    let sorted = Expr::Bool(c.bool_or("sorted", true)?);
    let both = op("topk", [x.expr, k, int(dim as i64), largest, sorted])?;
    Ok(Lowered::Tuple(both, 2))
}
