//! Shapes of recurrent layers: the outputs of all steps, and the last states; and of single steps.

use super::{At, Given, Rule, Shape, is, one, wrong};

pub const RULES: &[(&str, Rule)] = &[
    ("aten.gru.input", |at| one_state(at, 3)),
    ("aten.gru_cell.default", |at| cell(at, at.shape("hx")?, 3)),
    ("aten.lstm.input", lstm),
    ("aten.lstm_cell.default", lstm_cell),
    ("aten.rnn_relu.input", |at| one_state(at, 1)),
    ("aten.rnn_relu_cell.default", |at| {
        cell(at, at.shape("hx")?, 1)
    }),
    ("aten.rnn_tanh.input", |at| one_state(at, 1)),
    ("aten.rnn_tanh_cell.default", |at| {
        cell(at, at.shape("hx")?, 1)
    }),
];

fn lstm(at: &At) -> Given {
    recurrent(at, at.list("hx")?, 4)
}

fn lstm_cell(at: &At) -> Given {
    match &at.list("hx")?[..] {
        [h, cells] if h == cells => {
            cell(at, h.clone(), 4).map(|given| [given.clone(), given].concat())
        }
        states => wrong(format!(
            "`hx` is {states:?}, expected outputs and cells of one shape"
        )),
    }
}

/// One step from a state, with so many gates.
fn cell(at: &At, h: Shape, gates: i64) -> Given {
    let x = at.shape("input")?;
    let (&[batch, features], &[of, out]) = (&x[..], &h[..]) else {
        return wrong(format!(
            "`input` is {x:?} and `hx` {h:?}, of two dimensions each"
        ));
    };
    let all = gates.saturating_mul(out);
    for (name, expected) in [
        ("w_ih", &[all, features][..]),
        ("w_hh", &[all, out]),
        ("b_ih", &[all]),
        ("b_hh", &[all]),
    ] {
        is(at, name, expected)?;
    }
    match batch == of {
        true => one(h),
        false => wrong(format!("`input` is {x:?} and `hx` {h:?}")),
    }
}

fn one_state(at: &At, gates: i64) -> Given {
    recurrent(at, vec![at.shape("hx")?], gates)
}

/// `states` are the outputs and, where there are any, the cells; `gates` of the size of the last.
fn recurrent(at: &At, states: Vec<Shape>, gates: i64) -> Given {
    let x = at.shape("input")?;
    let directions = 1 + i64::from(at.flag("bidirectional"));
    let (&[first, second, features], Some(&[ways, batch, out]), Some(&[.., hidden])) = (
        &x[..],
        states.first().map(|h| &h[..]),
        states.last().map(|c| &c[..]),
    ) else {
        return wrong(format!(
            "`input` is {x:?} and `hx` {states:?}, of three dimensions each"
        ));
    };
    let fit = batch
        == if at.flag("batch_first") {
            first
        } else {
            second
        }
        && Some(ways) == at.int("num_layers")?.checked_mul(directions)
        && states
            .iter()
            .all(|state| state.len() == 3 && state[..2] == [ways, batch]);
    if !fit {
        return wrong(format!(
            "`hx` is {states:?}, which does not fit an `input` of {x:?}"
        ));
    }
    let params = at.list("params")?;
    let each = usize::try_from(ways)
        .ok()
        .and_then(|ways| params.len().checked_div(ways));
    for (i, weights) in params.chunks(each.unwrap_or(0).max(1)).enumerate() {
        let width = if (i as i64) < directions {
            features
        } else {
            out.saturating_mul(directions)
        };
        let rows = gates.saturating_mul(hidden);
        let own: [&[i64]; 5] = [
            &[rows, width],
            &[rows, out],
            &[rows],
            &[rows],
            &[out, hidden],
        ];
        let expected = match weights.len() {
            2 | 4 | 5 => own[..weights.len()].to_vec(),
            3 => vec![own[0], own[1], own[4]],
            n => return wrong(format!("{n} weights for each layer and direction")),
        };
        if weights != expected {
            return wrong(format!(
                "the weights are {weights:?}, expected {expected:?}"
            ));
        }
    }
    let y = vec![first, second, out.saturating_mul(directions)];
    Ok([y].into_iter().chain(states).map(Some).collect())
}
