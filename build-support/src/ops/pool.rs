//! Pooling and resizing of images.

use super::{Row, Rule, int, op, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Why};
use crate::manifest::Dim;

pub const ROWS: &[Row] = &[
    (
        "aten._adaptive_avg_pool2d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool2d", 2)),
    ),
    (
        "aten.adaptive_avg_pool1d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool1d", 1)),
    ),
    (
        "aten.adaptive_avg_pool2d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool2d", 2)),
    ),
    ("aten.avg_pool1d.default", Rule::Fn(avg_pool1d)),
    ("aten.avg_pool2d.default", Rule::Fn(avg_pool2d)),
    ("aten.max_pool2d.default", Rule::Fn(max_pool2d)),
    (
        "aten.upsample_bicubic2d.vec",
        Rule::Fn(|c| interpolated(c, "upsample_bicubic2d")),
    ),
    (
        "aten.upsample_bilinear2d.vec",
        Rule::Fn(|c| interpolated(c, "upsample_bilinear2d")),
    ),
    ("aten.upsample_nearest2d.vec", Rule::Fn(upsample_nearest)),
];

fn adaptive(c: &Ctx, name: &'static str, dims: usize) -> Result<Expr, Why> {
    let sizes = c.sizes("output_size", 1, dims)?;
    let x = c.tensor("self")?.expr;
    match sizes[..] {
        [n] => op(name, [x, int(n as i64)]),
        _ => op(
            name,
            [
                x,
                Expr::Tuple(sizes.iter().map(|&n| int(n as i64)).collect()),
            ],
        ),
    }
}

fn pair(sizes: &[usize]) -> Expr {
    Expr::Tuple(sizes.iter().map(|&n| int(n as i64)).collect())
}

fn max_pool2d(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let (kernel, stride) = windows(c, 2)?;
    let (padding, dilation) = (c.sizes("padding", 0, 2)?, c.sizes("dilation", 1, 2)?);
    let ceil = Expr::Bool(c.bool_or("ceil_mode", false)?);
    let (kernel, stride) = (pair(&kernel), pair(&stride));
    op(
        "max_pool2d",
        [
            x.expr,
            kernel,
            stride,
            pair(&padding),
            pair(&dilation),
            ceil,
        ],
    )
}

fn avg_pool2d(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let (kernel, stride) = windows(c, 2)?;
    let padding = c.sizes("padding", 0, 2)?;
    let ceil = Expr::Bool(c.bool_or("ceil_mode", false)?);
    let count = Expr::Bool(c.bool_or("count_include_pad", true)?);
    let divisor = if c.given("divisor_override") {
        Expr::Some(Box::new(int(c.int("divisor_override")?)))
    } else {
        Expr::None
    };
    let (kernel, stride) = (pair(&kernel), pair(&stride));
    op(
        "avg_pool2d",
        [x.expr, kernel, stride, pair(&padding), ceil, count, divisor],
    )
}

/// The image and the size to resize it to.
///
/// PyTorch places the pixels by a given `scale_factors`, which is the ratio of the sizes only where
/// the output's size did not have to be rounded.
fn resized(c: &Ctx) -> Result<[Expr; 2], Why> {
    let x = c.tensor("input")?;
    let (from, to) = (&x.shape[2..], &c.out_shape()[2..]);
    if c.given("scale_factors") {
        for (i, (from, to)) in from.iter().zip(to).enumerate() {
            let scale = c.float_at("scale_factors", i)?;
            let exact = match (from, to) {
                (Dim::Size(from), Dim::Size(to)) => *from as f64 * scale == *to as f64,
                _ => scale.fract() == 0.0,
            };
            if !exact {
                return why(format!(
                    "scale_factors: {scale} does not divide the sizes evenly"
                ));
            }
        }
    }
    let size = to.iter().map(|d| Expr::Size(d.clone())).collect();
    Ok([x.expr, Expr::Tuple(size)])
}

fn upsample_nearest(c: &Ctx) -> Result<Expr, Why> {
    op("upsample_nearest2d", resized(c)?)
}

fn interpolated(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let [x, size] = resized(c)?;
    let corners = Expr::Bool(c.bool_or("align_corners", false)?);
    op(name, [x, size, corners])
}

fn avg_pool1d(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let (kernel, stride) = windows(c, 1)?;
    let ceil = Expr::Bool(c.bool_or("ceil_mode", false)?);
    let count = Expr::Bool(c.bool_or("count_include_pad", true)?);
    let settings = [kernel, stride, c.sizes("padding", 0, 1)?].map(|v| int(v[0] as i64));
    let [kernel, stride, padding] = settings;
    op("avg_pool1d", [x.expr, kernel, stride, padding, ceil, count])
}

/// Size and stride of the windows; the stride is the size unless given.
fn windows(c: &Ctx, dims: usize) -> Result<(Vec<usize>, Vec<usize>), Why> {
    let kernel = c.sizes("kernel_size", 1, dims)?;
    let stride = if c.given("stride") && !c.ints("stride")?.is_empty() {
        c.sizes("stride", 1, dims)?
    } else {
        kernel.clone()
    };
    Ok((kernel, stride))
}
