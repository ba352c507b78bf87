//! GELU's tanh form written out becomes the function.

use super::{Fused, Matcher, is_plain, number, tensor};
use crate::manifest::{Arg, Node, Source};

/// `(x * 0.5) * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`, in either order of the halves.
pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    if node.op != "aten.mul.Tensor" {
        return None;
    }
    let x = m.either(node)?.into_iter().find_map(|(half, rest)| {
        let half = m.made_by(half, &["aten.mul.Tensor"])?;
        let x = half.tensor("self")?;
        let one = m.made_by(rest, &["aten.add.Tensor"])?;
        let tanh = m.made_by(one.tensor("self")?, &["aten.tanh.default"])?;
        let scaled = m.made_by(tanh.tensor("self")?, &["aten.mul.Tensor"])?;
        let inner = m.made_by(scaled.tensor("self")?, &["aten.add.Tensor"])?;
        let cubic = m.made_by(inner.tensor("other")?, &["aten.mul.Tensor"])?;
        let cube = m.made_by(cubic.tensor("self")?, &["aten.pow.Tensor_Scalar"])?;
        let is = |node: &Node, name: &str, value: f64| {
            number(node, name).is_some_and(|n| (n - value).abs() <= 1e-12)
        };
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let numbers = is(half, "other", 0.5)
            && is(one, "other", 1.0)
            && is(scaled, "other", root)
            && is(cubic, "other", 0.044_715)
            && is(cube, "exponent", 3.0);
        let numbers = numbers && is_plain(one) && is_plain(inner);
        let same = inner.tensor("self")? == x && cube.tensor("self")? == x;
        (numbers && same).then_some(x)
    })?;
    (m.graph.dtype(x) == m.graph.dtype(Source::Value(node.out[0]))).then_some(())?;
    let approximate = ("approximate".to_owned(), Arg::Str("tanh".to_owned()));
    Some((
        "aten.gelu.default".to_owned(),
        vec![tensor("self", x), approximate],
    ))
}
