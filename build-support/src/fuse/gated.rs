//! `activation(gate) * up` becomes one pass.

use super::{Fused, Matcher, tensor};
use crate::manifest::{Arg, Node};

pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    if node.op != "aten.mul.Tensor" {
        return None;
    }
    m.either(node)?.into_iter().find_map(|(gate, up)| {
        let activation = m.made_by(gate, &["aten.silu.default", "aten.gelu.default"])?;
        let same =
            m.graph.shape(gate) == m.graph.shape(up) && m.graph.dtype(gate) == m.graph.dtype(up);
        (same && m.is_read_once(gate)).then_some(())?;
        let op = match (activation.op.as_str(), activation.arg("approximate")) {
            ("aten.silu.default", _) => "pycandle.swiglu",
            (_, Some(Arg::Str(s))) if s == "tanh" => "pycandle.gelu_tanh_mul",
            (_, Some(Arg::Str(s))) if s != "none" => return None,
            _ => "pycandle.gelu_mul",
        };
        let args = vec![tensor("gate", activation.tensor("self")?), tensor("up", up)];
        Some((op.to_owned(), args))
    })
}
