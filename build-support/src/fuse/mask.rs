//! Boolean attention masks that are made from positions become one causal mask.
//!
//! The tensors behind a mask are read as functions of the mask's indices: `arange` is an index plus
//! an offset, `le` compares two of them, `index` reads the padding mask at (batch, key). What comes
//! out as "key ≤ query + past, within a window, where the padding allows" is the fused form,
//! whichever ops it was written with.

use super::{Fused, Matcher, int, number, tensor};
use crate::manifest::{Arg, Dim, Dtype, Node, Source};

const ATTENTION: &str = "aten.scaled_dot_product_attention.default";

/// Fused masks, whose sizes may be 1 where the trace has more.
pub const NARROWED: &[&str] = &["pycandle.causal_mask", "pycandle.padding_mask"];

/// Dimensions of a mask: batch, head, query, key.
const RANK: usize = 4;
const QUERY: usize = 2;
const KEY: usize = 3;

/// An integer tensor: an index of the mask plus an offset.
#[derive(Debug, Clone, PartialEq)]
struct Position {
    /// The dimension (counted from the last one) whose index it is.
    from_last: usize,
    offset: Dim,
    /// How many there are.
    len: Dim,
}

impl Position {
    /// Whether it runs over all of a mask's dimension.
    fn spans(&self, mask: &[Dim]) -> bool {
        let dim = mask.len().checked_sub(self.from_last + 1);
        dim.is_some_and(|dim| mask[dim] == self.len)
    }
}

/// What a mask demands; all of it has to hold.
#[derive(Debug, Clone, Default)]
struct Demands {
    /// key ≤ query + offset
    causal: Option<Dim>,
    /// key > query + offset − window, as (offset, window)
    window: Option<(Dim, i64)>,
    padding: Option<Source>,
}

pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    let out = Source::Value(*node.out.first()?);
    let is_mask = m.graph.dtype(out) == Dtype::Bool && m.graph.shape(out).len() == RANK;
    is_mask.then_some(())?;
    let shape = m.graph.shape(out);
    let demands = demands(m, out, &shape)?;
    // With both it has the traced shape, whatever reads it; else attention broadcasts it.
    let whole = demands.causal.is_some() && demands.padding.is_some() && shape[1] == Dim::Size(1);
    (whole || is_read_by_attention(m, out)).then_some(())?;
    if let Some(padding) = demands.padding {
        let whole = m.graph.shape(padding) == [shape[0].clone(), shape[KEY].clone()];
        whole.then_some(())?;
    }
    let Some(past) = demands.causal else {
        // Attention broadcasts the one row that all queries share.
        let padding = demands.padding.filter(|_| demands.window.is_none())?;
        return Some((
            "pycandle.padding_mask".to_owned(),
            vec![tensor("padding", padding)],
        ));
    };
    let mut args = vec![("past".to_owned(), size_arg(&past))];
    if let Some((offset, window)) = demands.window {
        (offset == past).then_some(())?;
        args.push(("window".to_owned(), Arg::Int(window)));
    }
    match demands.padding {
        Some(padding) => args.push(tensor("padding", padding)),
        // Without padding every batch has the same mask; attention broadcasts it.
        None => (shape[1] == Dim::Size(1)).then_some(())?,
    }
    Some(("pycandle.causal_mask".to_owned(), args))
}

/// Attention with a mask that allows everything does not need it.
pub fn unneeded(m: &Matcher, node: &Node) -> Option<Fused> {
    if node.op != ATTENTION {
        return None;
    }
    let mask = node.tensor("attn_mask")?;
    let Demands {
        causal: None,
        window: None,
        padding: None,
    } = demands(m, mask, &m.graph.shape(mask))?
    else {
        return None;
    };
    let mut args = node.args.clone();
    args.retain(|(name, _)| name != "attn_mask");
    Some((node.op.clone(), args))
}

fn size_arg(dim: &Dim) -> Arg {
    match dim {
        Dim::Size(n) => Arg::Int(*n),
        other => Arg::Sym(other.clone()),
    }
}

fn is_read_by_attention(m: &Matcher, mask: Source) -> bool {
    let mut readers = m.graph.nodes.iter().filter(|n| {
        let mut reads = false;
        n.args
            .iter()
            .for_each(|(_, a)| a.sources(&mut |s| reads |= s == mask));
        reads
    });
    let attends = |n: &Node| n.op == ATTENTION && n.tensor("attn_mask") == Some(mask);
    let returned = m.graph.outputs().any(|(_, s)| s == mask);
    !returned && readers.clone().next().is_some() && readers.all(attends)
}

/// What the elements of a boolean tensor demand, as a function of the mask's indices.
fn demands(m: &Matcher, source: Source, mask: &[Dim]) -> Option<Demands> {
    let and = [
        "aten.__and__.Tensor",
        "aten.bitwise_and.Tensor",
        "aten.logical_and.default",
    ];
    if let Some(node) = m.made_by(source, &and) {
        let (a, b) = (
            demands(m, node.tensor("self")?, mask)?,
            demands(m, node.tensor("other")?, mask)?,
        );
        return both(a, b);
    }
    if let Some(node) = m.made_by(source, &["aten.expand.default"]) {
        let from = node.tensor("self")?;
        (m.graph.shape(from).len() == m.graph.shape(source).len()).then_some(())?;
        return demands(m, from, mask);
    }
    if let Some(node) = m.made_by(source, &["aten.index.Tensor"]) {
        return padding(m, node, mask);
    }
    if let Some(node) = m.made_by(source, &["aten.ge.Scalar"]) {
        // A position that starts at zero or later is never negative.
        let at = position(m, node.tensor("self")?)?;
        let never_negative = number(node, "other")? <= 0.0 && is_size(&at.offset);
        return never_negative.then(Demands::default);
    }
    comparison(m, source, mask)
}

/// A comparison of two positions.
fn comparison(m: &Matcher, source: Source, mask: &[Dim]) -> Option<Demands> {
    let comparison = [
        "aten.le.Tensor",
        "aten.ge.Tensor",
        "aten.gt.Tensor",
        "aten.lt.Tensor",
    ];
    let node = m.made_by(source, &comparison)?;
    let (a, b) = (
        position(m, node.tensor("self")?)?,
        position(m, node.tensor("other")?)?,
    );
    (a.spans(mask) && b.spans(mask)).then_some(())?;
    // As `left ≤ right` or `left < right`.
    let (left, right, strict) = match node.op.as_str() {
        "aten.le.Tensor" => (a, b, false),
        "aten.ge.Tensor" => (b, a, false),
        "aten.lt.Tensor" => (a, b, true),
        _ => (b, a, true),
    };
    let (query, key) = (RANK - 1 - QUERY, RANK - 1 - KEY);
    if (left.from_last, right.from_last) == (key, query) && !strict {
        let past = minus(&right.offset, &left.offset)?;
        return Some(Demands {
            causal: Some(past),
            ..Demands::default()
        });
    }
    if (left.from_last, right.from_last) == (query, key) && strict {
        // query + offset − window < key
        let (offset, window) = split(&left.offset)?;
        let offset = minus(&offset, &right.offset)?;
        return Some(Demands {
            window: Some((offset, window)),
            ..Demands::default()
        });
    }
    None
}

fn both(a: Demands, b: Demands) -> Option<Demands> {
    fn one<T>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
        match (a, b) {
            (Some(_), Some(_)) => None,
            (a, b) => Some(a.or(b)),
        }
    }
    Some(Demands {
        causal: one(a.causal, b.causal)?,
        window: one(a.window, b.window)?,
        padding: one(a.padding, b.padding)?,
    })
}

/// `mask[batch, key]`
fn padding(m: &Matcher, node: &Node, mask: &[Dim]) -> Option<Demands> {
    let allowed = node.tensor("self")?;
    let Some(Arg::List(indices)) = node.arg("indices") else {
        return None;
    };
    let [batch, key] = &indices[..] else {
        return None;
    };
    let zero = Dim::Size(0);
    let is = |p: Position, from_last| p.from_last == from_last && p.offset == zero && p.spans(mask);
    let batch = is(position(m, batch.tensor()?)?, RANK - 1);
    let key = is(position(m, key.tensor()?)?, RANK - 1 - KEY);
    let whole = m.graph.shape(allowed).len() == 2 && m.graph.dtype(allowed) == Dtype::Bool;
    (batch && key && whole).then(|| Demands {
        padding: Some(allowed),
        ..Demands::default()
    })
}

/// An integer tensor as an index plus an offset.
fn position(m: &Matcher, source: Source) -> Option<Position> {
    if let Some(node) = m.made_by(source, &["aten.arange.default", "aten.arange.start"]) {
        let start = match node.arg("start") {
            None => Dim::Size(0),
            Some(Arg::Int(n)) => Dim::Size(*n),
            Some(Arg::Sym(d)) => d.clone(),
            _ => return None,
        };
        let out = Source::Value(*node.out.first()?);
        (!m.graph.dtype(out).is_float()).then_some(())?;
        return Some(Position {
            from_last: 0,
            offset: start,
            len: m.graph.shape(out).first()?.clone(),
        });
    }
    if let Some(node) = m.made_by(source, &["aten.add.Tensor", "aten.sub.Tensor"]) {
        let mut at = position(m, node.tensor("self")?)?;
        let by = match node.arg("other")? {
            Arg::Int(n) => Dim::Size(*n),
            Arg::Sym(d) => d.clone(),
            _ => return None,
        };
        node.arg("alpha").is_none().then_some(())?;
        at.offset = match node.op.as_str() {
            "aten.add.Tensor" => plus(&at.offset, &by),
            _ => match by {
                Dim::Size(n) => plus(&at.offset, &Dim::Size(n.checked_neg()?)),
                _ => return None,
            },
        };
        return Some(at);
    }
    let node = m.made_by(source, &["aten.unsqueeze.default"])?;
    let from = node.tensor("self")?;
    let mut at = position(m, from)?;
    let rank = m.graph.shape(source).len() as i64;
    let dim = int(node, "dim", 0)?;
    let dim = if dim < 0 {
        dim.saturating_add(rank)
    } else {
        dim
    };
    // A new dimension behind the index moves it away from the end.
    let behind = (rank - 1).saturating_sub(dim) <= at.from_last as i64;
    at.from_last += usize::from(behind);
    Some(at)
}

/// Whether a size cannot be negative: it has no subtraction in it.
fn is_size(dim: &Dim) -> bool {
    match dim {
        Dim::Size(n) => *n >= 0,
        Dim::Sym(_) => true,
        Dim::Add(d) | Dim::Mul(d) | Dim::Max(d) | Dim::Min(d) => d.iter().all(is_size),
        Dim::Sub(..) | Dim::FloorDiv(..) | Dim::Mod(..) => false,
    }
}

/// The terms of a sum, its constant apart.
fn terms(dim: &Dim) -> (Vec<Dim>, i64) {
    match dim {
        Dim::Size(n) => (Vec::new(), *n),
        Dim::Add(parts) => {
            let mut all = (Vec::new(), 0);
            for part in parts {
                let (terms, constant) = terms(part);
                all.0.extend(terms);
                all.1 = i64::saturating_add(all.1, constant);
            }
            all.0.sort();
            all
        }
        other => (vec![other.clone()], 0),
    }
}

fn sum(mut parts: Vec<Dim>, constant: i64) -> Dim {
    if constant != 0 || parts.is_empty() {
        parts.push(Dim::Size(constant));
    }
    match parts.len() {
        1 => parts.remove(0),
        _ => Dim::Add(parts),
    }
}

fn plus(a: &Dim, b: &Dim) -> Dim {
    let (mut x, y) = (terms(a), terms(b));
    x.0.extend(y.0);
    x.0.sort();
    sum(x.0, x.1.saturating_add(y.1))
}

/// `a − b`, when what is left has no negative term.
fn minus(a: &Dim, b: &Dim) -> Option<Dim> {
    let ((mut x, n), (y, k)) = (terms(a), terms(b));
    for term in y {
        let at = x.iter().position(|t| *t == term)?;
        x.remove(at);
    }
    (n >= k || !x.is_empty()).then(|| sum(x, n.saturating_sub(k)))
}

/// `offset − window` as the two.
fn split(dim: &Dim) -> Option<(Dim, i64)> {
    let (parts, constant) = terms(dim);
    (constant < 0).then(|| (sum(parts, 0), constant.saturating_neg()))
}
