//! Positions that start later: `arange(n) + k` becomes `arange(k, n + k)`.

use super::{Fused, Matcher};
use crate::manifest::{Arg, Dim, Node, Source};

pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    if node.op != "aten.add.Tensor" || node.arg("alpha").is_some() {
        return None;
    }
    let range = m.made_by(node.tensor("self")?, &["aten.arange.default"])?;
    let integer = |s: Source| !m.graph.dtype(s).is_float();
    (integer(Source::Value(range.out[0])) && integer(Source::Value(node.out[0]))).then_some(())?;
    let (end, by) = (size(range.arg("end")?)?, size(node.arg("other")?)?);
    let sum = match (&end, &by) {
        (Dim::Size(a), Dim::Size(b)) => Dim::Size(a.checked_add(*b)?),
        _ => Dim::Add(vec![by.clone(), end]),
    };
    let args = vec![
        ("start".to_owned(), argument(by)),
        ("end".to_owned(), argument(sum)),
    ];
    Some(("aten.arange.start".to_owned(), args))
}

fn size(arg: &Arg) -> Option<Dim> {
    match arg {
        Arg::Int(n) if *n >= 0 => Some(Dim::Size(*n)),
        Arg::Sym(d) => Some(d.clone()),
        _ => None,
    }
}

fn argument(dim: Dim) -> Arg {
    match dim {
        Dim::Size(n) => Arg::Int(n),
        other => Arg::Sym(other),
    }
}
