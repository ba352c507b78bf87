//! Pooling and resizing of images.

use super::{Row, Rule, int, one_or_tuple, op, out_shape, why};
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
    op(name, [c.tensor("self")?.expr, one_or_tuple(&sizes)])
}

fn max_pool2d(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let (kernel, stride) = windows(c, 2)?;
    let (padding, dilation) = (c.sizes("padding", 0, 2)?, c.sizes("dilation", 1, 2)?);
    let ceil = Expr::Bool(c.bool_or("ceil_mode", false)?);
    let (kernel, stride) = (one_or_tuple(&kernel), one_or_tuple(&stride));
    op(
        "max_pool2d",
        [
            x.expr,
            kernel,
            stride,
            one_or_tuple(&padding),
            one_or_tuple(&dilation),
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
    let (kernel, stride) = (one_or_tuple(&kernel), one_or_tuple(&stride));
    op(
        "avg_pool2d",
        [
            x.expr,
            kernel,
            stride,
            one_or_tuple(&padding),
            ceil,
            count,
            divisor,
        ],
    )
}

/// The image and the size to resize it to.
///
/// PyTorch places the pixels by a given `scale_factors`, which is the ratio of the sizes only where
/// the output's size did not have to be rounded.
fn resized(c: &Ctx) -> Result<[Expr; 2], Why> {
    let x = c.tensor("input")?;
    let ([_, _, from @ ..], [_, _, to @ ..]) = (&x.shape[..], out_shape(c, 0)?) else {
        return why("the input is not a batch of images with channels");
    };
    if c.given("scale_factors") {
        for (i, (from, to)) in from.iter().zip(to).enumerate() {
            let scale = c.float_at("scale_factors", i)?;
            let exact = match (from, to) {
                (Dim::Size(from), Dim::Size(to)) => *from as f64 * scale == *to as f64,
                _ => scale.fract() == 0.0,
            };
            if !exact {
                return why(format!(
                    "the scale factor {scale} does not give whole sizes: give `size` instead"
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
    let settings = [kernel, stride, c.sizes("padding", 0, 1)?].map(|v| one_or_tuple(&v));
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
