//! Attention over repeated key and value heads reads the heads once, also where it is written out.

use super::{Fused, Matcher, VIEWS, int, size, tensor};
use crate::manifest::{Arg, Node, Source};

pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    match node.op.as_str() {
        "aten.scaled_dot_product_attention.default" => attention(m, node),
        "aten.matmul.default" => product(m, node),
        _ => None,
    }
}

/// A product with repeated heads, or with each of them transposed, as attention by hand has both.
fn product(m: &Matcher, node: &Node) -> Option<Fused> {
    let (x, other) = (node.tensor("self")?, node.tensor("other")?);
    let transpose = m.made_by(other, &["aten.transpose.int"]);
    let swaps = |node: &&Node| {
        let dim = |name| int(node, name, 0).map(|dim| dim.rem_euclid(4));
        matches!(
            (dim("dim0"), dim("dim1")),
            (Some(2), Some(3)) | (Some(3), Some(2))
        )
    };
    let transpose = transpose.filter(swaps);
    let of = transpose.map_or(Some(other), |node| node.tensor("self"))?;
    let heads = repeated(m, of)?;
    let (rows, repeated) = (m.graph.shape(x), m.graph.shape(of));
    (rows.len() == 4 && rows[..2] == repeated[..2]).then_some(())?;
    let args = vec![
        tensor("input", x),
        tensor("heads", heads),
        ("transposed".to_owned(), Arg::Bool(transpose.is_some())),
    ];
    Some(("pycandle.matmul_heads".to_owned(), args))
}

fn attention(m: &Matcher, node: &Node) -> Option<Fused> {
    let key = repeated(m, node.tensor("key")?)?;
    let value = repeated(m, node.tensor("value")?)?;
    let heads = |source| m.graph.shape(source).get(1).cloned();
    (heads(key) == heads(value)).then_some(())?;
    (heads(node.tensor("query")?) == heads(node.tensor("key")?)).then_some(())?;
    let mut args = node.args.clone();
    for (name, arg) in &mut args {
        match name.as_str() {
            "key" => *arg = Arg::Tensor(key),
            "value" => *arg = Arg::Tensor(value),
            _ => {}
        }
    }
    Some((node.op.clone(), args))
}

/// The tensor `[batch, heads, n, d]` of which each head is repeated, by an op or by `unsqueeze(2)`,
/// `expand` and a reshape.
fn repeated(m: &Matcher, source: Source) -> Option<Source> {
    if let Some(repeat) = m.made_by(source, &["aten.repeat_interleave.self_int"]) {
        let heads = repeat.tensor("self")?;
        let is_heads = m.graph.shape(heads).len() == 4 && matches!(int(repeat, "dim", 0)?, 1 | -3);
        return is_heads.then_some(heads);
    }
    let view = m.made_by(source, VIEWS)?;
    let expand = m.made_by(view.tensor("self")?, &["aten.expand.default"])?;
    let unsqueeze = m.made_by(expand.tensor("self")?, &["aten.unsqueeze.default"])?;
    let heads = unsqueeze.tensor("self")?;
    let (from, wide, to) = (
        m.graph.shape(heads),
        m.graph.shape(Source::Value(expand.out[0])),
        m.graph.shape(source),
    );
    let ([b, h, n, d], [b1, h1, r, n1, d1], [b2, h2, n2, d2]) = (&from[..], &wide[..], &to[..])
    else {
        return None;
    };
    let same = [
        (b, b1),
        (b, b2),
        (h, h1),
        (n, n1),
        (n, n2),
        (d, d1),
        (d, d2),
    ];
    let all = same.iter().all(|(x, y)| x == y);
    let grows = size(h)? * size(r)? == size(h2)?;
    (int(unsqueeze, "dim", 0)? == 2 && all && grows).then_some(heads)
}
