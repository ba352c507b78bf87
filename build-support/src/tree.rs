//! The module tree as it was called: which nodes and child calls make up each call.
//!
//! In: the [`Graph`]. Out: a [`Tree`] in which every node has one place, in an order that can be
//! executed. A call of one node is dissolved into its parent: a leaf module is a layer, not a struct.

use std::collections::HashMap;

use crate::graph::Graph;
use crate::manifest::{CallId, Source, ValueId};

/// A part of a call, in order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A node (index into the graph's nodes), and the leaf call that it stands for.
    Node(usize, Option<CallId>),
    /// A child call.
    Call(CallId),
}

/// What each call consists of.
#[derive(Debug)]
pub struct Tree {
    /// Items by call.
    pub items: Vec<Vec<Item>>,
    /// Values that a call must return, by call, in order of definition.
    pub outputs: Vec<Vec<ValueId>>,
    /// Calls that are structs, deepest first.
    pub order: Vec<Vec<CallId>>,
}

/// Arranges the graph's nodes by module call.
pub fn tree(graph: &Graph) -> Tree {
    let calls = graph.m.calls.len();
    let parent = |c: CallId| graph.m.calls[c.0].parent;
    let chain = |mut c: CallId| {
        let mut chain = vec![c];
        while let Some(p) = parent(c) {
            chain.push(p);
            c = p;
        }
        chain.reverse();
        chain
    };

    let mut items: Vec<Vec<Item>> = vec![Vec::new(); calls];
    let mut open: Vec<CallId> = vec![CallId(0)];
    let mut opened = vec![false; calls];
    opened[0] = true;
    for (i, node) in graph.nodes.iter().enumerate() {
        let wanted = chain(node.call);
        let common = open.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
        open.truncate(common);
        for &call in &wanted[common..] {
            // A call that was left is not entered again: its late nodes belong to the parent.
            if opened[call.0] {
                break;
            }
            opened[call.0] = true;
            items[open[open.len() - 1].0].push(Item::Call(call));
            open.push(call);
        }
        items[open[open.len() - 1].0].push(Item::Node(i, None));
    }

    dissolve_leaves(&mut items);
    let place = places(&items, graph);
    let outputs = outputs(graph, &place, &chain);
    let order = by_height(&items);
    Tree {
        items,
        outputs,
        order,
    }
}

/// Moves the node of each one-node call into its parent.
fn dissolve_leaves(items: &mut [Vec<Item>]) {
    let leaf: HashMap<usize, usize> = items
        .iter()
        .enumerate()
        .skip(1)
        .filter_map(|(c, list)| match list[..] {
            [Item::Node(node, _)] => Some((c, node)),
            _ => None,
        })
        .collect();
    for list in items.iter_mut() {
        for item in list {
            if let Item::Call(c) = *item
                && let Some(&node) = leaf.get(&c.0)
            {
                *item = Item::Node(node, Some(c));
            }
        }
    }
    for c in leaf.keys() {
        items[*c].clear();
    }
}

/// The call in which each value is made.
fn places(items: &[Vec<Item>], graph: &Graph) -> HashMap<ValueId, CallId> {
    let mut place = HashMap::new();
    for (c, list) in items.iter().enumerate() {
        for item in list {
            if let Item::Node(node, _) = item {
                for out in &graph.nodes[*node].out {
                    place.insert(*out, CallId(c));
                }
            }
        }
    }
    place
}

fn outputs(
    graph: &Graph,
    place: &HashMap<ValueId, CallId>,
    chain: &dyn Fn(CallId) -> Vec<CallId>,
) -> Vec<Vec<ValueId>> {
    let mut leaves = vec![Vec::new(); graph.m.calls.len()];
    let mut escape = |value: ValueId, user: &[CallId]| {
        let Some(made) = place.get(&value) else {
            return;
        };
        let made = chain(*made);
        let common = made.iter().zip(user).take_while(|(a, b)| a == b).count();
        for call in &made[common..] {
            leaves[call.0].push(value);
        }
    };
    for node in &graph.nodes {
        let user = chain(place[&node.out[0]]);
        for (_, arg) in &node.args {
            arg.sources(&mut |s| {
                if let Source::Value(v) = s {
                    escape(v, &user);
                }
            });
        }
    }
    for (_, output) in graph.outputs() {
        if let Source::Value(v) = output {
            escape(v, &[CallId(0)]);
        }
    }
    // Order of definition, so that equal modules have equal lists.
    let mut defined = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for (j, out) in node.out.iter().enumerate() {
            defined.insert(*out, (i, j));
        }
    }
    for list in &mut leaves {
        list.sort_by_key(|v| defined[v]);
        list.dedup();
    }
    leaves
}

/// Calls that still have items, grouped by the depth of what is below them.
fn by_height(items: &[Vec<Item>]) -> Vec<Vec<CallId>> {
    let mut height = vec![0; items.len()];
    let mut order: Vec<Vec<CallId>> = Vec::new();
    // A parent comes before its children in the manifest, so backwards is children first.
    for c in (0..items.len()).rev() {
        if items[c].is_empty() && c != 0 {
            continue;
        }
        let below = items[c].iter().filter_map(|item| match item {
            Item::Call(child) => Some(height[child.0] + 1),
            Item::Node(..) => None,
        });
        height[c] = below.max().unwrap_or(0);
        if order.len() <= height[c] {
            order.resize(height[c] + 1, Vec::new());
        }
        order[height[c]].push(CallId(c));
    }
    for level in &mut order {
        level.reverse();
    }
    order
}
