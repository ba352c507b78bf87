//! Pooling, resizing and sampling of images and volumes.

use super::{Row, Rule, int, one_or_tuple, op, out_shape, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Why};
use crate::manifest::Dim;

pub const ROWS: &[Row] = &[
    (
        "aten._adaptive_avg_pool2d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool2d", 2)),
    ),
    (
        "aten._adaptive_avg_pool3d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool3d", 3)),
    ),
    (
        "aten._upsample_bicubic2d_aa.vec",
        Rule::Fn(|c| interpolated(c, "upsample_bicubic2d_aa", 2)),
    ),
    (
        "aten._upsample_bilinear2d_aa.vec",
        Rule::Fn(|c| interpolated(c, "upsample_bilinear2d_aa", 2)),
    ),
    (
        "aten._upsample_nearest_exact1d.vec",
        Rule::Fn(|c| op("upsample_nearest_exact1d", resized(c, 1)?)),
    ),
    (
        "aten._upsample_nearest_exact2d.vec",
        Rule::Fn(|c| op("upsample_nearest_exact2d", resized(c, 2)?)),
    ),
    (
        "aten._upsample_nearest_exact3d.vec",
        Rule::Fn(|c| op("upsample_nearest_exact3d", resized(c, 3)?)),
    ),
    (
        "aten.adaptive_avg_pool1d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool1d", 1)),
    ),
    (
        "aten.adaptive_avg_pool2d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool2d", 2)),
    ),
    (
        "aten.adaptive_avg_pool3d.default",
        Rule::Fn(|c| adaptive(c, "adaptive_avg_pool3d", 3)),
    ),
    (
        "aten.adaptive_max_pool1d.default",
        Rule::Many(|c| both(adaptive(c, "adaptive_max_pool1d", 1))),
    ),
    (
        "aten.adaptive_max_pool2d.default",
        Rule::Many(|c| both(adaptive(c, "adaptive_max_pool2d", 2))),
    ),
    (
        "aten.adaptive_max_pool3d.default",
        Rule::Many(|c| both(adaptive(c, "adaptive_max_pool3d", 3))),
    ),
    ("aten.affine_grid_generator.default", Rule::Fn(affine_grid)),
    (
        "aten.avg_pool1d.default",
        Rule::Fn(|c| avg_pool(c, "avg_pool1d", 1)),
    ),
    ("aten.avg_pool2d.default", Rule::Fn(avg_pool2d)),
    (
        "aten.avg_pool3d.default",
        Rule::Fn(|c| avg_pool(c, "avg_pool3d", 3)),
    ),
    ("aten.col2im.default", Rule::Fn(col2im)),
    ("aten.grid_sampler.default", Rule::Fn(grid_sample)),
    ("aten.im2col.default", Rule::Fn(im2col)),
    (
        "aten.max_pool1d.default",
        Rule::Fn(|c| max_pool(c, "max_pool1d", 1)),
    ),
    (
        "aten.max_pool1d_with_indices.default",
        Rule::Many(|c| both(max_pool(c, "max_pool1d_with_indices", 1))),
    ),
    (
        "aten.max_pool2d.default",
        Rule::Fn(|c| max_pool(c, "max_pool2d", 2)),
    ),
    (
        "aten.max_pool2d_with_indices.default",
        Rule::Many(|c| both(max_pool(c, "max_pool2d_with_indices", 2))),
    ),
    (
        "aten.max_pool3d.default",
        Rule::Fn(|c| max_pool(c, "max_pool3d", 3)),
    ),
    (
        "aten.max_pool3d_with_indices.default",
        Rule::Many(|c| both(max_pool(c, "max_pool3d_with_indices", 3))),
    ),
    (
        "aten.max_unpool2d.default",
        Rule::Fn(|c| max_unpool(c, "max_unpool2d", 2)),
    ),
    (
        "aten.max_unpool3d.default",
        Rule::Fn(|c| max_unpool(c, "max_unpool3d", 3)),
    ),
    (
        "aten.upsample_bicubic2d.vec",
        Rule::Fn(|c| interpolated(c, "upsample_bicubic2d", 2)),
    ),
    (
        "aten.upsample_bilinear2d.vec",
        Rule::Fn(|c| interpolated(c, "upsample_bilinear2d", 2)),
    ),
    (
        "aten.upsample_linear1d.vec",
        Rule::Fn(|c| interpolated(c, "upsample_linear1d", 1)),
    ),
    (
        "aten.upsample_nearest1d.vec",
        Rule::Fn(|c| op("upsample_nearest1d", resized(c, 1)?)),
    ),
    (
        "aten.upsample_nearest2d.vec",
        Rule::Fn(|c| op("upsample_nearest2d", resized(c, 2)?)),
    ),
    (
        "aten.upsample_nearest3d.vec",
        Rule::Fn(|c| op("upsample_nearest3d", resized(c, 3)?)),
    ),
    (
        "aten.upsample_trilinear3d.vec",
        Rule::Fn(|c| interpolated(c, "upsample_trilinear3d", 3)),
    ),
];

fn adaptive(c: &Ctx, name: &'static str, dims: usize) -> Result<Expr, Why> {
    op(name, [c.tensor("self")?.expr, sizes(last_sizes(c, dims)?)])
}

/// Of an op that returns the largest elements and where they were.
fn both(values: Result<Expr, Why>) -> Result<Lowered, Why> {
    Ok(Lowered::Tuple(values?, 2))
}

/// The last sizes of the output.
fn last_sizes(c: &Ctx, dims: usize) -> Result<Vec<Dim>, Why> {
    let shape = out_shape(c, 0)?;
    match shape.len().checked_sub(dims) {
        Some(first) => Ok(shape[first..].to_vec()),
        None => why(format!("the output has fewer than {dims} dimensions")),
    }
}

/// One size, or several as a tuple.
fn sizes(dims: Vec<Dim>) -> Expr {
    match <[Dim; 1]>::try_from(dims) {
        Ok([one]) => Expr::Size(one),
        Err(many) => Expr::Tuple(many.into_iter().map(Expr::Size).collect()),
    }
}

fn max_unpool(c: &Ctx, name: &'static str, dims: usize) -> Result<Expr, Why> {
    let (x, indices) = (c.tensor("self")?, c.tensor("indices")?);
    op(name, [x.expr, indices.expr, sizes(last_sizes(c, dims)?)])
}

/// The modes are numbered as in `torch.nn.functional.grid_sample`.
fn grid_sample(c: &Ctx) -> Result<Expr, Why> {
    let (x, grid) = (c.tensor("input")?, c.tensor("grid")?);
    let sampling = match c.int_or("interpolation_mode", 0)? {
        0 => "Bilinear",
        1 => "Nearest",
        2 if x.rank() == 4 => "Bicubic",
        other => return why(format!("argument `interpolation_mode` is {other}")),
    };
    let outside = match c.int_or("padding_mode", 0)? {
        0 => "Zeros",
        1 => "Border",
        2 => "Reflection",
        other => return why(format!("argument `padding_mode` is {other}")),
    };
    let modes = [
        Expr::Variant("Sampling", sampling),
        Expr::Variant("Outside", outside),
        Expr::Bool(c.bool_or("align_corners", false)?),
    ];
    op("grid_sample", [x.expr, grid.expr].into_iter().chain(modes))
}

/// The output is a grid of places over an image or a volume.
fn affine_grid(c: &Ctx) -> Result<Expr, Why> {
    let [_, size @ .., _] = out_shape(c, 0)? else {
        return why("the output is no grid");
    };
    let corners = Expr::Bool(c.bool_or("align_corners", false)?);
    let theta = c.tensor("theta")?.expr;
    op("affine_grid", [theta, Expr::Shape(size.to_vec()), corners])
}

fn max_pool(c: &Ctx, name: &'static str, dims: usize) -> Result<Expr, Why> {
    let (kernel, stride) = windows(c, dims)?;
    let (padding, dilation) = (c.sizes("padding", 0, dims)?, c.sizes("dilation", 1, dims)?);
    let ceil = Expr::Bool(c.bool_or("ceil_mode", false)?);
    let [kernel, stride, padding, dilation] =
        [kernel, stride, padding, dilation].map(|v| one_or_tuple(&v));
    let x = c.tensor("self")?.expr;
    op(name, [x, kernel, stride, padding, dilation, ceil])
}

/// The windows of `im2col` and `col2im`: their size, stride, padding and dilation.
fn columns(c: &Ctx) -> Result<[Expr; 4], Why> {
    let setting = |name, default| Ok::<_, Why>(one_or_tuple(&c.sizes(name, default, 2)?));
    Ok([
        setting("kernel_size", 1)?,
        setting("stride", 1)?,
        setting("padding", 0)?,
        setting("dilation", 1)?,
    ])
}

fn im2col(c: &Ctx) -> Result<Expr, Why> {
    let [kernel, stride, padding, dilation] = columns(c)?;
    let x = c.tensor("self")?.expr;
    op("im2col", [x, kernel, stride, padding, dilation])
}

fn col2im(c: &Ctx) -> Result<Expr, Why> {
    let [kernel, stride, padding, dilation] = columns(c)?;
    let size = sizes(last_sizes(c, 2)?);
    let x = c.tensor("self")?.expr;
    op("col2im", [x, size, kernel, stride, padding, dilation])
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
fn resized(c: &Ctx, dims: usize) -> Result<[Expr; 2], Why> {
    let x = c.tensor("input")?;
    let ([_, _, from @ ..], [_, _, to @ ..]) = (&x.shape[..], out_shape(c, 0)?) else {
        return why("the input is not a batch of images with channels");
    };
    if from.len() != dims || to.len() != dims {
        return why(format!(
            "resizes {} dimensions, expected {dims}",
            from.len()
        ));
    }
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
    Ok([x.expr, sizes(to.to_vec())])
}

fn interpolated(c: &Ctx, name: &'static str, dims: usize) -> Result<Expr, Why> {
    let [x, size] = resized(c, dims)?;
    let corners = Expr::Bool(c.bool_or("align_corners", false)?);
    op(name, [x, size, corners])
}

fn avg_pool(c: &Ctx, name: &'static str, dims: usize) -> Result<Expr, Why> {
    if c.given("divisor_override") {
        return why("argument `divisor_override` is given: multiply what the mean gives");
    }
    let x = c.tensor("self")?;
    let (kernel, stride) = windows(c, dims)?;
    let ceil = Expr::Bool(c.bool_or("ceil_mode", false)?);
    let count = Expr::Bool(c.bool_or("count_include_pad", true)?);
    let settings = [kernel, stride, c.sizes("padding", 0, dims)?].map(|v| one_or_tuple(&v));
    let [kernel, stride, padding] = settings;
    op(name, [x.expr, kernel, stride, padding, ceil, count])
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
