//! Fusions: patterns of ops that become one op of the runtime.
//!
//! In: the cleaned [`Graph`]. Out: the same graph with fewer nodes. A pattern is replaced at its last
//! node; what else read the nodes before still finds them, and nodes that nobody reads are dropped.
//! Each fusion is proved by a test that runs models with and without it.

mod arange;
mod gated;
mod gelu;
mod gqa;
mod linear;
mod mask;
mod rms_norm;
mod rope;

use std::collections::HashMap;

use crate::graph::Graph;
use crate::manifest::{Arg, Dim, Node, Source, ValueId};

/// Rewrites every pattern that is found.
pub fn fuse(graph: &mut Graph) {
    let rules = [
        linear::rewrite,
        gelu::rewrite,
        rms_norm::rewrite,
        rope::rewrite,
        gqa::rewrite,
        gated::rewrite,
        mask::unneeded,
        mask::rewrite,
        arange::rewrite,
    ];
    for rule in rules {
        let found = {
            let matcher = Matcher::new(graph);
            let nodes = graph.nodes.iter().enumerate();
            let found = nodes.filter_map(|(i, n)| Some((i, rule(&matcher, n)?)));
            found.collect::<Vec<_>>()
        };
        for (i, (op, args)) in found {
            let node = &mut graph.nodes[i];
            node.op = op;
            node.args = args;
            if mask::NARROWED.contains(&node.op.as_str()) {
                let out = node.out[0];
                graph.narrow(out);
            }
        }
        graph.prune();
    }
}

/// Ops that only change the shape.
const VIEWS: &[&str] = &[
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
];

/// Ops that only change the dtype.
const CASTS: &[&str] = &[
    "aten._to_copy.default",
    "aten.to.dtype",
    "aten.type_as.default",
];

/// What a matched node becomes: an op and its arguments.
type Fused = (String, Vec<(String, Arg)>);

/// Looks up how values are made.
struct Matcher<'g> {
    graph: &'g Graph<'g>,
    made_by: HashMap<ValueId, usize>,
    readers: HashMap<ValueId, usize>,
}

impl<'g> Matcher<'g> {
    fn new(graph: &'g Graph<'g>) -> Self {
        let mut made_by = HashMap::new();
        let mut readers: HashMap<ValueId, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            made_by.extend(node.out.iter().map(|v| (*v, i)));
            for (_, arg) in &node.args {
                arg.sources(&mut |s| {
                    if let Source::Value(v) = s {
                        *readers.entry(v).or_default() += 1;
                    }
                });
            }
        }
        Self {
            graph,
            made_by,
            readers,
        }
    }

    /// The node that makes a tensor, if it is one of these ops.
    fn made_by(&self, source: Source, ops: &[&str]) -> Option<&'g Node> {
        let Source::Value(v) = source else {
            return None;
        };
        let node = &self.graph.nodes[*self.made_by.get(&v)?];
        ops.contains(&node.op.as_str()).then_some(node)
    }

    /// A tensor before a cast, if it is the result of one.
    fn before_cast(&self, source: Source) -> Source {
        let cast = self.made_by(source, CASTS);
        cast.and_then(|node| node.args.iter().find_map(|(_, a)| a.tensor()))
            .unwrap_or(source)
    }

    /// Whether one node alone reads a tensor.
    fn is_read_once(&self, source: Source) -> bool {
        match source {
            Source::Value(v) => self.readers.get(&v) == Some(&1),
            _ => false,
        }
    }

    /// Both operands of a commutative op, in both orders.
    fn either(&self, node: &Node) -> Option<[(Source, Source); 2]> {
        let (a, b) = (node.tensor("self")?, node.tensor("other")?);
        Some([(a, b), (b, a)])
    }
}

fn tensor(name: &str, source: Source) -> (String, Arg) {
    (name.to_owned(), Arg::Tensor(source))
}

/// An integer argument, `default` when it is not given.
fn int(node: &Node, name: &str, default: i64) -> Option<i64> {
    match node.arg(name) {
        None | Some(Arg::Null) => Some(default),
        Some(Arg::Int(i)) => Some(*i),
        _ => None,
    }
}

/// A number argument.
fn number(node: &Node, name: &str) -> Option<f64> {
    match node.arg(name)? {
        Arg::Int(i) => Some(*i as f64),
        Arg::Float(f) => Some(*f),
        _ => None,
    }
}

/// Whether an addition adds its operands as they are.
fn is_plain(node: &Node) -> bool {
    node.arg("alpha").is_none() || number(node, "alpha") == Some(1.0)
}

/// Whether a dimension index means the last of `rank`.
fn is_last(dim: i64, rank: usize) -> bool {
    dim == -1 || dim == rank as i64 - 1
}

fn size(dim: &Dim) -> Option<i64> {
    match dim {
        Dim::Size(n) => Some(*n),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
