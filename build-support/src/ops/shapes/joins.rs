//! Shapes of what is made of several tensors: joins, products and sums over named dimensions.

use std::collections::BTreeMap;

use super::views::with;
use super::{At, Given, No, Rule, Shape, broadcast, fits, is, one, together, wrong};

pub const RULES: &[(&str, Rule)] = &[
    ("aten.addcdiv.default", broadcast),
    ("aten.addcmul.default", broadcast),
    ("aten.addmm.default", addmm),
    ("aten.baddbmm.default", baddbmm),
    ("aten.bilinear.default", bilinear),
    ("aten.bmm.default", bmm),
    ("aten.broadcast_tensors.default", broadcast_tensors),
    ("aten.cat.default", cat),
    ("aten.cdist.default", cdist),
    ("aten.cosine_similarity.default", cosine_similarity),
    ("aten.dot.default", dot),
    ("aten.einsum.default", einsum),
    ("aten.linear.default", linear),
    ("aten.matmul.default", matmul),
    ("aten.meshgrid.indexing", meshgrid),
    ("aten.mm.default", mm),
    ("aten.mv.default", mv),
    ("aten.outer.default", outer),
    ("aten.pairwise_distance.default", pairwise_distance),
    (
        "aten.scaled_dot_product_attention.default",
        scaled_dot_product_attention,
    ),
    ("aten.stack.default", stack),
    ("aten.vdot.default", dot),
];

fn cat(at: &At) -> Given {
    // PyTorch joins an empty vector with anything.
    let parts: Vec<Shape> = at.list("tensors")?;
    let mut parts = parts.iter().filter(|part| **part != [0]);
    let Some(first) = parts.next() else {
        return one(vec![0]);
    };
    let dim = at.axis("dim", 0, first.len())?;
    let mut length = first[dim];
    for part in parts {
        if part.len() != first.len() || with(part, dim, 0) != with(first, dim, 0) {
            return wrong(format!(
                "{first:?} and {part:?} do not join in dimension {dim}"
            ));
        }
        length = length.checked_add(part[dim]).ok_or(No::Unknown)?;
    }
    one(with(first, dim, length))
}

fn stack(at: &At) -> Given {
    let parts = at.list("tensors")?;
    let first = parts.first().ok_or(No::Unknown)?;
    if let Some(other) = parts.iter().find(|part| *part != first) {
        return wrong(format!("{first:?} and {other:?} cannot be stacked"));
    }
    let dim = at.axis("dim", 0, first.len() + 1)?;
    let mut out = first.clone();
    out.insert(dim, i64::try_from(parts.len()).map_err(|_| No::Unknown)?);
    one(out)
}

fn meshgrid(at: &At) -> Given {
    let parts = at.list("tensors")?;
    let mut out = Vec::new();
    for part in &parts {
        match part[..] {
            [] => out.push(1),
            [n] => out.push(n),
            _ => return Err(No::Unknown),
        }
    }
    if at.text("indexing") == Some("xy") && out.len() > 1 {
        out.swap(0, 1);
    }
    Ok(vec![Some(out); parts.len()])
}

fn broadcast_tensors(at: &At) -> Given {
    let parts = at.list("tensors")?;
    let whole = parts.iter().try_fold(Vec::new(), |a, b| together(&a, b))?;
    Ok(vec![Some(whole); parts.len()])
}

/// The product of two matrices, or of two batches of them.
fn product(a: &[i64], b: &[i64]) -> Result<Shape, No> {
    let no = || wrong(format!("{a:?} cannot be multiplied by {b:?}"));
    match (a, b) {
        ([.., m, k], [.., l, n]) if k == l => {
            let (batch, other) = (&a[..a.len() - 2], &b[..b.len() - 2]);
            let Ok(mut out) = together(batch, other) else {
                return no();
            };
            out.extend([*m, *n]);
            Ok(out)
        }
        _ => no(),
    }
}

fn matmul(at: &At) -> Given {
    let (a, b) = (at.shape("self")?, at.shape("other")?);
    if a.is_empty() || b.is_empty() {
        return Err(No::Unknown);
    }
    let (row, column) = (a.len() == 1, b.len() == 1);
    let left = if row { vec![1, a[0]] } else { a };
    let right = if column { vec![b[0], 1] } else { b };
    let mut out = product(&left, &right)?;
    if column {
        out.pop();
    }
    if row {
        let at = out.len() - usize::from(!column) - 1;
        out.remove(at);
    }
    one(out)
}

fn ranked(at: &At, names: [&str; 2], rank: usize) -> Result<Shape, No> {
    let (a, b) = (at.shape(names[0])?, at.shape(names[1])?);
    let batch = rank - 2;
    if a.len() != rank || b.len() != rank || a[..batch] != b[..batch] {
        return wrong(format!("{a:?} cannot be multiplied by {b:?}"));
    }
    product(&a, &b)
}

fn mm(at: &At) -> Given {
    one(ranked(at, ["self", "mat2"], 2)?)
}

fn bmm(at: &At) -> Given {
    one(ranked(at, ["self", "mat2"], 3)?)
}

fn dot(at: &At) -> Given {
    let [a, b] = pair(at)?;
    match (&a[..], &b[..]) {
        ([n], [m]) if n == m => one(Vec::new()),
        _ => wrong(format!("{a:?} cannot be multiplied by {b:?}")),
    }
}

fn mv(at: &At) -> Given {
    let [a, b] = pair(at)?;
    match (&a[..], &b[..]) {
        ([rows, n], [m]) if n == m => one(vec![*rows]),
        _ => wrong(format!("{a:?} cannot be multiplied by {b:?}")),
    }
}

fn outer(at: &At) -> Given {
    let [a, b] = pair(at)?;
    match (&a[..], &b[..]) {
        ([n], [m]) => one(vec![*n, *m]),
        _ => wrong(format!("{a:?} and {b:?} are not both vectors")),
    }
}

/// The shapes of an op's two tensors.
fn pair(at: &At) -> Result<[Shape; 2], No> {
    at.all()?.try_into().map_err(|_| No::Unknown)
}

fn addmm(at: &At) -> Given {
    let out = ranked(at, ["mat1", "mat2"], 2)?;
    fits("self", &at.shape("self")?, &out)?;
    one(out)
}

fn baddbmm(at: &At) -> Given {
    let out = ranked(at, ["batch1", "batch2"], 3)?;
    fits("self", &at.shape("self")?, &out)?;
    one(out)
}

fn bilinear(at: &At) -> Given {
    let (x, y, weight) = (
        at.shape("input1")?,
        at.shape("input2")?,
        at.shape("weight")?,
    );
    match (&x[..], &y[..], &weight[..]) {
        ([batch @ .., n], [other @ .., m], [out, k, l]) if batch == other && [n, m] == [k, l] => {
            is(at, "bias", &[*out])?;
            one([batch, &[*out]].concat())
        }
        _ => wrong(format!(
            "the inputs are {x:?} and {y:?}, `weight` is {weight:?}"
        )),
    }
}

fn cdist(at: &At) -> Given {
    let [a, b] = pair(at)?;
    match (&a[..], &b[..]) {
        ([batch @ .., n, k], [other @ .., m, l]) if k == l => {
            let mut out = together(batch, other)?;
            out.extend([*n, *m]);
            one(out)
        }
        _ => wrong(format!("{a:?} and {b:?} are not rows of one length")),
    }
}

fn cosine_similarity(at: &At) -> Given {
    let [a, b] = pair(at)?;
    let mut out = together(&a, &b)?;
    let dim = at.axis("dim", 1, out.len())?;
    out.remove(dim);
    one(out)
}

fn pairwise_distance(at: &At) -> Given {
    let [a, b] = pair(at)?;
    let mut out = together(&a, &b)?;
    match (out.pop(), at.flag("keepdim")) {
        (None, _) => Err(No::Unknown),
        (_, true) => one([&out[..], &[1]].concat()),
        (_, false) => one(out),
    }
}

fn linear(at: &At) -> Given {
    let (x, weight) = (at.shape("input")?, at.shape("weight")?);
    let (Some((width, batch)), Some((of, outputs))) = (x.split_last(), weight.split_last()) else {
        return Err(No::Unknown);
    };
    if width != of || outputs.len() > 1 {
        return wrong(format!(
            "`input` is {x:?} and `weight` {weight:?}: their last dimensions are not one"
        ));
    }
    let mut out = batch.to_vec();
    out.extend(outputs);
    if let Some(bias) = at.shape_opt("bias")? {
        fits("bias", &bias, outputs)?;
    }
    one(out)
}

fn scaled_dot_product_attention(at: &At) -> Given {
    let (q, k, v) = (at.shape("query")?, at.shape("key")?, at.shape("value")?);
    let ([.., queries, width], [.., keys, of], [.., values, out]) = (&q[..], &k[..], &v[..]) else {
        return Err(No::Unknown);
    };
    if width != of || keys != values {
        return wrong(format!("`query` is {q:?}, `key` {k:?} and `value` {v:?}"));
    }
    let batch = |x: &[i64]| x[..x.len() - 2].to_vec();
    let (mut of_keys, mut of_values) = (batch(&k), batch(&v));
    if at.flag("enable_gqa") {
        for heads in [&mut of_keys, &mut of_values] {
            match (batch(&q).last(), heads.last_mut()) {
                (Some(&all), Some(some)) if *some > 0 && all % *some == 0 => *some = all,
                _ => return wrong(format!("`query` is {q:?}, `key` {k:?} and `value` {v:?}")),
            }
        }
    }
    let mut whole = together(&together(&batch(&q), &of_keys)?, &of_values)?;
    let mut scores = whole.clone();
    scores.extend([*queries, *keys]);
    if let Some(mask) = at.shape_opt("attn_mask")? {
        fits("attn_mask", &mask, &scores)?;
    }
    whole.extend([*queries, *out]);
    one(whole)
}

fn einsum(at: &At) -> Given {
    let equation: String = at.text("equation").ok_or(No::Unknown)?.replace(' ', "");
    let (terms, result) = match equation.split_once("->") {
        Some((terms, result)) => (terms, Some(result)),
        None => (equation.as_str(), None),
    };
    let tensors = at.list("tensors")?;
    if terms.split(',').count() != tensors.len() {
        return Err(No::Unknown);
    }
    let mut sizes: BTreeMap<char, i64> = BTreeMap::new();
    // What the ellipses stand for, broadcast.
    let mut rest: Shape = Vec::new();
    for (term, shape) in terms.split(',').zip(&tensors) {
        let (before, after) = term.split_once("...").unwrap_or((term, ""));
        let (head, tail) = (before.chars().count(), after.chars().count());
        let open = shape.len().checked_sub(head + tail);
        let Some(open) = open.filter(|&n| n == 0 || term.contains("...")) else {
            return wrong(format!(
                "`{term}` does not name the dimensions of {shape:?}"
            ));
        };
        rest = together(&rest, &shape[head..head + open])?;
        let named = shape[..head].iter().chain(&shape[head + open..]);
        for (name, &size) in before.chars().chain(after.chars()).zip(named) {
            let known = sizes.entry(name).or_insert(size);
            match (*known, size) {
                (a, b) if a == b || b == 1 => {}
                (1, _) => *known = size,
                (a, b) => return wrong(format!("`{name}` of `{equation}` is both {a} and {b}")),
            }
        }
    }
    // Without a result it is the ellipsis, then each name that is there once, in order.
    let once = |name: &&char| terms.matches(**name).count() == 1;
    let implied = || format!("...{}", sizes.keys().filter(once).collect::<String>());
    let result = result.map_or_else(implied, str::to_owned);
    let of = |names: &str| -> Result<Shape, No> {
        let sizes = names.chars().map(|name| sizes.get(&name).copied());
        sizes.collect::<Option<_>>().ok_or(No::Unknown)
    };
    one(match result.split_once("...") {
        Some((before, after)) => [of(before)?, rest, of(after)?].concat(),
        None => of(&result)?,
    })
}

/// Whether weight and bias of a norm over some sizes have them.
pub fn affine(at: &At, sizes: &[i64]) -> Result<(), No> {
    is(at, "weight", sizes)?;
    is(at, "bias", sizes)
}
