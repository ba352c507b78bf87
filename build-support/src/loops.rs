//! Loops: consecutive calls of equal modules of one list.
//!
//! In: a call's items and the finished children. Out: a [`Run`] when the calls from some item on can
//! be written as one loop, `None` when they have to be written out.

use std::collections::HashMap;

use crate::body::{FieldPath, Instance, relative};
use crate::graph::Graph;
use crate::manifest::{CallId, Source, ValueId};
use crate::tree::{Item, Tree};

/// Calls that form a loop.
#[derive(Debug)]
pub struct Run {
    /// The calls, in order.
    pub calls: Vec<CallId>,
    /// Module path of the list.
    pub path: String,
    /// Index of the first element.
    pub first: usize,
    /// The tensor arguments.
    pub args: Vec<Arg>,
    /// Initial value of each output, which the next round takes.
    pub inits: Vec<Source>,
}

/// A tensor argument over the rounds.
#[derive(Debug)]
pub enum Arg {
    /// The same in every round.
    Same(Source),
    /// The previous round's output.
    Carried(usize),
    /// One per round, all made before the loop.
    Each(Vec<Source>),
}

/// The longest run of calls from item `at` on that can be one loop.
pub fn find(
    graph: &Graph,
    tree: &Tree,
    done: &HashMap<CallId, Instance>,
    parent: CallId,
    at: usize,
) -> Option<Run> {
    let calls = candidates(graph, tree, done, parent, at);
    // Within a run only the next round may read what a round makes.
    let read_later = |call: &CallId| {
        let outputs = &done[call].outputs;
        outputs
            .iter()
            .any(|v| uses(graph, tree, done, parent, *v) != 1)
    };
    let longest = calls
        .iter()
        .position(read_later)
        .map_or(calls.len(), |i| i + 1);
    (2..=longest)
        .rev()
        .find_map(|n| run(graph, done, parent, &calls[..n]))
}

/// These calls as a loop, if their arguments allow it.
fn run(
    graph: &Graph,
    done: &HashMap<CallId, Instance>,
    parent: CallId,
    calls: &[CallId],
) -> Option<Run> {
    let all: Vec<&Instance> = calls.iter().map(|c| &done[c]).collect();
    if all.iter().any(|i| i.sizes != all[0].sizes) || !consecutive_layers(&all) {
        return None;
    }
    let args = (0..all[0].inputs.len()).map(|a| classify(&all, a));
    let args: Vec<Arg> = args.collect::<Option<_>>()?;
    let mut inits = Vec::new();
    for out in 0..all[0].outputs.len() {
        let carried = |a: &Arg| matches!(a, Arg::Carried(o) if *o == out);
        inits.push(all[0].inputs[args.iter().position(carried)?]);
    }
    let (path, first) = element(graph, parent, calls[0])?;
    Some(Run {
        calls: calls.to_vec(),
        path,
        first,
        args,
        inits,
    })
}

/// List path and index of a call of a list's element.
fn element(graph: &Graph, parent: CallId, call: CallId) -> Option<(String, usize)> {
    let path = graph.path(call);
    let (list, index) = path.rsplit_once('.')?;
    matches!(relative(graph.path(parent), path), FieldPath::Own(p) if p.contains('.'))
        .then_some(())?;
    Some((list.to_owned(), index.parse().ok()?))
}

fn candidates(
    graph: &Graph,
    tree: &Tree,
    done: &HashMap<CallId, Instance>,
    parent: CallId,
    at: usize,
) -> Vec<CallId> {
    let mut calls: Vec<CallId> = Vec::new();
    for item in &tree.items[parent.0][at..] {
        let Item::Call(call) = *item else {
            break;
        };
        let Some((list, index)) = element(graph, parent, call) else {
            break;
        };
        if let Some(previous) = calls.last() {
            let next = element(graph, parent, *previous).map(|(l, i)| (l, i + 1));
            let same = done[&call].def == done[previous].def;
            if next != Some((list, index)) || !same {
                break;
            }
        }
        calls.push(call);
    }
    calls
}

fn consecutive_layers(all: &[&Instance]) -> bool {
    let layer = |i: &Instance| -> Option<Vec<(String, usize)>> {
        let one = |(name, layers): &(String, Vec<usize>)| match layers[..] {
            [layer] => Some((name.clone(), layer)),
            _ => None,
        };
        i.caches.iter().map(one).collect()
    };
    all.windows(2)
        .all(|pair| match (layer(pair[0]), layer(pair[1])) {
            (Some(a), Some(b)) => {
                let next = a.into_iter().map(|(n, l)| (n, l + 1));
                next.eq(b)
            }
            _ => false,
        })
}

fn classify(all: &[&Instance], arg: usize) -> Option<Arg> {
    let sources: Vec<Source> = all.iter().map(|i| i.inputs[arg]).collect();
    if sources.iter().all(|s| *s == sources[0]) {
        return Some(Arg::Same(sources[0]));
    }
    for out in 0..all[0].outputs.len() {
        let previous = all.iter().map(|i| Source::Value(i.outputs[out]));
        if sources[1..]
            .iter()
            .copied()
            .eq(previous.take(all.len() - 1))
        {
            return Some(Arg::Carried(out));
        }
    }
    let made = |s: &Source| {
        all.iter()
            .any(|i| i.outputs.iter().any(|o| Source::Value(*o) == *s))
    };
    (!sources.iter().any(made)).then_some(Arg::Each(sources))
}

/// How many items of the parent read a value; returning it counts.
fn uses(
    graph: &Graph,
    tree: &Tree,
    done: &HashMap<CallId, Instance>,
    parent: CallId,
    value: ValueId,
) -> usize {
    let wanted = Source::Value(value);
    let in_items = tree.items[parent.0].iter().filter(|item| match item {
        Item::Call(c) => done[c].inputs.contains(&wanted),
        Item::Node(n, _) => {
            let mut found = false;
            for (_, arg) in &graph.nodes[*n].args {
                arg.sources(&mut |s| found |= s == wanted);
            }
            found
        }
    });
    let returned = tree.outputs[parent.0].contains(&value)
        || (parent.0 == 0 && graph.outputs().any(|(_, s)| s == wanted));
    in_items.count() + usize::from(returned)
}
