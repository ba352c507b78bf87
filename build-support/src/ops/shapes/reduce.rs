//! Shapes of reductions, and of what runs along a dimension.

use super::views::{with, without};
use super::{At, Given, No, Rule, Shape, one, same, wrong};

pub const RULES: &[(&str, Rule)] = &[
    ("aten._log_softmax.default", same),
    ("aten._softmax.default", same),
    ("aten.all.default", reduce),
    ("aten.all.dim", reduce),
    ("aten.amax.default", reduce),
    ("aten.amin.default", reduce),
    ("aten.aminmax.default", twice),
    ("aten.any.default", reduce),
    ("aten.any.dim", reduce),
    ("aten.argmax.default", reduce),
    ("aten.argmin.default", reduce),
    ("aten.argsort.default", same),
    ("aten.argsort.stable", same),
    ("aten.cummax.default", sort),
    ("aten.cummin.default", sort),
    ("aten.cumprod.default", same),
    ("aten.cumsum.default", same),
    ("aten.diff.default", diff),
    ("aten.glu.default", glu),
    ("aten.kthvalue.default", kthvalue),
    ("aten.linalg_vector_norm.default", reduce),
    ("aten.log_softmax.int", same),
    ("aten.logcumsumexp.default", same),
    ("aten.logsumexp.default", reduce),
    ("aten.max.default", reduce),
    ("aten.max.dim", twice),
    ("aten.mean.default", reduce),
    ("aten.mean.dim", reduce),
    ("aten.median.default", reduce),
    ("aten.median.dim", twice),
    ("aten.min.default", reduce),
    ("aten.min.dim", twice),
    ("aten.prod.default", reduce),
    ("aten.prod.dim_int", reduce),
    ("aten.softmax.int", same),
    ("aten.sort.default", sort),
    ("aten.sort.stable", sort),
    ("aten.std.correction", reduce),
    ("aten.std.default", reduce),
    ("aten.std.dim", reduce),
    ("aten.std_mean.correction", twice),
    ("aten.std_mean.dim", twice),
    ("aten.sum.default", reduce),
    ("aten.sum.dim_IntList", reduce),
    ("aten.topk.default", topk),
    ("aten.var.correction", reduce),
    ("aten.var.default", reduce),
    ("aten.var.dim", reduce),
    ("aten.var_mean.correction", twice),
    ("aten.var_mean.dim", twice),
];

/// What is left of a tensor; no dimension, or an empty list, is all of them.
fn reduced(at: &At) -> Result<Shape, No> {
    let mut x = at.shape("self")?;
    let dims = at.axes("dim", x.len())?.filter(|dims| !dims.is_empty());
    let dims = dims.unwrap_or_else(|| (0..x.len()).collect());
    if !at.flag("keepdim") {
        return Ok(without(&x, &dims));
    }
    dims.into_iter().for_each(|dim| x[dim] = 1);
    Ok(x)
}

fn reduce(at: &At) -> Given {
    one(reduced(at)?)
}

fn twice(at: &At) -> Given {
    let out = reduced(at)?;
    Ok(vec![Some(out.clone()), Some(out)])
}

fn sort(at: &At) -> Given {
    let x = at.shape("self")?;
    Ok(vec![Some(x.clone()), Some(x)])
}

fn topk(at: &At) -> Given {
    let x = at.shape("self")?;
    let (dim, k) = (at.axis("dim", -1, x.len())?, at.int("k")?);
    if k > x[dim] {
        return wrong(format!(
            "there are no {k} greatest in dimension {dim} of {x:?}"
        ));
    }
    let out = with(&x, dim, k);
    Ok(vec![Some(out.clone()), Some(out)])
}

fn kthvalue(at: &At) -> Given {
    let mut x = at.shape("self")?;
    if x.is_empty() {
        return sort(at);
    }
    let (dim, k) = (at.axis("dim", -1, x.len())?, at.int("k")?);
    if k < 1 || k > x[dim] {
        return wrong(format!(
            "there is no number {k} in dimension {dim} of {x:?}"
        ));
    }
    match at.flag("keepdim") {
        true => x[dim] = 1,
        false => drop(x.remove(dim)),
    }
    Ok(vec![Some(x.clone()), Some(x)])
}

fn glu(at: &At) -> Given {
    let x = at.shape("self")?;
    let dim = at.axis("dim", -1, x.len())?;
    match x[dim] % 2 {
        0 => one(with(&x, dim, x[dim] / 2)),
        _ => wrong(format!("dimension {dim} of {x:?} has no halves")),
    }
}

fn diff(at: &At) -> Given {
    let x = at.shape("self")?;
    let (dim, times) = (at.axis("dim", -1, x.len())?, at.int_or("n", 1)?);
    let mut length = x[dim];
    for beside in ["prepend", "append"] {
        if let Some(other) = at.shape_opt(beside)? {
            length += other.get(dim).ok_or(No::Unknown)?;
        }
    }
    one(with(&x, dim, length.saturating_sub(times).max(0)))
}
