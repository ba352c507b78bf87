//! Attention, and the fused forms that [`crate::fuse`] puts into the graph.

use super::{Row, Rule, int, method, nn, op, some, why};
use crate::graph::APPEND;
use crate::ir::Expr;
use crate::lower::{Ctx, Why};

pub const ROWS: &[Row] = &[
    ("aten.scaled_dot_product_attention.default", Rule::Fn(sdpa)),
    ("pycandle.addmm", Rule::Fn(nn::addmm)),
    (APPEND, Rule::Fn(append)),
    ("pycandle.causal_mask", Rule::Fn(causal_mask)),
    ("pycandle.gelu_mul", Rule::Fn(|c| gated(c, "gelu_mul"))),
    (
        "pycandle.gelu_tanh_mul",
        Rule::Fn(|c| gated(c, "gelu_tanh_mul")),
    ),
    ("pycandle.padding_mask", Rule::Fn(padding_mask)),
    ("pycandle.rms_norm", Rule::Fn(nn::fused_rms_norm)),
    ("pycandle.rope", Rule::Fn(rope)),
    ("pycandle.swiglu", Rule::Fn(|c| gated(c, "swiglu"))),
];

/// `scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)`
fn sdpa(c: &Ctx) -> Result<Expr, Why> {
    if c.float_or("dropout_p", 0.0)? != 0.0 {
        return why("dropout_p is not 0: call model.eval() before recording");
    }
    let (q, k, v) = (c.tensor("query")?, c.tensor("key")?, c.tensor("value")?);
    let mask = some(c.tensor_opt("attn_mask")?.map(|m| m.expr));
    let causal = Expr::Bool(c.bool_or("is_causal", false)?);
    let scale = c.float_opt("scale")?;
    op("sdpa", [q.expr, k.expr, v.expr, mask, causal, scale])
}

fn append(c: &Ctx) -> Result<Expr, Why> {
    let state = c.int("state")? as usize;
    let Some(of) = c.graph().m.states.get(state) else {
        return why("appends to a cache that the manifest does not have");
    };
    Ok(Expr::Append {
        state,
        layer: None,
        slot: of.slot.clone(),
        new: Box::new(c.tensor("input")?.expr),
    })
}

fn rope(c: &Ctx) -> Result<Expr, Why> {
    let (x, cos, sin) = (c.tensor("input")?, c.tensor("cos")?, c.tensor("sin")?);
    op("rope", [x.expr, cos.expr, sin.expr])
}

fn gated(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    op(name, [c.tensor("gate")?.expr, c.tensor("up")?.expr])
}

/// `pycandle.padding_mask(padding)`: `[batch, keys]` as `[batch, 1, 1, keys]`.
fn padding_mask(c: &Ctx) -> Result<Expr, Why> {
    let row = method(c.tensor("padding")?.expr, "unsqueeze", [int(1)])?;
    method(row, "unsqueeze", [int(1)])
}

/// `pycandle.causal_mask(past, window, padding)` of shape `[1 or batch, 1, query, key]`.
fn causal_mask(c: &Ctx) -> Result<Expr, Why> {
    let [_, _, query, keys] = c.out_shape() else {
        return why("the mask does not have four dimensions");
    };
    let padding = some(c.tensor_opt("padding")?.map(|p| p.expr));
    let window = if c.given("window") {
        Expr::Some(Box::new(Expr::Size(c.size("window")?)))
    } else {
        Expr::None
    };
    let sizes = [Expr::Size(query.clone()), Expr::Size(keys.clone())];
    let [query, keys] = sizes;
    op(
        "causal_mask",
        [
            query,
            keys,
            Expr::Size(c.size("past")?),
            window,
            padding,
            Expr::Device,
        ],
    )
}
