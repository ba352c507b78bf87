//! Names of a struct's inputs, from where they come from.

use std::collections::HashMap;

use super::STREAM;
use crate::dedup::Def;
use crate::graph::Graph;
use crate::manifest::{CallId, Dim, Dtype, Source, ValueId};
use crate::names;

/// A graph, and which node makes each value.
#[derive(Debug)]
pub struct Sources<'a> {
    pub(super) graph: &'a Graph<'a>,
    made_by: HashMap<ValueId, usize>,
}

impl<'a> Sources<'a> {
    /// Looks at all nodes once.
    pub fn new(graph: &'a Graph<'a>) -> Self {
        let nodes = graph.nodes.iter().enumerate();
        let made_by = nodes.flat_map(|(i, n)| n.out.iter().map(move |v| (*v, i)));
        Self {
            made_by: made_by.collect(),
            graph,
        }
    }

    /// What all calls of a struct would call an input.
    pub(super) fn input(&self, def: &Def, input: usize) -> String {
        let of = |i: usize| self.name(def.calls[i].1.inputs[input], 8);
        let same = |name: &String| (1..def.calls.len()).all(|i| of(i).as_ref() == Some(name));
        of(0).filter(same).unwrap_or_else(|| {
            let source = def.calls[0].1.inputs[input];
            let name = match self.graph.dtype(source) {
                Dtype::Bool => "mask",
                d if d.is_float() => STREAM,
                _ => "ids",
            };
            name.to_owned()
        })
    }

    /// The sizes of an input, in the first call.
    pub(super) fn shape(&self, def: &Def, input: usize) -> Vec<Dim> {
        self.graph.shape(def.calls[0].1.inputs[input])
    }

    /// The module beside a struct that makes an input of it, when all its calls agree.
    pub(super) fn maker(&self, def: &Def, input: usize) -> Option<String> {
        let of = |i: usize| {
            let (call, local) = &def.calls[i];
            self.sibling(*call, local.inputs[input])
        };
        let first = of(0)?;
        (1..def.calls.len())
            .all(|i| of(i).as_ref() == Some(&first))
            .then_some(first)
    }

    /// The module beside a call, or beside one around it, that a value is made in.
    fn sibling(&self, call: CallId, source: Source) -> Option<String> {
        let Source::Value(value) = source else {
            return None;
        };
        let calls = &self.graph.m.calls;
        let around = |from: CallId| std::iter::successors(Some(from), |c| calls[c.0].parent);
        let reader: Vec<CallId> = around(call).collect();
        let maker = self.graph.nodes[*self.made_by.get(&value)?].call;
        let sibling = around(maker).take_while(|c| !reader.contains(c)).last()?;
        let mut segments = self.graph.path(sibling).rsplit('.');
        let name = segments.find(|s| !names::is_index(s))?;
        Some(names::snake(name))
    }

    /// A telling name for a graph value, if it has one.
    fn name(&self, source: Source, depth: usize) -> Option<String> {
        let Source::Value(value) = source else {
            return None;
        };
        let graph = self.graph;
        if let Some(input) = graph.m.inputs.iter().find(|i| i.value == value) {
            return Some(names::snake(&input.name));
        }
        if graph.dtype(source) == Dtype::Bool {
            return Some("mask".to_owned());
        }
        let node = &graph.nodes[*self.made_by.get(&value)?];
        let base = node
            .op
            .trim_start_matches("aten.")
            .trim_start_matches("pycandle.");
        let base = base.split('.').next().unwrap_or(base);
        match base {
            "cos" | "sin" => Some(base.to_owned()),
            "arange" => Some("positions".to_owned()),
            "add" | "_to_copy" | "unsqueeze" | "view" | "expand" | "slice" | "transpose"
                if depth > 0 && (base != "add" || !graph.dtype(source).is_float()) =>
            {
                let from = node.args.iter().find_map(|(_, a)| a.tensor())?;
                self.name(from, depth - 1)
            }
            _ => None,
        }
    }
}
