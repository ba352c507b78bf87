//! Recurrent layers over whole sequences.

use super::{Row, Rule, op, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Operand, Why};

pub const ROWS: &[Row] = &[
    ("aten.gru.input", Rule::Many(|c| one_state(c, "gru"))),
    ("aten.lstm.input", Rule::Many(lstm)),
    (
        "aten.rnn_relu.input",
        Rule::Many(|c| one_state(c, "rnn_relu")),
    ),
    (
        "aten.rnn_tanh.input",
        Rule::Many(|c| one_state(c, "rnn_tanh")),
    ),
];

fn lstm(c: &Ctx) -> Result<Lowered, Why> {
    match &c.tensors("hx")?[..] {
        [h, cell] => recurrent(c, "lstm", &[h, cell]),
        other => why(format!(
            "{} states, expected outputs and cells",
            other.len()
        )),
    }
}

fn one_state(c: &Ctx, function: &'static str) -> Result<Lowered, Why> {
    recurrent(c, function, &[&c.tensor("hx")?])
}

fn recurrent(c: &Ctx, function: &'static str, states: &[&Operand]) -> Result<Lowered, Why> {
    if c.bool_or("train", false)? && c.float_or("dropout", 0.0)? != 0.0 {
        return why("dropout: call model.eval() before recording");
    }
    let (x, params) = (c.tensor("input")?, c.tensors("params")?);
    let bidirectional = c.bool_or("bidirectional", false)?;
    let projected = matches!(states, [h, cell] if h.shape.last() != cell.shape.last());
    let biases = c.bool_or("has_biases", true)?;
    let each = 2 + 2 * usize::from(biases) + usize::from(projected);
    let ways = c
        .int("num_layers")?
        .checked_mul(1 + i64::from(bidirectional));
    if ways.and_then(|ways| usize::try_from(ways).ok()?.checked_mul(each)) != Some(params.len()) {
        return why(format!(
            "{} weights, expected {each} for each layer",
            params.len()
        ));
    }
    let n = states.len();
    let states = states.iter().map(|state| state.expr.clone());
    let params = params.into_iter().map(|p| p.expr).collect();
    let flags = [bidirectional, c.bool_or("batch_first", false)?].map(Expr::Bool);
    let args = [x.expr]
        .into_iter()
        .chain(states)
        .chain([Expr::Slice(params)]);
    Ok(Lowered::Tuple(op(function, args.chain(flags))?, 1 + n))
}
