//! Views, joins and splits.

use super::{
    Row, Rule, count, exact_dims, float, int, ints, method, number, op, out_shape, out_size,
    signed, size_at, why,
};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::{Dim, Dtype};

pub const ROWS: &[Row] = &[
    ("aten._reshape_alias.default", Rule::Fn(reshape)),
    (
        "aten.broadcast_tensors.default",
        Rule::Many(broadcast_tensors),
    ),
    ("aten.cat.default", Rule::Fn(cat)),
    ("aten.constant_pad_nd.default", Rule::Fn(pad)),
    ("aten.diagonal.default", Rule::Fn(diagonal)),
    ("aten.diff.default", Rule::Fn(diff)),
    ("aten.expand.default", Rule::Fn(expand)),
    ("aten.flip.default", Rule::Fn(flip)),
    ("aten.meshgrid.indexing", Rule::Many(meshgrid)),
    ("aten.pad.default", Rule::Fn(pad)),
    ("aten.permute.default", Rule::Fn(permute)),
    ("aten.pixel_shuffle.default", Rule::Fn(pixel_shuffle)),
    ("aten.repeat.default", Rule::Fn(repeat)),
    (
        "aten.repeat_interleave.self_int",
        Rule::Fn(repeat_interleave),
    ),
    ("aten.roll.default", Rule::Fn(roll)),
    ("aten.select.int", Rule::Fn(select)),
    ("aten.select_scatter.default", Rule::Fn(select_scatter)),
    ("aten.slice.Tensor", Rule::Fn(slice)),
    ("aten.slice_scatter.default", Rule::Fn(slice_scatter)),
    ("aten.split.Tensor", Rule::Many(split)),
    ("aten.split_with_sizes.default", Rule::Many(split)),
    ("aten.squeeze.default", Rule::Fn(reshape)),
    ("aten.squeeze.dim", Rule::Fn(squeeze)),
    ("aten.squeeze.dims", Rule::Fn(reshape)),
    ("aten.stack.default", Rule::Fn(stack)),
    ("aten.t.default", Rule::Fn(t)),
    ("aten.tile.default", Rule::Fn(repeat)),
    ("aten.transpose.int", Rule::Fn(transpose)),
    ("aten.unbind.int", Rule::Many(unbind)),
    ("aten.unfold.default", Rule::Fn(unfold)),
    ("aten.unsqueeze.default", Rule::Fn(unsqueeze)),
    ("aten.view.default", Rule::Fn(reshape)),
];

fn reshape(c: &Ctx) -> Result<Expr, Why> {
    method(
        c.first()?.expr,
        "reshape",
        [Expr::Dims(c.out_shape().to_vec())],
    )
}

fn expand(c: &Ctx) -> Result<Expr, Why> {
    op(
        "expand",
        [c.first()?.expr, Expr::Shape(c.out_shape().to_vec())],
    )
}

fn transpose(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let (a, b) = (c.dim("dim0", x.rank())?, c.dim("dim1", x.rank())?);
    method(x.expr, "transpose", [int(a as i64), int(b as i64)])
}

fn t(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    if x.rank() < 2 {
        return Ok(x.expr);
    }
    method(x.expr, "t", [])
}

fn permute(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dims = exact_dims(c, "dims", x.rank())?;
    if dims.len() != x.rank() {
        return why(format!(
            "argument `dims` names {} of {} dimensions",
            dims.len(),
            x.rank()
        ));
    }
    let dims = dims.into_iter().map(int).collect();
    method(x.expr, "permute", [Expr::Array(dims)])
}

fn unsqueeze(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank() + 1)?;
    method(x.expr, "unsqueeze", [int(dim as i64)])
}

fn squeeze(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    method(x.expr, "squeeze", [int(dim as i64)])
}

/// A bound of a slice, as a size: wrapped when negative, clamped to the dimension.
fn bound(c: &Ctx, name: &str, default: Dim, len: &Dim) -> Result<Dim, Why> {
    if !c.given(name) {
        return Ok(default);
    }
    Ok(match (c.size(name)?, len) {
        (Dim::Size(i), _) if i == i64::MAX => len.clone(),
        (Dim::Size(i), Dim::Size(n)) => Dim::Size(if i < 0 { i + n } else { i }.clamp(0, *n)),
        (Dim::Size(0), _) => Dim::Size(0),
        (Dim::Size(i), len) if i < 0 => {
            let back = Dim::Min(vec![Dim::Size(i.saturating_neg()), len.clone()]);
            Dim::Sub(Box::new(len.clone()), Box::new(back))
        }
        (at, len) if at == *len => at,
        (at, len) => Dim::Min(vec![at, len.clone()]),
    })
}

fn slice(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", 0, x.rank())?;
    let step = positive_step(c)?;
    let len = size_at(&x, dim)?;
    let start = bound(c, "start", Dim::Size(0), len)?;
    let end = bound(c, "end", len.clone(), len)?;
    if step == 1 {
        let taken = out_size(c, 0, dim)?.clone();
        let args = [int(dim as i64), Expr::Size(start), Expr::Size(taken)];
        return method(x.expr, "narrow", args);
    }
    let bounds = [Expr::Size(start), Expr::Size(end)];
    let [start, end] = bounds;
    op("slice", [x.expr, int(dim as i64), start, end, int(step)])
}

fn select(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    match position(c, &x, dim)? {
        // Whether it counts from the end is known when the model runs.
        at if at.can_be_negative() && c.size("index")? == at => {
            op("select_at", [x.expr, int(dim as i64), Expr::SizeAsInt(at)])
        }
        at => op("select", [x.expr, int(dim as i64), Expr::Size(at)]),
    }
}

/// The `index` argument as a position, non-negative where that is known.
fn position(c: &Ctx, x: &Operand, dim: usize) -> Result<Dim, Why> {
    Ok(match (c.size("index")?, size_at(x, dim)?) {
        (Dim::Size(i), Dim::Size(n)) if i < -n || i >= *n => {
            return why(format!(
                "argument `index` is {i}, out of range for a size of {n}"
            ));
        }
        (Dim::Size(i), Dim::Size(n)) if i < 0 => Dim::Size(i + n),
        (Dim::Size(i), len) if i < 0 => {
            let back = Dim::Size(i.saturating_neg());
            Dim::Sub(Box::new(len.clone()), Box::new(back))
        }
        (at, _) => at,
    })
}

fn select_scatter(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim("dim", x.rank())?;
    let at = Expr::Size(position(c, &x, dim)?);
    let src = method(
        c.tensor("src")?.cast(c, x.dtype),
        "unsqueeze",
        [int(dim as i64)],
    )?;
    op("slice_scatter", [x.expr, src, int(dim as i64), at])
}

fn slice_scatter(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let step = positive_step(c)?;
    let dim = c.dim_or("dim", 0, x.rank())?;
    let start = bound(c, "start", Dim::Size(0), size_at(&x, dim)?)?;
    let src = c.tensor("src")?;
    if src.rank() != x.rank() {
        return why("the source has another number of dimensions");
    }
    let (source, start) = (src.cast(c, x.dtype), Expr::Size(start));
    let dim = int(dim as i64);
    match step {
        1 => op("slice_scatter", [x.expr, source, dim, start]),
        step => op(
            "slice_scatter_step",
            [x.expr, source, dim, start, int(step)],
        ),
    }
}

fn positive_step(c: &Ctx) -> Result<i64, Why> {
    match c.int_or("step", 1)? {
        step if step < 1 => why(format!("argument `step` is {step}, it has to be positive")),
        step => Ok(step),
    }
}

fn cat(c: &Ctx) -> Result<Expr, Why> {
    let parts = c.tensors("tensors")?;
    // A one-dimensional empty tensor is allowed beside any rank, for historical reasons.
    let rank = c.out_shape().len();
    let dim = c.dim_or("dim", 0, rank)?;
    let parts = parts.iter().filter(|p| p.rank() == rank);
    let parts = parts.map(|p| p.cast(c, c.out_dtype())).collect();
    op("cat", [Expr::Slice(parts), int(dim as i64)])
}

fn stack(c: &Ctx) -> Result<Expr, Why> {
    let parts = c.tensors("tensors")?;
    let dim = c.dim_or("dim", 0, c.out_shape().len())?;
    let parts = parts.iter().map(|p| p.cast(c, c.out_dtype())).collect();
    op("stack", [Expr::Slice(parts), int(dim as i64)])
}

/// Each output is a slice of the input; sizes come from the outputs' shapes.
fn split(c: &Ctx) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", 0, x.rank())?;
    let mut start = Dim::Size(0);
    let mut parts = Vec::with_capacity(c.outs());
    for i in 0..c.outs() {
        let len = out_size(c, i, dim)?.clone();
        let args = [
            int(dim as i64),
            Expr::Size(start.clone()),
            Expr::Size(len.clone()),
        ];
        parts.push((i, method(x.expr.clone(), "narrow", args)?));
        start = match (start, len) {
            (Dim::Size(a), Dim::Size(b)) => match a.checked_add(b) {
                Some(end) => Dim::Size(end),
                None => return why("the sizes of the parts are too large"),
            },
            (Dim::Size(0), b) => b,
            (a, b) => Dim::Add(vec![a, b]),
        };
    }
    Ok(Lowered::Each(parts))
}

fn unbind(c: &Ctx) -> Result<Lowered, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", 0, x.rank())?;
    let part = |i: usize| {
        let args = [x.expr.clone(), int(dim as i64), int(i as i64)];
        Ok((i, op("select", args)?))
    };
    Ok(Lowered::Each(
        (0..c.outs()).map(part).collect::<Result<_, _>>()?,
    ))
}

fn flip(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    // A tensor without dimensions may name one, and stays as it is.
    let dims = exact_dims(c, "dims", x.rank())?;
    let dims = if x.rank() == 0 { Vec::new() } else { dims };
    op("flip", [x.expr, ints(&dims)])
}

fn roll(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    // Without dimensions the tensor is rolled as if it were flat.
    let dims = if c.given("dims") {
        exact_dims(c, "dims", x.rank())?
    } else {
        Vec::new()
    };
    let shifts = match c.size("shifts") {
        Ok(one) => vec![one],
        Err(_) => c.size_list("shifts")?,
    };
    if shifts.len() != dims.len().max(1) {
        return why(format!(
            "{} shifts for {} dimensions",
            shifts.len(),
            dims.len()
        ));
    }
    let shifts = shifts.iter().map(signed).collect();
    op("roll", [x.expr, Expr::Slice(shifts), ints(&dims)])
}

fn repeat(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let name = if c.given("repeats") {
        "repeats"
    } else {
        "dims"
    };
    let given = c.size_list(name)?;
    // Fewer counts than dimensions are those of the last dimensions.
    let mut repeats = vec![int(1_i64); out_shape(c, 0)?.len().saturating_sub(given.len())];
    for count in given {
        repeats.push(match count {
            Dim::Size(n) if n < 0 => {
                return why(format!(
                    "argument `{name}` holds {n}, it cannot be negative"
                ));
            }
            Dim::Size(n) => int(n),
            size => Expr::Size(size),
        });
    }
    op("repeat", [x.expr, Expr::Slice(repeats)])
}

fn repeat_interleave(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = if c.given("dim") {
        Expr::Some(Box::new(int(c.dim("dim", x.rank())? as i64)))
    } else {
        Expr::None
    };
    let repeats = match c.size("repeats")? {
        Dim::Size(_) => count(c, "repeats")?,
        open => Expr::Size(open),
    };
    op("repeat_interleave", [x.expr, repeats, dim])
}

/// Padding is given last dimension first; the runtime takes one pair per dimension.
fn pad(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let pad = c.size_list("pad")?;
    if !pad.len().is_multiple_of(2) || pad.len() > 2 * x.rank() {
        return why(format!(
            "argument `pad` has {} numbers for {} dimensions",
            pad.len(),
            x.rank()
        ));
    }
    let mut pairs = vec![Expr::Tuple(vec![int(0), int(0)]); x.rank()];
    for (i, pair) in pad.chunks_exact(2).enumerate() {
        pairs[x.rank() - 1 - i] = Expr::Tuple(pair.iter().map(signed).collect());
    }
    let pairs = Expr::Slice(pairs);
    match c.str_or("mode", "constant")? {
        "constant" => {
            let value = match c.given("value") {
                true => number(c, "value")?,
                false => 0.0,
            };
            op("pad", [x.expr, pairs, float(value)])
        }
        "reflect" => op("pad_reflect", [x.expr, pairs]),
        "replicate" => op("pad_replicate", [x.expr, pairs]),
        "circular" => op("pad_circular", [x.expr, pairs]),
        mode => why(format!("mode=\"{mode}\" is none of PyTorch's")),
    }
}

fn diff(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    if c.int_or("n", 1)? != 1 {
        return why("argument `n` is not 1: call `diff` several times");
    }
    let dim = c.dim_or("dim", -1, x.rank())?;
    let beside = |name| Ok::<_, Why>(c.tensor_opt(name)?.map(|p| p.cast(c, x.dtype)));
    let joined = match (beside("prepend")?, beside("append")?) {
        (None, None) => x.expr,
        (before, after) => {
            let parts = before.into_iter().chain([x.expr]).chain(after);
            op("cat", [Expr::Slice(parts.collect()), int(dim)])?
        }
    };
    let name = match x.dtype {
        Dtype::Bool => "diff_bool",
        _ => "diff",
    };
    op(name, [joined, int(1), int(dim)])
}

fn pixel_shuffle(c: &Ctx) -> Result<Expr, Why> {
    op(
        "pixel_shuffle",
        [c.tensor("self")?.expr, count(c, "upscale_factor")?],
    )
}

fn diagonal(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let (a, b) = (
        c.dim_or("dim1", 0, x.rank())?,
        c.dim_or("dim2", 1, x.rank())?,
    );
    let offset = int(c.int_or("offset", 0)?);
    op("diagonal", [x.expr, offset, int(a as i64), int(b as i64)])
}

fn unfold(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = int(c.dim("dimension", x.rank())? as i64);
    op(
        "unfold",
        [x.expr, dim, count(c, "size")?, count(c, "step")?],
    )
}

/// Every tensor, expanded to the shape of all.
fn broadcast_tensors(c: &Ctx) -> Result<Lowered, Why> {
    let part = |(i, x): (usize, Operand)| {
        let shape = Expr::Shape(out_shape(c, i)?.to_vec());
        Ok((i, op("expand", [x.expr, shape])?))
    };
    let parts = c.tensors("tensors")?.into_iter().enumerate().map(part);
    Ok(Lowered::Each(parts.collect::<Result<_, _>>()?))
}

/// Each vector along a dimension of its own, repeated along the others.
fn meshgrid(c: &Ctx) -> Result<Lowered, Why> {
    let swapped = c.str_or("indexing", "ij")? == "xy";
    let part = |(i, x): (usize, Operand)| {
        let shape = out_shape(c, i)?;
        let at = if swapped && i < 2 && shape.len() > 1 {
            1 - i
        } else {
            i
        };
        let mut own = vec![Dim::Size(1); shape.len()];
        match own.get_mut(at) {
            Some(size) => *size = out_size(c, i, at)?.clone(),
            None => return why(format!("the output has no dimension {at}")),
        }
        let x = method(x.expr, "reshape", [Expr::Dims(own)])?;
        Ok((i, op("expand", [x, Expr::Shape(shape.to_vec())])?))
    };
    let tensors = c.tensors("tensors")?;
    if tensors.len() != c.outs() {
        return why(format!(
            "takes {} tensors and returns {}",
            tensors.len(),
            c.outs()
        ));
    }
    let parts = tensors.into_iter().enumerate().map(part);
    Ok(Lowered::Each(parts.collect::<Result<_, _>>()?))
}
