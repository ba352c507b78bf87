//! Shapes of views, of parts and of what is moved around.

use super::samples::floor_div;
use super::{At, Given, No, Rule, Shape, count, fits, one, same, wrong};

pub const RULES: &[(&str, Rule)] = &[
    ("aten._reshape_alias.default", view),
    ("aten.channel_shuffle.default", same),
    ("aten.constant_pad_nd.default", pad),
    ("aten.diagonal.default", diagonal),
    ("aten.expand.default", expand),
    ("aten.flip.default", same),
    ("aten.fliplr.default", same),
    ("aten.flipud.default", same),
    ("aten.pad.default", pad),
    ("aten.permute.default", permute),
    ("aten.pixel_shuffle.default", pixel_shuffle),
    ("aten.pixel_unshuffle.default", pixel_unshuffle),
    ("aten.repeat.default", repeat),
    ("aten.repeat_interleave.self_int", repeat_interleave),
    ("aten.roll.default", same),
    ("aten.rot90.default", rot90),
    ("aten.select.int", select),
    ("aten.select_scatter.default", select_scatter),
    ("aten.slice.Tensor", slice),
    ("aten.slice_scatter.default", slice_scatter),
    ("aten.split.Tensor", split),
    ("aten.split_with_sizes.default", split_with_sizes),
    ("aten.squeeze.default", squeeze),
    ("aten.squeeze.dim", squeeze),
    ("aten.squeeze.dims", squeeze),
    ("aten.t.default", t),
    ("aten.tile.default", repeat),
    ("aten.transpose.int", transpose),
    ("aten.tril.default", same),
    ("aten.triu.default", same),
    ("aten.unbind.int", unbind),
    ("aten.unfold.default", unfold),
    ("aten.unsqueeze.default", unsqueeze),
    ("aten.view.default", view),
];

fn view(at: &At) -> Given {
    let (x, mut size) = (at.shape("self")?, at.ints("size")?);
    let total = count(&x)?;
    if let Some(open) = size.iter().position(|&n| n == -1) {
        size[open] = 1;
        size[open] = match count(&size)? {
            known if known > 0 && total % known == 0 => total / known,
            _ => return wrong(format!("{x:?} cannot be viewed as `size` asks for")),
        };
    }
    match size.iter().any(|&n| n < 0) || count(&size)? != total {
        true => wrong(format!("{x:?} cannot be viewed as {size:?}")),
        false => one(size),
    }
}

fn expand(at: &At) -> Given {
    let (x, mut size) = (at.shape("self")?, at.ints("size")?);
    let Some(new) = size.len().checked_sub(x.len()) else {
        return wrong(format!("{x:?} cannot be expanded to {size:?}"));
    };
    for (i, n) in size.iter_mut().enumerate() {
        if *n == -1 && i >= new {
            *n = x[i - new];
        }
    }
    fits("self", &x, &size)?;
    one(size)
}

fn pad(at: &At) -> Given {
    let (mut x, pad) = (at.shape("self")?, at.ints("pad")?);
    if pad.len() % 2 != 0 || pad.len() / 2 > x.len() {
        return Err(No::Unknown);
    }
    for (size, sides) in x.iter_mut().rev().zip(pad.chunks(2)) {
        let padded = size
            .checked_add(sides[0])
            .and_then(|n| n.checked_add(sides[1]));
        *size = padded.ok_or(No::Unknown)?;
    }
    one(x)
}

fn diagonal(at: &At) -> Given {
    let x = at.shape("self")?;
    let (a, b) = (at.axis("dim1", 0, x.len())?, at.axis("dim2", 1, x.len())?);
    let offset = at.int_or("offset", 0)?;
    let (rows, columns) = match offset {
        0.. => (x[a], x[b].saturating_sub(offset)),
        _ => (x[a].saturating_add(offset), x[b]),
    };
    let mut out = without(&x, &[a, b]);
    out.push(rows.min(columns).max(0));
    one(out)
}

fn permute(at: &At) -> Given {
    let x = at.shape("self")?;
    let dims = at.axes("dims", x.len())?.ok_or(No::Unknown)?;
    let mut sorted = dims.clone();
    sorted.sort_unstable();
    match sorted.into_iter().eq(0..x.len()) {
        true => one(dims.into_iter().map(|dim| x[dim]).collect()),
        false => wrong(format!(
            "`dims` does not name each of {} dimensions once",
            x.len()
        )),
    }
}

fn transpose(at: &At) -> Given {
    let mut x = at.shape("self")?;
    let (a, b) = (at.axis("dim0", 0, x.len())?, at.axis("dim1", 1, x.len())?);
    x.swap(a, b);
    one(x)
}

fn t(at: &At) -> Given {
    let mut x = at.shape("self")?;
    x.reverse();
    match x.len() {
        0..=2 => one(x),
        _ => Err(No::Unknown),
    }
}

fn pixel_unshuffle(at: &At) -> Given {
    let (mut x, factor) = (at.shape("self")?, at.int("downscale_factor")?);
    let [.., channels, height, width] = &mut x[..] else {
        return Err(No::Unknown);
    };
    if factor < 1 || *height % factor != 0 || *width % factor != 0 {
        return wrong(format!("{height} by {width} cannot be divided by {factor}"));
    }
    let all = factor
        .checked_mul(factor)
        .and_then(|n| n.checked_mul(*channels));
    *channels = all.ok_or(No::Unknown)?;
    (*height, *width) = (*height / factor, *width / factor);
    one(x)
}

fn rot90(at: &At) -> Given {
    let mut x = at.shape("self")?;
    let dims = at.axes("dims", x.len())?.unwrap_or_else(|| vec![0, 1]);
    match dims[..] {
        [a, b] if a.max(b) < x.len() => {
            if at.int_or("k", 1)? % 2 != 0 {
                x.swap(a, b);
            }
            one(x)
        }
        _ => Err(No::Unknown),
    }
}

fn pixel_shuffle(at: &At) -> Given {
    let (mut x, factor) = (at.shape("self")?, at.int("upscale_factor")?);
    let square = factor.checked_mul(factor).filter(|&n| n > 0);
    let square = square.ok_or(No::Unknown)?;
    let [.., channels, height, width] = &mut x[..] else {
        return Err(No::Unknown);
    };
    if *channels % square != 0 {
        return wrong(format!("{channels} channels are no multiple of {square}"));
    }
    *channels /= square;
    *height = height.checked_mul(factor).ok_or(No::Unknown)?;
    *width = width.checked_mul(factor).ok_or(No::Unknown)?;
    one(x)
}

fn repeat(at: &At) -> Given {
    let x = at.shape("self")?;
    let name = if at.given("repeats") {
        "repeats"
    } else {
        "dims"
    };
    let mut times = at.ints(name)?;
    if name == "dims" {
        while times.len() < x.len() {
            times.insert(0, 1);
        }
    }
    let Some(new) = times.len().checked_sub(x.len()) else {
        return Err(No::Unknown);
    };
    for (n, size) in times[new..].iter_mut().zip(&x) {
        *n = n.checked_mul(*size).ok_or(No::Unknown)?;
    }
    one(times)
}

fn repeat_interleave(at: &At) -> Given {
    let (mut x, times) = (at.shape("self")?, at.int("repeats")?);
    if !at.given("dim") {
        return one(vec![count(&x)?.checked_mul(times).ok_or(No::Unknown)?]);
    }
    let dim = at.axis("dim", 0, x.len())?;
    x[dim] = x[dim].checked_mul(times).ok_or(No::Unknown)?;
    one(x)
}

fn select(at: &At) -> Given {
    let x = at.shape("self")?;
    let dim = at.axis("dim", 0, x.len())?;
    one(without(&x, &[dim]))
}

fn select_scatter(at: &At) -> Given {
    let x = at.shape("self")?;
    let dim = at.axis("dim", 0, x.len())?;
    fits("src", &at.shape("src")?, &without(&x, &[dim]))?;
    one(x)
}

/// The shape of a slice of `x`.
fn sliced(at: &At, mut x: Shape) -> Result<Shape, No> {
    let dim = at.axis("dim", 0, x.len())?;
    let n = x[dim];
    let bound = |name: &str, default: i64| -> Result<i64, No> {
        let at = at.int_or(name, default)?;
        Ok(if at < 0 { at.saturating_add(n) } else { at }.clamp(0, n))
    };
    let (start, end, step) = (bound("start", 0)?, bound("end", n)?, at.int_or("step", 1)?);
    if step < 1 {
        return Err(No::Unknown);
    }
    let length = (end - start).max(0);
    x[dim] = length / step + i64::from(length % step != 0);
    Ok(x)
}

fn slice(at: &At) -> Given {
    one(sliced(at, at.shape("self")?)?)
}

fn slice_scatter(at: &At) -> Given {
    let x = at.shape("self")?;
    fits("src", &at.shape("src")?, &sliced(at, x.clone())?)?;
    one(x)
}

fn split(at: &At) -> Given {
    let x = at.shape("self")?;
    let (dim, size) = (at.axis("dim", 0, x.len())?, at.int("split_size")?);
    if size < 1 {
        return Err(No::Unknown);
    }
    let listed = i64::try_from(at.node.out.len()).map_err(|_| No::Unknown)?;
    let parts = (x[dim] / size + i64::from(x[dim] % size != 0)).max(1);
    if parts != listed {
        return wrong(format!(
            "{x:?} in parts of {size} gives {parts} tensors, not {listed}"
        ));
    }
    let part = |i: i64| (x[dim] - i * size).min(size);
    Ok((0..parts).map(|i| Some(with(&x, dim, part(i)))).collect())
}

fn split_with_sizes(at: &At) -> Given {
    let x = at.shape("self")?;
    let (dim, sizes) = (at.axis("dim", 0, x.len())?, at.ints("split_sizes")?);
    let total = sizes.iter().try_fold(0_i64, |n, &size| n.checked_add(size));
    if total != Some(x[dim]) {
        return wrong(format!(
            "{sizes:?} do not add up to dimension {dim} of {x:?}"
        ));
    }
    Ok(sizes.iter().map(|&n| Some(with(&x, dim, n))).collect())
}

fn unbind(at: &At) -> Given {
    let x = at.shape("self")?;
    let dim = at.axis("dim", 0, x.len())?;
    let listed = at.node.out.len();
    if usize::try_from(x[dim]) != Ok(listed) {
        return wrong(format!(
            "dimension {dim} of {x:?} gives {} tensors, not {listed}",
            x[dim]
        ));
    }
    Ok(vec![Some(without(&x, &[dim])); listed])
}

fn squeeze(at: &At) -> Given {
    let x = at.shape("self")?;
    let dims = match at.axes("dim", x.len())? {
        Some(dims) => dims,
        None => (0..x.len()).collect(),
    };
    let gone: Vec<usize> = dims.into_iter().filter(|&dim| x[dim] == 1).collect();
    one(without(&x, &gone))
}

fn unsqueeze(at: &At) -> Given {
    let mut x = at.shape("self")?;
    let dim = at.axis("dim", 0, x.len() + 1)?;
    x.insert(dim, 1);
    one(x)
}

fn unfold(at: &At) -> Given {
    let mut x = at.shape("self")?;
    let dim = at.axis("dimension", 0, x.len())?;
    let (size, step) = (at.int("size")?, at.int("step")?);
    let windows = x[dim].checked_sub(size).and_then(|n| floor_div(n, step));
    match windows {
        Some(n @ 0..) if step > 0 => x[dim] = n + 1,
        _ => return wrong(format!("dimension {dim} of {x:?} has no window of {size}")),
    }
    x.push(size);
    one(x)
}

/// `x` with another size in one dimension.
pub fn with(x: &[i64], dim: usize, size: i64) -> Shape {
    let mut out = x.to_vec();
    out[dim] = size;
    out
}

/// `x` without some dimensions.
pub fn without(x: &[i64], dims: &[usize]) -> Shape {
    let kept = x.iter().enumerate().filter(|(i, _)| !dims.contains(i));
    kept.map(|(_, size)| *size).collect()
}
