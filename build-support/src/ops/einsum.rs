//! `einsum`: from its equation, at generation time, into permutations, reshapes and products.
//!
//! Operands are contracted from left to right. A label that no later operand and no output needs
//! is summed: in a matrix product when both operands have it, else before.

use super::{Row, Rule, arith, int, ints, method, op, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Operand, Why, cast};
use crate::manifest::{Dim, Dtype};

pub const ROWS: &[Row] = &[("aten.einsum.default", Rule::Fn(einsum))];

/// A letter of the equation, or a dimension of its ellipsis counted from the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Letter(char),
    Ellipsis(usize),
}

/// A tensor with the label of each of its dimensions.
#[derive(Debug, Clone)]
struct Term {
    expr: Expr,
    dtype: Dtype,
    labels: Vec<Label>,
    shape: Vec<Dim>,
}

fn einsum(c: &Ctx) -> Result<Expr, Why> {
    let equation: String = c.str_or("equation", "")?.split_whitespace().collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (&equation[..], None),
    };
    let operands = c.tensors("tensors")?;
    let inputs: Vec<&str> = inputs.split(',').collect();
    if inputs.len() != operands.len() {
        return why(format!(
            "the equation `{equation}` is given {} operands",
            operands.len()
        ));
    }
    let output = match output {
        Some(text) => labels(text, c.out_shape().len())?,
        None => {
            let all = inputs
                .iter()
                .zip(&operands)
                .map(|(text, x)| labels(text, x.rank()));
            implicit(&all.collect::<Result<Vec<_>, _>>()?.concat())
        }
    };
    let terms = inputs.iter().zip(operands).map(|(text, x)| term(text, x));
    let terms = terms.collect::<Result<Vec<_>, _>>()?;
    let mut rest = terms.into_iter();
    let Some(mut acc) = rest.next() else {
        return why("has no operand");
    };
    while let Some(next) = rest.next() {
        let needed = |l: &Label| output.contains(l) || rest.as_slice().iter().any(|t| t.has(l));
        acc = contract(
            c,
            acc.without(&next, needed)?,
            next.without(&acc, needed)?,
            needed,
        )?;
    }
    let kept = |l: &Label| output.contains(l);
    let acc = acc.summed(kept)?;
    match order(&acc.labels, &output) {
        Some(order) => acc.permuted(&order).map(|t| t.expr),
        None => why(format!(
            "the equation `{equation}` repeats or invents a label of the output"
        )),
    }
}

/// The labels of one term, which has `rank` dimensions.
fn labels(text: &str, rank: usize) -> Result<Vec<Label>, Why> {
    let letters = |s: &str| s.chars().map(Label::Letter).collect::<Vec<_>>();
    let labels = match text.split_once("...") {
        None => letters(text),
        Some((before, after)) => {
            let named = before.chars().count() + after.chars().count();
            let hidden = (0..rank.saturating_sub(named)).rev().map(Label::Ellipsis);
            let after = letters(after);
            letters(before)
                .into_iter()
                .chain(hidden)
                .chain(after)
                .collect()
        }
    };
    if labels.len() != rank || labels.contains(&Label::Letter('.')) {
        return why(format!(
            "the labels `{text}` do not fit a tensor of {rank} dimensions"
        ));
    }
    Ok(labels)
}

/// Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order.
fn implicit(all: &[Label]) -> Vec<Label> {
    let hidden = all.iter().filter_map(|l| match l {
        Label::Ellipsis(i) => Some(*i + 1),
        Label::Letter(_) => None,
    });
    let hidden = (0..hidden.max().unwrap_or(0)).rev().map(Label::Ellipsis);
    let once = |l: &&Label| all.iter().filter(|other| other == l).count() == 1;
    let mut letters: Vec<char> = all.iter().filter(once).filter_map(|l| l.letter()).collect();
    letters.sort_unstable();
    hidden
        .chain(letters.into_iter().map(Label::Letter))
        .collect()
}

/// An operand; a label that it has twice takes the diagonal.
fn term(text: &str, x: Operand) -> Result<Term, Why> {
    let mut term = Term {
        labels: labels(text, x.rank())?,
        expr: x.expr,
        dtype: x.dtype,
        shape: x.shape,
    };
    while let Some((a, b)) = repeated(&term.labels) {
        let dims = [int(0), int(a as i64), int(b as i64)];
        let [offset, first, second] = dims;
        term.expr = op("diagonal", [term.expr, offset, first, second])?;
        let label = term.labels.remove(b);
        term.labels.remove(a);
        term.labels.push(label);
        let size = term.shape.remove(b);
        term.shape.remove(a);
        term.shape.push(size);
    }
    Ok(term)
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    let twin = |a: usize| {
        Some((
            a,
            a + 1 + labels[a + 1..].iter().position(|l| *l == labels[a])?,
        ))
    };
    (0..labels.len()).find_map(twin)
}

/// Where each of `to` is in `from`, if both hold the same labels.
fn order(from: &[Label], to: &[Label]) -> Option<Vec<usize>> {
    let order: Option<Vec<usize>> = to
        .iter()
        .map(|l| from.iter().position(|f| f == l))
        .collect();
    order.filter(|o| o.len() == from.len())
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Label::Letter(letter) => write!(f, "{letter}"),
            Label::Ellipsis(_) => f.write_str("..."),
        }
    }
}

impl Label {
    fn letter(self) -> Option<char> {
        match self {
            Label::Letter(c) => Some(c),
            Label::Ellipsis(_) => None,
        }
    }
}

impl Term {
    fn has(&self, label: &Label) -> bool {
        self.labels.contains(label)
    }

    fn cast(self, c: &Ctx, dtype: Dtype) -> Term {
        let expr = cast(c, self.expr, self.dtype, dtype);
        Term {
            expr,
            dtype,
            ..self
        }
    }

    fn size(&self, label: &Label) -> Dim {
        let at = self.labels.iter().position(|l| l == label);
        at.map_or(Dim::Size(1), |i| self.shape[i].clone())
    }

    /// Sums what is neither kept nor in the other operand.
    fn without(&self, other: &Term, needed: impl Fn(&Label) -> bool) -> Result<Term, Why> {
        self.clone().summed(|l| needed(l) || other.has(l))
    }

    fn summed(self, kept: impl Fn(&Label) -> bool) -> Result<Term, Why> {
        let dims: Vec<usize> = (0..self.labels.len())
            .filter(|&i| !kept(&self.labels[i]))
            .collect();
        if dims.is_empty() {
            return Ok(self);
        }
        let left = |i: &usize| !dims.contains(i);
        let left: Vec<usize> = (0..self.labels.len()).filter(left).collect();
        Ok(Term {
            expr: op("sum", [self.expr, ints(&dims), Expr::Bool(false)])?,
            labels: left.iter().map(|&i| self.labels[i]).collect(),
            shape: left.iter().map(|&i| self.shape[i].clone()).collect(),
            ..self
        })
    }

    fn permuted(self, order: &[usize]) -> Result<Term, Why> {
        if order.iter().enumerate().all(|(i, &o)| i == o) {
            return Ok(self);
        }
        let dims = order.iter().map(|&d| int(d as i64)).collect();
        Ok(Term {
            expr: method(self.expr, "permute", [Expr::Array(dims)])?,
            labels: order.iter().map(|&i| self.labels[i]).collect(),
            shape: order.iter().map(|&i| self.shape[i].clone()).collect(),
            ..self
        })
    }

    /// The dimensions of `groups` one after the other, those of one group as one dimension;
    /// the labels of the first group stay apart.
    fn grouped(self, batch: &[Label], groups: [&[Label]; 2]) -> Result<Expr, Why> {
        let all: Vec<Label> = [batch, groups[0], groups[1]].concat();
        let Some(order) = order(&self.labels, &all) else {
            return why("a label is repeated");
        };
        let x = self.permuted(&order)?;
        if groups.iter().all(|g| g.len() == 1) {
            return Ok(x.expr);
        }
        let mut shape: Vec<Dim> = batch.iter().map(|l| x.size(l)).collect();
        shape.extend(groups.map(|g| product(g.iter().map(|l| x.size(l)).collect())));
        method(x.expr, "reshape", [Expr::Dims(shape)])
    }
}

fn product(mut sizes: Vec<Dim>) -> Dim {
    match (sizes.len(), sizes.pop()) {
        (1, Some(one)) => one,
        (_, None) => Dim::Size(1),
        (_, Some(last)) => {
            sizes.push(last);
            let fixed = sizes.iter().map(|d| match d {
                Dim::Size(n) => Some(*n),
                _ => None,
            });
            let fixed: Option<Vec<i64>> = fixed.collect();
            let product = fixed.and_then(|f| f.iter().try_fold(1_i64, |n, &d| n.checked_mul(d)));
            product.map_or(Dim::Mul(sizes), Dim::Size)
        }
    }
}

/// One product of two operands, each label of which is needed or in both.
fn contract(c: &Ctx, a: Term, b: Term, needed: impl Fn(&Label) -> bool) -> Result<Term, Why> {
    let pick = |from: &Term, test: &dyn Fn(&Label) -> bool| -> Vec<Label> {
        from.labels.iter().copied().filter(|l| test(l)).collect()
    };
    let batch = pick(&a, &|l| b.has(l) && needed(l));
    let shared = pick(&a, &|l| b.has(l) && !needed(l));
    let left = pick(&a, &|l| !b.has(l));
    let right = pick(&b, &|l| !a.has(l));
    for label in &shared {
        if a.size(label) != b.size(label) {
            return why(format!("the label `{label}` has two sizes"));
        }
    }
    let joined = |l: &Label| match a.size(l) {
        Dim::Size(1) => b.size(l),
        size => size,
    };
    // PyTorch promotes what it multiplies element by element, and no product of matrices.
    let dtype = arith::promote(a.dtype, b.dtype);
    let labels = [&batch[..], &left, &right].concat();
    let shape: Vec<Dim> = labels.iter().map(joined).collect();
    if shared.is_empty() || !dtype.is_float() {
        let all = [&labels[..], &shared].concat();
        let product = Term {
            expr: op(
                "mul",
                [
                    spread(a.cast(c, dtype), &all)?,
                    spread(b.cast(c, dtype), &all)?,
                ],
            )?,
            shape: all.iter().map(|_| Dim::Size(1)).collect(),
            labels: all,
            dtype,
        };
        let expr = product.summed(|l| labels.contains(l))?.expr;
        return Ok(Term {
            expr,
            dtype,
            labels,
            shape,
        });
    }
    let apart = left.len() == 1 && right.len() == 1;
    let x = a.grouped(&batch, [&left, &shared])?;
    let y = b.grouped(&batch, [&shared, &right])?;
    let mut expr = op("matmul", [x, y])?;
    if !apart {
        expr = method(expr, "reshape", [Expr::Dims(shape.clone())])?;
    }
    Ok(Term {
        expr,
        dtype,
        labels,
        shape,
    })
}

/// `x` with a dimension for each label, of size 1 where it has none.
fn spread(x: Term, labels: &[Label]) -> Result<Expr, Why> {
    let own: Vec<Label> = labels.iter().copied().filter(|l| x.has(l)).collect();
    let Some(order) = order(&x.labels, &own) else {
        return why("a label is repeated");
    };
    let x = x.permuted(&order)?;
    if own == labels {
        return Ok(x.expr);
    }
    let shape = labels.iter().map(|l| x.size(l)).collect();
    method(x.expr, "reshape", [Expr::Dims(shape)])
}
