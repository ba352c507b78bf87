//! Attention, and the fused forms that [`crate::fuse`] puts into the graph.

use super::{Row, Rule, int, method, nn, op, some, why};
use crate::graph::APPEND;
use crate::ir::Expr;
use crate::lower::{Ctx, Operand, Why};

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
    ("pycandle.matmul_heads", Rule::Fn(matmul_heads)),
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
    let Some(lead) = c.out_shape().len().checked_sub(2) else {
        return why("its result has fewer than two dimensions");
    };
    // Heads of keys and values may be fewer, and are repeated where they are read.
    let heads = |x: &Operand| x.rank().checked_sub(3).map(|at| x.shape[at].clone());
    let shared = lead.saturating_sub(usize::from(heads(&k) == heads(&v)));
    let [k, v] = [k, v].map(|x| spread(c, x, shared));
    op("sdpa", [spread(c, q, lead)?, k?, v?, mask, causal, scale])
}

/// An operand whose first dimensions are those of the result, as far as they are repeated for it.
fn spread(c: &Ctx, x: Operand, lead: usize) -> Result<Expr, Why> {
    let out = c.out_shape();
    if x.rank() == out.len() && x.shape[..lead] == out[..lead] {
        return Ok(x.expr);
    }
    let own = (x.rank() + lead).saturating_sub(out.len());
    let shape = out[..lead].iter().chain(&x.shape[own..]);
    op("expand", [x.expr, Expr::Shape(shape.cloned().collect())])
}

fn matmul_heads(c: &Ctx) -> Result<Expr, Why> {
    let (x, heads) = (c.tensor("input")?, c.tensor("heads")?.expr);
    let heads = match c.bool_or("transposed", false)? {
        true => method(heads, "transpose", [int(2), int(3)])?,
        false => heads,
    };
    op("matmul_heads", [x.expr, heads])
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
