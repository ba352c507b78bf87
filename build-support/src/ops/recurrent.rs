//! Recurrent layers over whole sequences, and single steps of them.

use super::{Row, Rule, op, why};
use crate::ir::{Expr, Lowered};
use crate::lower::{Ctx, Operand, Why};

pub const ROWS: &[Row] = &[
    ("aten.gru.input", Rule::Many(|c| one_state(c, "gru"))),
    ("aten.gru_cell.default", Rule::Fn(|c| cell(c, "gru_cell"))),
    ("aten.lstm.input", Rule::Many(lstm)),
    ("aten.lstm_cell.default", Rule::Many(lstm_cell)),
    (
        "aten.rnn_relu.input",
        Rule::Many(|c| one_state(c, "rnn_relu")),
    ),
    (
        "aten.rnn_relu_cell.default",
        Rule::Fn(|c| cell(c, "rnn_relu_cell")),
    ),
    (
        "aten.rnn_tanh.input",
        Rule::Many(|c| one_state(c, "rnn_tanh")),
    ),
    (
        "aten.rnn_tanh_cell.default",
        Rule::Fn(|c| cell(c, "rnn_tanh_cell")),
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

fn lstm_cell(c: &Ctx) -> Result<Lowered, Why> {
    let [h, cells] = &c.tensors("hx")?[..] else {
        return why("expected two states, outputs and cells");
    };
    let states = [c.tensor("input")?.expr, h.expr.clone(), cells.expr.clone()];
    let args = states.into_iter().chain([cell_weights(c)?]);
    Ok(Lowered::Tuple(op("lstm_cell", args)?, 2))
}

fn cell(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let (x, h) = (c.tensor("input")?, c.tensor("hx")?);
    op(name, [x.expr, h.expr, cell_weights(c)?])
}

/// The weights of one step, with both biases or none.
fn cell_weights(c: &Ctx) -> Result<Expr, Why> {
    let mut weights = Vec::with_capacity(4);
    for name in ["w_ih", "w_hh", "b_ih", "b_hh"] {
        weights.extend(c.tensor_opt(name)?.map(|w| w.expr));
    }
    match weights.len() {
        2 | 4 => Ok(Expr::Slice(weights)),
        _ => why("one bias without the other"),
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
