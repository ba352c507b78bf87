//! Convolutions and transposed convolutions.

use super::nn::{exprs, layer};
use super::{Row, Rule, float, int, one_or_tuple, op, why};
use crate::ir::{Expr, LayerArg, Lit};
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::Dim;

pub const ROWS: &[Row] = &[
    ("aten.conv1d.default", Rule::Fn(|c| conv(c, &CONV1D))),
    ("aten.conv1d.padding", Rule::Fn(|c| conv(c, &CONV1D))),
    ("aten.conv2d.default", Rule::Fn(|c| conv(c, &CONV2D))),
    ("aten.conv2d.padding", Rule::Fn(|c| conv(c, &CONV2D))),
    ("aten.conv3d.default", Rule::Fn(|c| conv(c, &CONV3D))),
    ("aten.conv3d.padding", Rule::Fn(|c| conv(c, &CONV3D))),
    (
        "aten.conv_transpose1d.default",
        Rule::Fn(|c| transposed(c, "conv_transpose1d", 1)),
    ),
    (
        "aten.conv_transpose2d.input",
        Rule::Fn(|c| transposed(c, "conv_transpose2d", 2)),
    ),
    (
        "aten.conv_transpose3d.input",
        Rule::Fn(|c| transposed(c, "conv_transpose3d", 3)),
    ),
];

struct Conv {
    dims: usize,
    function: &'static str,
    /// The layer that holds its weight, and what that is configured by.
    layer: Option<(&'static str, &'static str)>,
}

const CONV1D: Conv = Conv {
    dims: 1,
    function: "conv1d",
    layer: Some(("Conv1d", "Conv1dConfig")),
};
const CONV2D: Conv = Conv {
    dims: 2,
    function: "conv2d",
    layer: Some(("Conv2d", "Conv2dConfig")),
};
const CONV3D: Conv = Conv {
    dims: 3,
    function: "conv3d",
    layer: None,
};

/// The dimensions of a convolution's weight.
const WEIGHT: &[&str] = &["out_channels", "in_channels", "kernel"];

fn conv(c: &Ctx, kind: &Conv) -> Result<Expr, Why> {
    let (x, weight, bias) = operands(c, kind.dims)?;
    let sizes = |name: &str, default| c.sizes(name, default, kind.dims);
    let (stride, dilation) = (sizes("stride", 1)?, sizes("dilation", 1)?);
    let (x, padding) = padded(c, x, &weight, &dilation)?;
    let groups = c.int_or("groups", 1)?;
    if let Some((name, config)) = kind.layer {
        let config = LayerArg::Struct(
            config,
            vec![
                setting(&["stride"], &stride),
                setting(&["padding"], &padding),
                setting(&["dilation"], &dilation),
                ("groups", LayerArg::Lit("groups", Lit::Int(groups))),
            ],
        );
        let shape = weight.shape.iter().map(|d| match d {
            Dim::Size(n) => Some(Lit::Int(*n)),
            _ => None,
        });
        let shape: Option<Vec<_>> = shape.collect();
        let args = shape.map(|s| vec![LayerArg::Array(WEIGHT, s), config]);
        let params = [("weight", Some(&weight)), ("bias", bias.as_ref())];
        if let Some(layer) = layer(&x, (name, ""), &params, args) {
            return Ok(layer);
        }
    }
    let bias = exprs(bias.as_ref());
    let [stride, padding, dilation] = [stride, padding, dilation].map(|v| one_or_tuple(&v));
    let groups = int(groups);
    let args = [x.expr, weight.expr, bias, stride, padding, dilation, groups];
    op(kind.function, args)
}

/// A setting of a layer: one number where it has one dimension.
fn setting(name: &'static [&'static str; 1], values: &[usize]) -> (&'static str, LayerArg) {
    let lits = values.iter().map(|&v| Lit::Int(v as i64));
    let arg = match *values {
        [one] => LayerArg::Lit(name[0], Lit::Int(one as i64)),
        _ => LayerArg::Array(name, lits.collect()),
    };
    (name[0], arg)
}

type Operands = (Operand, Operand, Option<Operand>);

/// Input, weight and bias; the input has a batch dimension.
fn operands(c: &Ctx, dims: usize) -> Result<Operands, Why> {
    let x = c.tensor("input")?;
    if x.rank() != dims + 2 {
        return why("the input has no batch dimension: add one with `x.unsqueeze(0)`");
    }
    Ok((x, c.tensor("weight")?, c.tensor_opt("bias")?))
}

/// `padding="same"` (stride 1): what cannot be halved evenly is added after the input beforehand.
fn same(x: Operand, weight: &Operand, dilation: &[usize]) -> Result<(Operand, Vec<usize>), Why> {
    let mut after = vec![(0, 0); 2];
    let mut padding = Vec::with_capacity(dilation.len());
    let Some(kernels) = weight.shape.get(2..) else {
        return why("the weight has fewer than three dimensions");
    };
    for (kernel, &dilation) in kernels.iter().zip(dilation) {
        let Dim::Size(kernel) = kernel else {
            return why(
                "padding=\"same\" with a kernel of symbolic size: give the padding as numbers",
            );
        };
        let total = (dilation as i64).checked_mul((kernel - 1).max(0));
        let total = total.ok_or_else(|| Why("the padding is too large".to_owned()))?;
        padding.push((total / 2) as usize);
        after.push((0, total % 2));
    }
    if after.iter().all(|&(_, extra)| extra == 0) {
        return Ok((x, padding));
    }
    let pairs = after
        .into_iter()
        .map(|(a, b)| Expr::Tuple(vec![int(a), int(b)]));
    let pairs = Expr::Slice(pairs.collect());
    let padded = op("pad", [x.expr.clone(), pairs, float(0.0)])?;
    Ok((Operand { expr: padded, ..x }, padding))
}

fn transposed(c: &Ctx, function: &'static str, dims: usize) -> Result<Expr, Why> {
    let (x, weight, bias) = operands(c, dims)?;
    let setting = |name, default| Ok::<_, Why>(one_or_tuple(&c.sizes(name, default, dims)?));
    let args = [
        x.expr,
        weight.expr,
        exprs(bias.as_ref()),
        setting("stride", 1)?,
        setting("padding", 0)?,
        setting("output_padding", 0)?,
        int(c.int_or("groups", 1)?),
        setting("dilation", 1)?,
    ];
    op(function, args)
}

/// The input with the padding that the convolution does not add, and the one that it does.
fn padded(
    c: &Ctx,
    x: Operand,
    weight: &Operand,
    dilation: &[usize],
) -> Result<(Operand, Vec<usize>), Why> {
    match c.str_or("padding", "") {
        Err(_) | Ok("") => Ok((x, c.sizes("padding", 0, dilation.len())?)),
        Ok("valid") => Ok((x, vec![0; dilation.len()])),
        Ok("same") => same(x, weight, dilation),
        Ok(other) => why(format!(
            "padding=\"{other}\" is not supported: give the padding as numbers"
        )),
    }
}
