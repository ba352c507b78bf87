//! Lowering: each graph node becomes an expression of the generated code.
//!
//! In: the cleaned and fused [`Graph`]. Out: one [`Lowered`] per node, or every node that has no
//! lowering, reported together. Which expression an op becomes is a row of [`crate::ops`].

mod args;

use std::collections::HashSet;

use crate::graph::Graph;
use crate::ir::Lowered;
use crate::manifest::{Node, Source, ValueId};
use crate::ops;
pub use args::{Ctx, Operand, cast, storage};

/// Why a node cannot be lowered; shown after the op's name.
#[derive(Debug)]
pub struct Why(pub String);

/// A node that cannot be lowered.
#[derive(Debug)]
pub struct Unsupported {
    /// Index into the graph's nodes.
    pub node: usize,
    /// `None` when the op has no row.
    pub why: Option<Why>,
}

/// Lowers every node of the graph.
pub fn lower(graph: &Graph) -> Result<Vec<Lowered>, Vec<Unsupported>> {
    let mut lowered = Vec::with_capacity(graph.nodes.len());
    let mut failed = Vec::new();
    let read = read(graph);
    for (i, node) in graph.nodes.iter().enumerate() {
        let c = Ctx { graph, node };
        if let Err(why) = c.leaves_caches_alone() {
            failed.push(Unsupported {
                node: i,
                why: Some(why),
            });
            continue;
        }
        match ops::row(&node.op).map(|rule| c.apply(rule)) {
            Some(Ok(l)) => match l.lacks(node, &read) {
                None => lowered.push(l),
                Some(output) => failed.push(Unsupported {
                    node: i,
                    why: Some(Why(format!("output {output} is used and has no lowering"))),
                }),
            },
            Some(Err(why)) => failed.push(Unsupported {
                node: i,
                why: Some(why),
            }),
            None => failed.push(Unsupported { node: i, why: None }),
        }
    }
    failed.extend(lost_states(graph));
    if failed.is_empty() {
        Ok(lowered)
    } else {
        Err(failed)
    }
}

/// Values that a node reads or the model returns.
fn read(graph: &Graph) -> HashSet<ValueId> {
    let mut read = HashSet::new();
    let mut add = |source| {
        if let Source::Value(v) = source {
            read.insert(v);
        }
    };
    for node in &graph.nodes {
        node.args.iter().for_each(|(_, arg)| arg.sources(&mut add));
    }
    for output in &graph.m.outputs {
        add(graph.resolve(output.value));
    }
    read
}

impl Lowered {
    /// An output that something reads and this does not make.
    fn lacks(&self, node: &Node, read: &HashSet<ValueId>) -> Option<usize> {
        let makes = |i: usize| match self {
            Lowered::One(_) => i == 0,
            Lowered::Each(parts) => parts.iter().any(|(part, _)| *part == i),
            Lowered::Tuple(_, n) => node.out.len() == *n,
        };
        (0..node.out.len()).find(|&i| read.contains(&node.out[i]) && !makes(i))
    }
}

/// States that come back as anything but themselves or their extension.
fn lost_states<'g>(graph: &'g Graph) -> impl Iterator<Item = Unsupported> + 'g {
    graph.m.states.iter().filter_map(|state| {
        let Source::Value(value) = graph.resolve(graph.m.outputs[state.output].value) else {
            return None;
        };
        let made = |n: &Node| n.out.contains(&value);
        let node = graph.nodes.iter().position(made)?;
        let why = format!(
            "makes the cache `{}` come back as something other than what was there with more \
             appended along dimension {}",
            graph.m.inputs[state.input].name, state.dim
        );
        (graph.nodes[node].op != crate::graph::APPEND).then_some(Unsupported {
            node,
            why: Some(Why(why)),
        })
    })
}
