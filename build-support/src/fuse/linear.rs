//! A linear layer that flattens its input and restores it becomes one over the last dimension.

use super::{Fused, Matcher, VIEWS, number};
use crate::manifest::{Arg, Node, Source};

/// `view(addmm(bias, view(x, [n, k]), weight), [.., m])`
pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    if !VIEWS.contains(&node.op.as_str()) {
        return None;
    }
    let product = m.made_by(node.tensor("self")?, &["aten.addmm.default"])?;
    let held = |name| matches!(product.tensor(name), Some(Source::Param(_)));
    (held("self") && held("mat2")).then_some(())?;
    let plain = |name| product.arg(name).is_none() || number(product, name) == Some(1.0);
    (plain("beta") && plain("alpha")).then_some(())?;
    let flat = m.made_by(product.tensor("mat1")?, VIEWS)?;
    let x = flat.tensor("self")?;
    let (from, to) = (m.graph.shape(x), m.graph.shape(Source::Value(node.out[0])));
    let same_rows = from.split_last()?.1 == to.split_last()?.1;
    let columns = m.graph.shape(product.tensor("mat2")?);
    (same_rows && from.last() == columns.first() && to.last() == columns.last()).then_some(())?;
    let mut args = product.args.clone();
    for (name, arg) in &mut args {
        if name == "mat1" {
            *arg = Arg::Tensor(x);
        }
    }
    Some(("pycandle.addmm".to_owned(), args))
}
