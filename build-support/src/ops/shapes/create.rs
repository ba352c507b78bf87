//! Shapes of new tensors, and of what is read or written by index.

use super::views::with;
use super::{At, Given, No, Rule, Shape, fits, is, one, same, together, wrong};
use crate::manifest::Dtype;

pub const RULES: &[(&str, Rule)] = &[
    ("aten.arange.default", arange),
    ("aten.arange.start", arange),
    ("aten.arange.start_step", arange),
    ("aten.bucketize.Tensor", ranks),
    ("aten.empty.memory_format", sized),
    ("aten.empty_like.default", same),
    ("aten.eye.default", eye),
    ("aten.fill.Scalar", same),
    ("aten.fill.Tensor", same),
    ("aten.full.default", sized),
    ("aten.full_like.default", same),
    ("aten.gather.default", gather),
    ("aten.index.Tensor", index),
    ("aten.index_add.default", index_add),
    ("aten.index_copy.default", index_add),
    ("aten.index_fill.int_Scalar", index_fill),
    ("aten.index_fill.int_Tensor", index_fill),
    ("aten.index_put.default", index_put),
    ("aten.index_reduce.default", index_add),
    ("aten.index_select.default", index_select),
    ("aten.linspace.default", linspace),
    ("aten.masked_scatter.default", masked_scatter),
    ("aten.new_empty.default", sized),
    ("aten.new_full.default", sized),
    ("aten.new_ones.default", sized),
    ("aten.new_zeros.default", sized),
    ("aten.one_hot.default", one_hot),
    ("aten.ones.default", sized),
    ("aten.ones_like.default", same),
    ("aten.scalar_tensor.default", scalar),
    ("aten.scatter.reduce", scatter),
    ("aten.scatter.src", scatter),
    ("aten.scatter.value", scatter),
    ("aten.scatter.value_reduce", scatter),
    ("aten.scatter_add.default", scatter),
    ("aten.scatter_reduce.two", scatter),
    ("aten.searchsorted.Tensor", ranks),
    ("aten.take.default", take),
    ("aten.take_along_dim.default", take_along_dim),
    ("aten.tril_indices.default", |at| triangle_indices(at, true)),
    ("aten.triu_indices.default", |at| {
        triangle_indices(at, false)
    }),
    ("aten.type_as.default", same),
    ("aten.zero.default", same),
    ("aten.zeros.default", sized),
    ("aten.zeros_like.default", same),
];

fn sized(at: &At) -> Given {
    one(at.ints("size")?)
}

fn scalar(_: &At) -> Given {
    one(Vec::new())
}

fn eye(at: &At) -> Given {
    let n = at.int("n")?;
    one(vec![n, at.int_or("m", n)?])
}

fn triangle_indices(at: &At, lower: bool) -> Given {
    let (rows, columns) = (at.int("row")?, at.int("col")?);
    let offset = at.int_or("offset", 0)?;
    if rows.max(columns) > 1 << 16 {
        return Err(No::Unknown);
    }
    let of = |row: i64| match lower {
        true => row
            .saturating_add(offset)
            .saturating_add(1)
            .clamp(0, columns),
        false => columns - row.saturating_add(offset).clamp(0, columns),
    };
    one(vec![2, (0..rows).map(of).sum()])
}

fn linspace(at: &At) -> Given {
    one(vec![at.int("steps")?])
}

fn arange(at: &At) -> Given {
    let or = |name: &str, default: f64| match at.given(name) {
        true => at.float(name),
        false => Ok(default),
    };
    let (start, end, step) = (or("start", 0.0)?, at.float("end")?, or("step", 1.0)?);
    let steps = ((end - start) / step).ceil();
    match steps.is_finite() && steps.abs() < 1e15 {
        true => one(vec![(steps as i64).max(0)]),
        false => Err(No::Unknown),
    }
}

/// An index has the rank of what it goes into, and is no larger but in `dim`.
fn inside(at: &At, what: &str, index: &[i64], x: &[i64], dim: Option<usize>) -> Result<(), No> {
    let larger = |(i, (a, b)): (usize, (&i64, &i64))| Some(i) != dim && a > b;
    let sizes = index.iter().zip(x).enumerate();
    match index.len().max(1) != x.len().max(1) || sizes.into_iter().any(larger) {
        true => wrong(format!("`{what}` is {index:?}, which is not within {x:?}")),
        false => at.shape("self").map(drop),
    }
}

fn gather(at: &At) -> Given {
    let (x, index) = (at.shape("self")?, at.shape("index")?);
    let dim = at.axis("dim", 0, x.len())?;
    inside(at, "index", &index, &x, Some(dim))?;
    one(index)
}

fn scatter(at: &At) -> Given {
    let (x, index) = (at.shape("self")?, at.shape("index")?);
    let dim = at.axis("dim", 0, x.len())?;
    inside(at, "index", &index, &x, Some(dim))?;
    if let Some(src) = at.shape_opt("src")? {
        inside(at, "index", &index, &src, None)?;
    }
    one(x)
}

/// One list of bounds, or one for each row.
fn ranks(at: &At) -> Given {
    let x = at.shape("self")?;
    let bounds = match at.given("boundaries") {
        true => at.shape("boundaries")?,
        false => at.shape("sorted_sequence")?,
    };
    is(at, "sorter", &bounds)?;
    let rows = |shape: &[i64]| shape.split_last().map(|(_, rows)| rows.to_vec());
    match rows(&bounds) {
        Some(of) if of.is_empty() || rows(&x).is_some_and(|rows| rows == of) => one(x),
        _ => wrong(format!("bounds of {bounds:?} for {x:?}")),
    }
}

fn masked_scatter(at: &At) -> Given {
    one(together(&at.shape("self")?, &at.shape("mask")?)?)
}

fn take(at: &At) -> Given {
    one(at.shape("index")?)
}

fn take_along_dim(at: &At) -> Given {
    let (mut x, mut index) = (at.shape("self")?, at.shape("indices")?);
    if !at.given("dim") {
        return one(vec![super::count(&index)?]);
    }
    let dim = at.axis("dim", 0, x.len())?;
    let Some(n) = index.get(dim).copied().filter(|_| index.len() == x.len()) else {
        return wrong(format!("`indices` is {index:?} for {x:?}"));
    };
    (x[dim], index[dim]) = (1, 1);
    one(with(&together(&x, &index)?, dim, n))
}

fn index_select(at: &At) -> Given {
    let (x, index) = (at.shape("self")?, at.shape("index")?);
    let dim = at.axis("dim", 0, x.len())?;
    match index[..] {
        [n] => one(with(&x, dim, n)),
        _ => Err(No::Unknown),
    }
}

fn index_add(at: &At) -> Given {
    let (x, index) = (at.shape("self")?, at.shape("index")?);
    let dim = at.axis("dim", 0, x.len())?;
    if let [n] = index[..] {
        is(at, "source", &with(&x, dim, n))?;
    }
    one(x)
}

fn index_fill(at: &At) -> Given {
    let x = at.shape("self")?;
    at.axis("dim", 0, x.len())?;
    one(x)
}

fn one_hot(at: &At) -> Given {
    let x = at.shape("self")?;
    one([&x[..], &[at.int("num_classes")?]].concat())
}

/// The shape of what indices pick: broadcast, in place of the dimensions that they are for, or in
/// front where those are apart.
fn picked(at: &At) -> Result<Shape, No> {
    let x = at.shape("self")?;
    let indices = at.shapes("indices")?;
    if indices.len() > x.len() {
        return Err(No::Unknown);
    }
    let mut picked: Option<Shape> = None;
    let mut places = Vec::new();
    for (dim, index) in indices.into_iter().enumerate() {
        let Some((shape, dtype)) = index else {
            continue;
        };
        if matches!(dtype, Dtype::Bool | Dtype::Uint8) {
            return match x.get(dim..dim + shape.len()) {
                Some(of) if of == shape => Err(No::Unknown),
                _ => wrong(format!("a mask is {shape:?} over {x:?}")),
            };
        }
        places.push(dim);
        picked = Some(match picked {
            Some(before) => together(&before, &shape)?,
            None => shape,
        });
    }
    let (Some(picked), Some(&first), Some(&last)) = (picked, places.first(), places.last()) else {
        return Ok(x);
    };
    let at_front = last - first + 1 != places.len();
    let kept = x
        .iter()
        .enumerate()
        .filter(|(dim, _)| !places.contains(dim));
    let mut out: Shape = kept.map(|(_, size)| *size).collect();
    let place = if at_front { 0 } else { first };
    out.splice(place..place, picked);
    Ok(out)
}

fn index(at: &At) -> Given {
    one(picked(at)?)
}

fn index_put(at: &At) -> Given {
    let values = at.shape("values")?;
    match picked(at) {
        Ok(picked) => fits("values", &values, &picked)?,
        // How much a mask picks is not known, what lies behind it is.
        Err(No::Unknown) => {
            let x = at.shape("self")?;
            let names = at.shapes("indices")?.into_iter();
            let named: usize = names.map(|i| i.map_or(1, |(shape, _)| shape.len())).sum();
            let rest = x.get(named..).unwrap_or_default();
            let n = rest.len().min(values.len());
            let last = &values[values.len() - n..];
            fits("values", last, &rest[rest.len() - n..])?;
        }
        Err(wrong) => return Err(wrong),
    }
    same(at)
}
