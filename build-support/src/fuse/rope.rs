//! `x * cos + rotate_half(x) * sin` becomes one rotary embedding.

use super::{Fused, Matcher, int, is_last, size, tensor};
use crate::manifest::{Arg, Node, Source};

pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    if node.op != "aten.add.Tensor" || node.arg("alpha").is_some() {
        return None;
    }
    let (x, cos, sin) = m.either(node)?.into_iter().find_map(|(straight, turned)| {
        let straight = m.made_by(straight, &["aten.mul.Tensor"])?;
        let turned = m.made_by(turned, &["aten.mul.Tensor"])?;
        let (turned, sin) = m
            .either(turned)?
            .into_iter()
            .find_map(|(half, sin)| Some((rotate_half(m, half)?, sin)))?;
        let mut pairs = m.either(straight)?.into_iter();
        let (x, cos) = pairs.find(|(x, _)| *x == turned)?;
        Some((x, cos, sin))
    })?;
    let dtypes = [x, cos, sin].map(|s| m.graph.dtype(s));
    let last = |s| m.graph.shape(s).last().cloned();
    // The tables are repeated for the rows, and not the rows for the tables.
    if m.graph.shape(Source::Value(node.out[0])) != m.graph.shape(x) {
        return None;
    }
    if dtypes[1] != dtypes[0]
        || dtypes[2] != dtypes[0]
        || last(cos) != last(x)
        || last(sin) != last(x)
    {
        return None;
    }
    let args = vec![tensor("input", x), tensor("cos", cos), tensor("sin", sin)];
    Some(("pycandle.rope".to_owned(), args))
}

/// `x` when `source` is `cat([-x[..., d/2:], x[..., :d/2]], -1)`.
fn rotate_half(m: &Matcher, source: Source) -> Option<Source> {
    let cat = m.made_by(source, &["aten.cat.default"])?;
    let Some(Arg::List(parts)) = cat.arg("tensors") else {
        return None;
    };
    let rank = m.graph.shape(source).len();
    is_last(int(cat, "dim", 0)?, rank).then_some(())?;
    let [upper, lower] = &parts[..] else {
        return None;
    };
    let upper = m
        .made_by(upper.tensor()?, &["aten.neg.default"])?
        .tensor("self")?;
    let (x, half, end) = slice(m, upper, rank)?;
    let (y, start, middle) = slice(m, lower.tensor()?, rank)?;
    let width = size(m.graph.shape(x).last()?)?;
    (x == y && start == 0 && middle == half && 2 * half == width && end >= width).then_some(x)
}

/// Input, start and end of a slice of the last dimension, or of one of its equal parts.
fn slice(m: &Matcher, source: Source, rank: usize) -> Option<(Source, i64, i64)> {
    let slice = m.made_by(source, &["aten.slice.Tensor", "aten.split.Tensor"])?;
    is_last(int(slice, "dim", 0)?, rank).then_some(())?;
    if slice.op == "aten.split.Tensor" {
        let mut parts = slice.out.iter().map(|part| Source::Value(*part));
        let before = i64::try_from(parts.position(|part| part == source)?).ok()?;
        let width = int(slice, "split_size", 0)?;
        let start = before.checked_mul(width)?;
        return Some((slice.tensor("self")?, start, start.checked_add(width)?));
    }
    (int(slice, "step", 1)? == 1).then_some(())?;
    Some((
        slice.tensor("self")?,
        int(slice, "start", 0)?,
        int(slice, "end", i64::MAX)?,
    ))
}
