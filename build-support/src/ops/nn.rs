//! Ops with weights: a layer of the runtime when the weights are parameters, a function otherwise.

use super::{Row, Rule, float, int, ints, method, op, size_at, some, why};
use crate::ir::{Expr, Float, Layer, LayerArg, Lit, Lowered};
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::{Dim, Dtype, ParamId};

pub const ROWS: &[Row] = &[
    (
        "aten._native_batch_norm_legit_no_training.default",
        Rule::Many(batch_norm),
    ),
    ("aten._weight_norm.default", Rule::Fn(weight_norm)),
    ("aten.addmm.default", Rule::Fn(addmm)),
    ("aten.baddbmm.default", Rule::Fn(baddbmm)),
    ("aten.bilinear.default", Rule::Fn(bilinear)),
    ("aten.embedding.default", Rule::Fn(embedding)),
    ("aten.embedding_bag.padding_idx", Rule::Many(embedding_bag)),
    ("aten.group_norm.default", Rule::Fn(group_norm)),
    ("aten.instance_norm.default", Rule::Fn(instance_norm)),
    ("aten.layer_norm.default", Rule::Fn(layer_norm)),
    ("aten.linear.default", Rule::Fn(linear)),
    ("aten.prelu.default", Rule::Fn(prelu)),
    ("aten.rms_norm.default", Rule::Fn(rms_norm)),
];

/// The parameter behind an optional operand: `None` when it is computed, so no layer can hold it.
fn held(operand: Option<&Operand>) -> Option<Option<ParamId>> {
    match operand {
        None => Some(None),
        Some(o) => o.param().map(Some),
    }
}

fn lit(name: &'static str, value: &Dim) -> Option<LayerArg> {
    match value {
        Dim::Size(n) => Some(LayerArg::Lit(name, Lit::Int(*n))),
        _ => None,
    }
}

fn eps(value: f64) -> LayerArg {
    LayerArg::Lit("eps", Lit::Float(Float::new(value)))
}

/// `layer(x)`, or `None` when a weight is not a parameter.
pub(super) fn layer(
    x: &Operand,
    (ty, variant): (&'static str, &'static str),
    params: &[(&'static str, Option<&Operand>)],
    args: Option<Vec<LayerArg>>,
) -> Option<Expr> {
    let params = params.iter().map(|(name, o)| Some((*name, held(*o)?)));
    let layer = Layer {
        ty,
        variant,
        params: params.collect::<Option<Vec<_>>>()?,
        args: args?,
    };
    Some(Expr::Layer(Box::new(layer), Box::new(x.expr.clone())))
}

pub(super) fn exprs(operand: Option<&Operand>) -> Expr {
    some(operand.map(|o| o.expr.clone()))
}

fn linear(c: &Ctx) -> Result<Expr, Why> {
    let (x, weight, bias) = (
        c.tensor("input")?,
        c.tensor("weight")?,
        c.tensor_opt("bias")?,
    );
    let bias = bias.as_ref();
    if let [n, k] = &weight.shape[..] {
        let args = lit("in_features", k)
            .zip(lit("out_features", n))
            .map(|(k, n)| vec![k, n]);
        let params = [("weight", Some(&weight)), ("bias", bias)];
        if let Some(layer) = layer(&x, ("Linear", ""), &params, args) {
            return Ok(layer);
        }
    }
    op("linear", [x.expr, weight.expr, exprs(bias)])
}

/// `bias + input @ weight`: with parameters this is a linear layer that stores its weight transposed.
pub fn addmm(c: &Ctx) -> Result<Expr, Why> {
    let (bias, x, weight) = (c.tensor("self")?, c.tensor("mat1")?, c.tensor("mat2")?);
    let (beta, alpha) = (c.float_or("beta", 1.0)?, c.float_or("alpha", 1.0)?);
    if let ([k, n], [b], true) = (
        &weight.shape[..],
        &bias.shape[..],
        beta == 1.0 && alpha == 1.0,
    ) && n == b
    {
        let args = lit("in_features", k)
            .zip(lit("out_features", n))
            .map(|(k, n)| vec![k, n]);
        let params = [("weight", Some(&weight)), ("bias", Some(&bias))];
        if let Some(layer) = layer(&x, ("Linear", "transposed"), &params, args) {
            return Ok(layer);
        }
    }
    narrow(c)?;
    op(
        "addmm",
        [bias.expr, x.expr, weight.expr, float(beta), float(alpha)],
    )
}

/// Fails for integers narrower than those that hold them, which would have to be cut to their width.
fn narrow(c: &Ctx) -> Result<(), Why> {
    match c.out_dtype() {
        dtype if dtype.is_float() || dtype == Dtype::Int64 => Ok(()),
        dtype => why(format!("a sum with a product of {dtype:?}")),
    }
}

fn baddbmm(c: &Ctx) -> Result<Expr, Why> {
    narrow(c)?;
    let (bias, a, b) = (c.tensor("self")?, c.tensor("batch1")?, c.tensor("batch2")?);
    let (beta, alpha) = (c.float_or("beta", 1.0)?, c.float_or("alpha", 1.0)?);
    op(
        "baddbmm",
        [bias.expr, a.expr, b.expr, float(beta), float(alpha)],
    )
}

fn embedding(c: &Ctx) -> Result<Expr, Why> {
    let (weight, ids) = (c.tensor("weight")?, c.tensor("indices")?);
    if let [n, d] = &weight.shape[..] {
        let args = lit("num_embeddings", n)
            .zip(lit("embedding_dim", d))
            .map(|(n, d)| vec![n, d]);
        let params = [("weight", Some(&weight))];
        if let Some(layer) = layer(&ids, ("Embedding", ""), &params, args) {
            return Ok(layer);
        }
    }
    op("embedding", [weight.expr, ids.expr])
}

/// Of what PyTorch returns only the bags; the rest is for training.
fn embedding_bag(c: &Ctx) -> Result<Lowered, Why> {
    let fold = match c.int_or("mode", 0)? {
        0 => "Sum",
        1 => "Mean",
        2 => "Max",
        other => return why(format!("argument `mode` is {other}")),
    };
    let scale = exprs(c.tensor_opt("per_sample_weights")?.as_ref());
    let padding = match c.given("padding_idx") {
        true => some(Some(int(c.int("padding_idx")?))),
        false => Expr::None,
    };
    let bags = [
        c.tensor("weight")?.expr,
        c.tensor("indices")?.expr,
        c.tensor("offsets")?.expr,
        Expr::Variant("Bag", fold),
        scale,
        Expr::Bool(c.bool_or("include_last_offset", false)?),
        padding,
    ];
    Ok(Lowered::Each(vec![(0, op("embedding_bag", bags)?)]))
}

fn bilinear(c: &Ctx) -> Result<Expr, Why> {
    let bias = exprs(c.tensor_opt("bias")?.as_ref());
    let [x, y, weight] = ["input1", "input2", "weight"].map(|name| Ok(c.tensor(name)?.expr));
    op("bilinear", [x?, y?, weight?, bias])
}

fn layer_norm(c: &Ctx) -> Result<Expr, Why> {
    let (x, weight, bias) = (
        c.tensor("input")?,
        c.tensor_opt("weight")?,
        c.tensor_opt("bias")?,
    );
    let dims = c.ints("normalized_shape")?;
    let e = c.float_or("eps", 1e-5)?;
    if weight.is_some() {
        let sizes = dims.iter().map(|&d| Lit::Int(d)).collect();
        let size = match dims[..] {
            [d] => LayerArg::Lit("dim", Lit::Int(d)),
            _ => LayerArg::Tuple(&["dim"], sizes),
        };
        let params = [("weight", weight.as_ref()), ("bias", bias.as_ref())];
        if let Some(layer) = layer(&x, ("LayerNorm", ""), &params, Some(vec![size, eps(e)])) {
            return Ok(layer);
        }
    }
    let (weight, bias) = (exprs(weight.as_ref()), exprs(bias.as_ref()));
    op(
        "layer_norm",
        [x.expr, int(dims.len() as i64), weight, bias, float(e)],
    )
}

fn rms_norm(c: &Ctx) -> Result<Expr, Why> {
    let (x, weight) = (c.tensor("input")?, c.tensor_opt("weight")?);
    let dims = c.ints("normalized_shape")?;
    if dims.len() != 1 {
        return why(format!(
            "normalises over {} dimensions: flatten them into the last one before",
            dims.len()
        ));
    }
    // PyTorch's default is the machine epsilon of the type it computes in.
    let default = match x.dtype {
        Dtype::Float64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    };
    let e = c.float_or("eps", default)?;
    if let Some(weight) = &weight {
        let args = vec![LayerArg::Lit("dim", Lit::Int(dims[0])), eps(e)];
        if let Some(layer) = layer(
            &x,
            ("RmsNorm", "f32_scale"),
            &[("weight", Some(weight))],
            Some(args),
        ) {
            return Ok(layer);
        }
    }
    op("rms_norm", [x.expr, exprs(weight.as_ref()), float(e)])
}

/// The pattern that [`crate::fuse`] finds; `style` says where the result is rounded.
pub fn fused_rms_norm(c: &Ctx) -> Result<Expr, Why> {
    let (x, weight) = (c.tensor("input")?, c.tensor_opt("weight")?);
    let e = c.float("eps")?;
    let (variant, function) = match c.str_or("style", "")? {
        "unit_offset" => ("unit_offset", "rms_norm_unit_offset"),
        "f32_scale" => ("f32_scale", "rms_norm"),
        _ => ("", "rms_norm_rounded"),
    };
    if let (Some(weight), Some(last)) = (&weight, x.shape.last()) {
        let args = lit("dim", last).map(|dim| vec![dim, eps(e)]);
        if let Some(layer) = layer(&x, ("RmsNorm", variant), &[("weight", Some(weight))], args) {
            return Ok(layer);
        }
        if variant == "unit_offset" {
            return op(function, [x.expr, weight.expr.clone(), float(e)]);
        }
    }
    if function == "rms_norm_rounded" {
        let Some(weight) = weight else {
            return op("rms_norm", [x.expr, Expr::None, float(e)]);
        };
        return op(function, [x.expr, weight.expr, float(e)]);
    }
    op(function, [x.expr, exprs(weight.as_ref()), float(e)])
}

fn group_norm(c: &Ctx) -> Result<Expr, Why> {
    grouped(c, c.int("num_groups")?)
}

fn grouped(c: &Ctx, groups: i64) -> Result<Expr, Why> {
    let (x, weight, bias) = (
        c.tensor("input")?,
        c.tensor_opt("weight")?,
        c.tensor_opt("bias")?,
    );
    let e = c.float_or("eps", 1e-5)?;
    if weight.is_some() && bias.is_some() {
        let of = LayerArg::Lit("groups", Lit::Int(groups));
        let args = lit("channels", size_at(&x, 1)?).map(|channels| vec![of, channels, eps(e)]);
        let params = [("weight", weight.as_ref()), ("bias", bias.as_ref())];
        if let Some(layer) = layer(&x, ("GroupNorm", ""), &params, args) {
            return Ok(layer);
        }
    }
    if groups < 0 {
        return why(format!("{groups} groups"));
    }
    let (weight, bias) = (exprs(weight.as_ref()), exprs(bias.as_ref()));
    op("group_norm", [x.expr, int(groups), weight, bias, float(e)])
}

/// Every channel of every sample by its own mean and variance, which are groups of one channel; or
/// by recorded ones, as in batch normalisation.
fn instance_norm(c: &Ctx) -> Result<Expr, Why> {
    if !c.bool_or("use_input_stats", true)? {
        return by_statistics(c);
    }
    match size_at(&c.tensor("input")?, 1)? {
        Dim::Size(channels) => grouped(c, *channels),
        _ => why("the number of channels is symbolic"),
    }
}

fn batch_norm(c: &Ctx) -> Result<Lowered, Why> {
    if c.bool_or("training", false)? {
        return why("training statistics: call model.eval() before recording");
    }
    Ok(Lowered::Each(vec![(0, by_statistics(c)?)]))
}

/// Normalisation of each channel by recorded mean and variance.
fn by_statistics(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("input")?;
    let optional = |name: &str| c.tensor_opt(name);
    let (weight, bias) = (optional("weight")?, optional("bias")?);
    let (mean, var) = (c.tensor("running_mean")?, c.tensor("running_var")?);
    let e = c.float_or("eps", 1e-5)?;
    if weight.is_some() && bias.is_some() {
        let params = [
            ("weight", weight.as_ref()),
            ("bias", bias.as_ref()),
            ("running_mean", Some(&mean)),
            ("running_var", Some(&var)),
        ];
        let args = lit("channels", size_at(&mean, 0)?).map(|channels| vec![channels, eps(e)]);
        if let Some(layer) = layer(&x, ("BatchNorm", ""), &params, args) {
            return Ok(layer);
        }
    }
    let (weight, bias) = (exprs(weight.as_ref()), exprs(bias.as_ref()));
    let args = [x.expr, mean.expr, var.expr, weight, bias, float(e)];
    op("batch_norm", args)
}

fn weight_norm(c: &Ctx) -> Result<Expr, Why> {
    let (v, g) = (c.tensor("v")?, c.tensor("g")?);
    let keep = c.dim_or("dim", 0, v.rank())?;
    let dims: Vec<usize> = (0..v.rank()).filter(|&d| d != keep).collect();
    let norm = op(
        "vector_norm",
        [v.expr.clone(), float(2.0), ints(&dims), Expr::Bool(true)],
    )?;
    op("mul", [v.expr, op("div", [g.expr, norm])?])
}

/// `x` where it is positive, else `weight * x`, with one weight or one per channel.
fn prelu(c: &Ctx) -> Result<Expr, Why> {
    let (x, weight) = (c.tensor("self")?, c.tensor("weight")?);
    let many = weight.shape.first() != Some(&Dim::Size(1));
    let slope = if many && weight.rank() == 1 && x.rank() > 2 {
        let mut shape = vec![Dim::Size(1); x.rank() - 1];
        shape[0] = size_at(&weight, 0)?.clone();
        method(weight.expr, "reshape", [Expr::Dims(shape)])?
    } else {
        weight.expr
    };
    let positive = op("gt_scalar", [x.expr.clone(), float(0.0)])?;
    let scaled = op("mul", [x.expr.clone(), slope])?;
    op("where_", [positive, x.expr, scaled])
}
