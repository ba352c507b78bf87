//! Activation functions, elementwise but for gates.

use super::{Row, Rule, float, int, number, op, some, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Why};

pub const ROWS: &[Row] = &[
    ("aten.celu.default", Rule::Fn(celu)),
    ("aten.elu.default", Rule::Fn(elu)),
    ("aten.gelu.default", Rule::Fn(gelu)),
    ("aten.glu.default", Rule::Fn(glu)),
    ("aten.hardsigmoid.default", Rule::Op("hardsigmoid")),
    ("aten.hardswish.default", Rule::Op("hardswish")),
    ("aten.hardtanh.default", Rule::Fn(hardtanh)),
    ("aten.leaky_relu.default", Rule::Fn(leaky_relu)),
    ("aten.log_sigmoid.default", Rule::Op("logsigmoid")),
    ("aten.mish.default", Rule::Op("mish")),
    ("aten.relu.default", Rule::Op("relu")),
    ("aten.relu6.default", Rule::Fn(relu6)),
    ("aten.rrelu.default", Rule::Fn(rrelu)),
    ("aten.selu.default", Rule::Fn(selu)),
    ("aten.sigmoid.default", Rule::Op("sigmoid")),
    ("aten.silu.default", Rule::Op("silu")),
    ("aten.softplus.default", Rule::Fn(softplus)),
    ("aten.threshold.default", Rule::Fn(threshold)),
];

fn glu(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?;
    let dim = c.dim_or("dim", -1, x.rank())?;
    op("glu", [x.expr, int(dim as i64)])
}

fn clamp_between(c: &Ctx, min: f64, max: f64) -> Result<Expr, Why> {
    let bounds = [some(Some(float(min))), some(Some(float(max)))];
    let [min, max] = bounds;
    op("clamp", [c.tensor("self")?.expr, min, max])
}

fn hardtanh(c: &Ctx) -> Result<Expr, Why> {
    clamp_between(c, c.float_or("min_val", -1.0)?, c.float_or("max_val", 1.0)?)
}

fn relu6(c: &Ctx) -> Result<Expr, Why> {
    clamp_between(c, 0.0, 6.0)
}

fn gelu(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?.expr;
    match c.str_or("approximate", "none")? {
        "none" => op("gelu", [x]),
        "tanh" => op("gelu_tanh", [x]),
        other => why(format!(
            "argument `approximate` is `{other}`, expected `none` or `tanh`"
        )),
    }
}

fn softplus(c: &Ctx) -> Result<Expr, Why> {
    let (beta, threshold) = (c.float_or("beta", 1.0)?, c.float_or("threshold", 20.0)?);
    op(
        "softplus",
        [c.tensor("self")?.expr, float(beta), float(threshold)],
    )
}

fn elu(c: &Ctx) -> Result<Expr, Why> {
    let number = |name| c.float_or(name, 1.0);
    elu_scaled(
        c,
        [number("alpha")?, number("scale")?, number("input_scale")?],
    )
}

fn celu(c: &Ctx) -> Result<Expr, Why> {
    let alpha = c.float_or("alpha", 1.0)?;
    elu_scaled(c, [alpha, 1.0, 1.0 / alpha])
}

/// The constants are those of `torch.selu`.
fn selu(c: &Ctx) -> Result<Expr, Why> {
    elu_scaled(c, [1.673_263_242_354_377_2, 1.050_700_987_355_480_5, 1.0])
}

/// With alpha, and the scales of the result and of the input.
fn elu_scaled(c: &Ctx, numbers: [f64; 3]) -> Result<Expr, Why> {
    let x = c.tensor("self")?.expr;
    let [alpha, scale, input_scale] = numbers.map(float);
    match numbers {
        [_, 1.0, 1.0] => op("elu", [x, alpha]),
        _ => op("elu_scaled", [x, alpha, scale, input_scale]),
    }
}

/// The slope that is drawn in training is the middle of its range here.
fn rrelu(c: &Ctx) -> Result<Expr, Why> {
    if c.bool_or("training", false)? {
        return why("is random: call model.eval() before recording");
    }
    let (lower, upper) = (
        c.float_or("lower", 1.0 / 8.0)?,
        c.float_or("upper", 1.0 / 3.0)?,
    );
    let slope = float((lower + upper) / 2.0);
    op("leaky_relu", [c.tensor("self")?.expr, slope])
}

fn threshold(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?.expr;
    let below = op("le_scalar", [x.clone(), float(number(c, "threshold")?)])?;
    op("masked_fill", [x, below, float(number(c, "value")?)])
}

fn leaky_relu(c: &Ctx) -> Result<Expr, Why> {
    let slope = c.float_or("negative_slope", 0.01)?;
    op("leaky_relu", [c.tensor("self")?.expr, float(slope)])
}
