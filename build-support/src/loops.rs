//! Loops: consecutive calls of equal modules of one list.
//!
//! In: a call's items and the finished children. Out: a [`Run`] when the calls from some item on can
//! be written as one loop, `None` when they have to be written out.

use std::collections::{HashMap, HashSet};

use crate::body::{FieldPath, Instance, relative};
use crate::graph::Graph;
use crate::manifest::{CallId, Source, ValueId};
use crate::tree::Item;

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
    /// The outputs.
    pub outs: Vec<Out>,
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

/// An output over the rounds.
#[derive(Debug)]
pub struct Out {
    /// What the first round takes in its place, when the next round takes it.
    pub init: Option<Source>,
    /// The rounds whose output is read after the loop, without the last of one that is carried.
    pub kept: Vec<usize>,
}

/// The calls of a module in which loops are looked for.
pub struct Calls<'a> {
    /// The graph.
    pub graph: &'a Graph<'a>,
    /// The finished children.
    pub done: &'a HashMap<CallId, Instance>,
    /// The module's call.
    pub parent: CallId,
    /// What it consists of.
    pub items: &'a [Item],
    /// How many of the items read each value; returning it counts.
    pub uses: HashMap<ValueId, usize>,
}

impl Calls<'_> {
    /// The longest run of calls from item `at` on that can be one loop.
    pub fn find(&self, at: usize) -> Option<Run> {
        let (path, first, calls) = self.candidates(at)?;
        let all: Vec<&Instance> = calls.iter().map(|c| &self.done[c]).collect();
        // Calls that can be a loop still can without the last, so the longest is found by halving.
        let (mut most, mut too_many) = (1, all.len() + 1);
        while too_many - most > 1 {
            let n = most.midpoint(too_many);
            match args(&all[..n]) {
                Some(_) => most = n,
                None => too_many = n,
            }
        }
        let all = (most > 1).then_some(&all[..most])?;
        let args = args(all)?;
        let outs = (0..all[0].outputs.len()).map(|o| self.out(all, &args, o));
        Some(Run {
            outs: outs.collect(),
            args,
            calls: calls[..most].to_vec(),
            path,
            first,
        })
    }

    /// Calls of equal modules at consecutive indices of one list: its path, the first index, and
    /// the calls.
    fn candidates(&self, at: usize) -> Option<(String, usize, Vec<CallId>)> {
        let mut calls: Vec<CallId> = Vec::new();
        let mut begin = None;
        for item in &self.items[at..] {
            let Item::Call(call) = *item else {
                break;
            };
            let Some((list, index)) = self.element(call) else {
                break;
            };
            let (path, first) = begin.get_or_insert((list, index));
            if *path != list
                || *first + calls.len() != index
                || self.done[&call].def != self.done[calls.first().unwrap_or(&call)].def
            {
                break;
            }
            calls.push(call);
        }
        let (path, first) = begin?;
        Some((path.to_owned(), first, calls))
    }

    /// List path and index of a call of a list's element.
    fn element(&self, call: CallId) -> Option<(&str, usize)> {
        let path = self.graph.path(call);
        let (list, index) = path.rsplit_once('.').unwrap_or(("", path));
        let below = relative(self.graph.path(self.parent), path);
        matches!(below, FieldPath::Own(_)).then_some(())?;
        Some((list, index.parse().ok()?))
    }

    fn out(&self, all: &[&Instance], args: &[Arg], out: usize) -> Out {
        let carried = |a: &Arg| matches!(a, Arg::Carried(o) if *o == out);
        let init = args.iter().position(carried).map(|a| all[0].inputs[a]);
        let last = all.len() - 1;
        let kept = all.iter().enumerate().filter(|(round, instance)| {
            let uses = self.uses.get(&instance.outputs[out]).copied();
            let uses = uses.unwrap_or_default();
            match init {
                // The next round is one that reads it.
                Some(_) => *round < last && uses > 1,
                None => uses > 0,
            }
        });
        Out {
            kept: kept.map(|(round, _)| round).collect(),
            init,
        }
    }
}

/// The arguments of these calls as one loop, if they allow it.
fn args(all: &[&Instance]) -> Option<Vec<Arg>> {
    if all.iter().any(|i| i.sizes != all[0].sizes) || !evenly_spaced(all) {
        return None;
    }
    let made = all.iter().flat_map(|i| &i.outputs);
    let made: HashSet<Source> = made.map(|v| Source::Value(*v)).collect();
    let args = (0..all[0].inputs.len()).map(|a| classify(all, a, &made));
    args.collect()
}

/// Whether each round works on the same caches, its layers as much further as every other round's.
fn evenly_spaced(all: &[&Instance]) -> bool {
    let step = |cache: usize, pair: &[&Instance]| -> Option<usize> {
        let ((a, from), (b, to)) = (&pair[0].caches[cache], &pair[1].caches[cache]);
        let step = to[0].checked_sub(from[0]).filter(|step| *step > 0)?;
        let moved = from.iter().map(|layer| layer + step);
        (a == b && moved.eq(to.iter().copied())).then_some(step)
    };
    (0..all[0].caches.len()).all(|cache| {
        let mut steps = all.windows(2).map(|pair| step(cache, pair));
        let first = steps.next().flatten();
        all.len() < 2 || first.is_some() && steps.all(|step| step == first)
    })
}

fn classify(all: &[&Instance], arg: usize, made: &HashSet<Source>) -> Option<Arg> {
    let sources: Vec<Source> = all.iter().map(|i| i.inputs[arg]).collect();
    let before = |s: &Source| !made.contains(s);
    if sources.iter().all(|s| *s == sources[0]) && before(&sources[0]) {
        return Some(Arg::Same(sources[0]));
    }
    for out in 0..all[0].outputs.len() {
        let previous = all.iter().map(|i| Source::Value(i.outputs[out]));
        let previous = previous.take(all.len() - 1);
        if sources[1..].iter().copied().eq(previous) {
            return Some(Arg::Carried(out));
        }
    }
    sources.iter().all(before).then_some(Arg::Each(sources))
}
