//! Elements in another order: mirrored, turned, and between channels and space.

use super::{Row, Rule, count, int, ints, method, op, size_at, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Why};
use crate::manifest::Dim;

pub const ROWS: &[Row] = &[
    ("aten.channel_shuffle.default", Rule::Fn(channel_shuffle)),
    ("aten.fliplr.default", Rule::Fn(|c| mirrored(c, 1))),
    ("aten.flipud.default", Rule::Fn(|c| mirrored(c, 0))),
    ("aten.pixel_unshuffle.default", Rule::Fn(pixel_unshuffle)),
    ("aten.rot90.default", Rule::Fn(rot90)),
];

fn mirrored(c: &Ctx, dim: usize) -> Result<Expr, Why> {
    op("flip", [c.tensor("self")?.expr, ints(&[dim])])
}

fn pixel_unshuffle(c: &Ctx) -> Result<Expr, Why> {
    let factor = count(c, "downscale_factor")?;
    op("pixel_unshuffle", [c.tensor("self")?.expr, factor])
}

/// The channels of all groups, one of each at a time.
fn channel_shuffle(c: &Ctx) -> Result<Expr, Why> {
    let (x, groups) = (c.tensor("self")?, c.int("groups")?);
    let &Dim::Size(channels) = size_at(&x, 1)? else {
        return why("the number of channels is symbolic");
    };
    if groups < 1 || channels % groups != 0 {
        return why(format!("{channels} channels are no {groups} groups"));
    }
    let mut split = x.shape.to_vec();
    split.splice(1..2, [Dim::Size(groups), Dim::Size(channels / groups)]);
    let whole = Expr::Dims(x.shape.to_vec());
    let x = method(x.expr, "reshape", [Expr::Dims(split)])?;
    let x = method(x, "transpose", [int(1), int(2)])?;
    method(x, "reshape", [whole])
}

/// Quarters of a turn, from the first of two dimensions to the second.
fn rot90(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dims = match c.given("dims") {
        true => c.dims("dims", x.rank())?,
        false => vec![0, 1],
    };
    let [from, to] = dims[..] else {
        return why(format!("turns in {} dimensions, expected two", dims.len()));
    };
    let turned = |x| method(x, "transpose", [int(from), int(to)]);
    match c.int_or("k", 1)?.rem_euclid(4) {
        0 => Ok(x.expr),
        1 => turned(op("flip", [x.expr, ints(&[to])])?),
        2 => op("flip", [x.expr, ints(&[from, to])]),
        _ => op("flip", [turned(x.expr)?, ints(&[to])]),
    }
}
