//! Indexing, gathering, sorting.

use super::create::{of_number, truth};
use super::{Row, Rule, count, float, int, method, number, op, out_shape, size_at, some, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::{Dim, Dtype, Scalar};

pub const ROWS: &[Row] = &[
    ("aten.argsort.default", Rule::Fn(argsort)),
    ("aten.argsort.stable", Rule::Fn(argsort)),
    ("aten.bucketize.Tensor", Rule::Fn(bucketize)),
    ("aten.cummax.default", Rule::Many(|c| so_far(c, "cummax"))),
    ("aten.cummin.default", Rule::Many(|c| so_far(c, "cummin"))),
    ("aten.gather.default", Rule::Fn(gather)),
    ("aten.index.Tensor", Rule::Fn(index)),
    ("aten.index_copy.default", Rule::Fn(index_copy)),
    ("aten.index_fill.int_Scalar", Rule::Fn(index_fill)),
    ("aten.index_fill.int_Tensor", Rule::Fn(index_fill)),
    ("aten.index_put.default", Rule::Fn(index_put)),
    ("aten.index_select.default", Rule::Fn(index_select)),
    ("aten.kthvalue.default", Rule::Many(kthvalue)),
    ("aten.masked_scatter.default", Rule::Fn(masked_scatter)),
    ("aten.max.dim", Rule::Many(|c| extreme(c, "max_dim"))),
    (
        "aten.median.default",
        Rule::Fn(|c| op("median", [c.tensor("self")?.expr])),
    ),
    ("aten.median.dim", Rule::Many(|c| extreme(c, "median_dim"))),
    ("aten.min.dim", Rule::Many(|c| extreme(c, "min_dim"))),
    ("aten.one_hot.default", Rule::Fn(one_hot)),
    ("aten.scatter.src", Rule::Fn(scatter)),
    ("aten.scatter.value", Rule::Fn(scatter_value)),
    ("aten.searchsorted.Tensor", Rule::Fn(searchsorted)),
    ("aten.sort.default", Rule::Many(sort)),
    ("aten.sort.stable", Rule::Many(sort)),
    ("aten.take.default", Rule::Fn(take)),
    ("aten.take_along_dim.default", Rule::Fn(take_along_dim)),
    ("aten.topk.default", Rule::Many(topk)),
];

/// Those that compute with numbers: what several of them give can leave the range of a dtype.
pub const FOLDS: &[Row] = &[
    ("aten.index_add.default", Rule::Fn(index_add)),
    ("aten.index_reduce.default", Rule::Fn(index_reduce)),
    ("aten.scatter.reduce", Rule::Fn(scatter_reduce)),
    ("aten.scatter.value_reduce", Rule::Fn(scatter_reduce)),
    ("aten.scatter_add.default", Rule::Fn(scatter_add)),
    ("aten.scatter_reduce.two", Rule::Fn(scatter_reduce)),
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
    let indices = c.tensors_opt("indices")?;
    if let Some(chosen) = masked(c, &x, &indices)? {
        return Ok(chosen);
    }
    let indices = positions(indices)?;
    let values = c.tensor("values")?.cast(c, x.dtype);
    let accumulate = c.bool_or("accumulate", false)?;
    let args = [x.expr, indices, values, Expr::Bool(accumulate)];
    let written = op("index_put", args)?;
    Ok(match accumulate {
        true => c.wrapped(written),
        false => written,
    })
}

/// A write of one value wherever one mask holds: a choice between it and what is there.
fn masked(c: &Ctx, x: &Operand, indices: &[Option<Operand>]) -> Result<Option<Expr>, Why> {
    let Some((Some(mask), before)) = indices.split_last() else {
        return Ok(None);
    };
    let (values, within) = (c.tensor("values")?, before.len() + mask.rank());
    let one_mask = mask.dtype == Dtype::Bool && before.iter().all(Option::is_none);
    let one_value = within + values.rank() <= x.rank();
    if !one_mask || !one_value || c.bool_or("accumulate", false)? {
        return Ok(None);
    }
    let mut shape = mask.shape.to_vec();
    shape.resize(shape.len() + x.rank() - within, Dim::Size(1));
    let mask = match within < x.rank() {
        true => method(mask.expr.clone(), "reshape", [Expr::Dims(shape)])?,
        false => mask.expr.clone(),
    };
    let value = values.cast(c, x.dtype);
    op("where_", [mask, value, x.expr.clone()]).map(Some)
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
    put(c, x.expr, dim, source, true)
}

/// `source` written at rows of a dimension, or added to them.
fn put(c: &Ctx, x: Expr, dim: usize, source: Expr, accumulate: bool) -> Result<Expr, Why> {
    let mut indices = vec![Expr::None; dim];
    indices.push(some(Some(c.tensor("index")?.expr)));
    let args = [x, Expr::Slice(indices), source, Expr::Bool(accumulate)];
    op("index_put", args)
}

/// `source` written at rows of a dimension.
fn index_copy(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    put(c, x.expr, dim, c.tensor("source")?.expr, false)
}

/// `source` folded into rows of a dimension: each row's index is that of all its elements.
fn index_reduce(c: &Ctx) -> Result<Expr, Why> {
    let (x, index, source) = (c.tensor("self")?, c.tensor("index")?, c.tensor("source")?);
    let dim = c.dim("dim", x.rank())?;
    let mut along = vec![Dim::Size(1); source.rank()];
    if let (Some(size), [rows]) = (along.get_mut(dim), &index.shape[..]) {
        *size = rows.clone();
    }
    let index = method(index.expr, "reshape", [Expr::Dims(along)])?;
    let index = op("expand", [index, Expr::Shape(source.shape.to_vec())])?;
    folded(c, x.expr, dim, index, source.expr)
}

fn scatter_reduce(c: &Ctx) -> Result<Expr, Why> {
    let (x, index) = (c.tensor("self")?, c.tensor("index")?);
    let dim = c.dim("dim", x.rank())?;
    let source = match c.given("src") {
        true => c.tensor("src")?.expr,
        false => {
            let value = of_number(c, "value", x.dtype, &[])?;
            op("expand", [value, Expr::Shape(index.shape.to_vec())])?
        }
    };
    folded(c, x.expr, dim, index.expr, source)
}

/// A scatter that folds what goes to one element.
fn folded(c: &Ctx, x: Expr, dim: usize, index: Expr, source: Expr) -> Result<Expr, Why> {
    let include_self = c.bool_or("include_self", true)?;
    let narrow = [Dtype::Int8, Dtype::Int16, Dtype::Int32];
    let fold = match c.str_or("reduce", "")? {
        "add" | "sum" if include_self => {
            return op("scatter_add", [x, int(dim), index, source]);
        }
        "sum" => "Sum",
        "prod" | "multiply" => "Product",
        "mean" if narrow.contains(&c.out_dtype()) => {
            return why("the mean of narrow integers: convert to int64 first");
        }
        "mean" => "Mean",
        "amax" => "Max",
        "amin" => "Min",
        other => {
            return why(format!(
                "argument `reduce` is `{other}`, which is none of PyTorch's"
            ));
        }
    };
    let fold = Expr::Variant("Fold", fold);
    let args = [x, int(dim), index, source, fold, Expr::Bool(include_self)];
    op("scatter_reduce", args)
}

fn masked_scatter(c: &Ctx) -> Result<Expr, Why> {
    let (x, mask) = (c.tensor("self")?, c.tensor("mask")?);
    op(
        "masked_scatter",
        [x.expr, mask.expr, c.tensor("source")?.expr],
    )
}

/// Elements of the flat tensor.
fn take(c: &Ctx) -> Result<Expr, Why> {
    let flat = method(c.tensor("self")?.expr, "flatten_all", [])?;
    let index = some(Some(c.tensor("index")?.expr));
    op("index", [flat, Expr::Slice(vec![index])])
}

/// A gather in which all other dimensions broadcast.
fn take_along_dim(c: &Ctx) -> Result<Expr, Why> {
    let (x, index) = (c.tensor("self")?, c.tensor("indices")?);
    if !c.given("dim") {
        let [x, index] = [x.expr, index.expr].map(|t| method(t, "flatten_all", []));
        return op("gather", [x?, int(0), index?]);
    }
    let dim = c.dim("dim", x.rank())?;
    let mut whole = out_shape(c, 0)?.to_vec();
    let index = op("expand", [index.expr, Expr::Shape(whole.clone())])?;
    if let Some(size) = whole.get_mut(dim) {
        *size = size_at(&x, dim)?.clone();
    }
    let x = op("expand", [x.expr, Expr::Shape(whole)])?;
    op("gather", [x, int(dim), index])
}

/// One value at rows of a dimension: a write at an index.
fn index_fill(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    let value = match c.is_tensor("value") {
        true => c.tensor("value")?.cast(c, x.dtype),
        false => of_number(c, "value", x.dtype, &[])?,
    };
    put(c, x.expr, dim, value, false)
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

fn kthvalue(c: &Ctx) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim_or("dim", -1, x.rank())?);
    let keepdim = Expr::Bool(c.bool_or("keepdim", false)?);
    let both = op("kthvalue", [x.expr, count(c, "k")?, dim, keepdim])?;
    Ok(Lowered::Tuple(both, 2))
}

fn so_far(c: &Ctx, name: &'static str) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim("dim", x.rank())?);
    Ok(Lowered::Tuple(op(name, [x.expr, dim])?, 2))
}

fn bucketize(c: &Ctx) -> Result<Expr, Why> {
    let right = Expr::Bool(c.bool_or("right", false)?);
    ranks(c.tensor("boundaries")?, c.tensor("self")?, right)
}

fn searchsorted(c: &Ctx) -> Result<Expr, Why> {
    let mut bounds = c.tensor("sorted_sequence")?;
    if let Some(sorter) = c.tensor_opt("sorter")? {
        let last = int(bounds.rank().saturating_sub(1));
        bounds.expr = op("gather", [bounds.expr, last, sorter.expr])?;
    }
    let right = c.bool_or("right", false)? || c.str_or("side", "left")? == "right";
    ranks(bounds, c.tensor("self")?, Expr::Bool(right))
}

fn ranks(bounds: Operand, x: Operand, right: Expr) -> Result<Expr, Why> {
    if bounds.dtype != x.dtype {
        return why("the bounds have another dtype: cast one of both in the model");
    }
    op("searchsorted", [bounds.expr, x.expr, right])
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
