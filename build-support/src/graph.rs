//! The graph that later stages rewrite: the manifest's nodes, cleaned.
//!
//! In: a checked [`Manifest`]. Out: a [`Graph`] without no-ops, duplicates and dead nodes, in which
//! the caches' concatenations are appends. Nothing here changes what is computed.

use std::collections::{HashMap, HashSet};

use crate::manifest::{Arg, Data, Dim, Dtype, Manifest, Node, Scalar, Source, ValueId};

/// Op name of an append to a cache: `state` (index), `input` (the new part).
pub const APPEND: &str = "pycandle.append";

/// A graph over a manifest.
#[derive(Debug, Clone)]
pub struct Graph<'m> {
    /// The manifest that the graph was made from.
    pub m: &'m Manifest,
    /// Nodes in order of execution.
    pub nodes: Vec<Node>,
    /// What each value of the manifest is, once no-ops are gone.
    alias: Vec<Source>,
    narrowed: HashSet<ValueId>,
}

impl<'m> Graph<'m> {
    /// Cleans the manifest's graph.
    pub fn new(m: &'m Manifest) -> Self {
        let alias = (0..m.values.len()).map(|v| Source::Value(ValueId(v)));
        let mut graph = Self {
            m,
            nodes: Vec::with_capacity(m.nodes.len()),
            alias: alias.collect(),
            narrowed: HashSet::new(),
        };
        let appends = graph.appends();
        let mut seen = HashMap::new();
        let mut full = HashMap::new();
        for node in &m.nodes {
            let mut node = node.clone();
            for (_, arg) in &mut node.args {
                graph.resolve_arg(arg);
            }
            if let [out] = node.out[..] {
                if let Some(&state) = appends.get(&out) {
                    graph.nodes.push(graph.append(node, state));
                    continue;
                }
                if let Some(source) = graph.noop(&node, &full) {
                    graph.alias[out.0] = source;
                    continue;
                }
                if let Some(value) = graph.full_value(&node, &full) {
                    full.insert(Source::Value(out), value);
                    if is_made(&node.op) && !m.values[out.0].shape.is_empty() {
                        graph.nodes.push(node);
                        continue;
                    }
                }
            }
            let key = format!("{} {} {:?}", node.call.0, node.op, node.args);
            let first = seen.entry(key).or_insert_with(|| node.out.clone());
            if *first == node.out {
                graph.nodes.push(node);
            } else {
                for (out, first) in node.out.iter().zip(first) {
                    graph.alias[out.0] = Source::Value(*first);
                }
            }
        }
        graph.prune();
        graph
    }

    /// What a value is after clean-up.
    pub fn resolve(&self, source: Source) -> Source {
        match source {
            Source::Value(v) => self.alias[v.0],
            other => other,
        }
    }

    /// The model's outputs that are not caches: index into the manifest's outputs, and source.
    pub fn outputs(&self) -> impl Iterator<Item = (usize, Source)> + '_ {
        let outputs = self.m.outputs.iter().enumerate();
        outputs
            .filter(|(i, _)| !self.m.states.iter().any(|s| s.output == *i))
            .map(|(i, o)| (i, self.resolve(o.value)))
    }

    /// Drops nodes whose results nobody needs.
    pub fn prune(&mut self) {
        let mut live: HashSet<ValueId> = HashSet::new();
        for output in &self.m.outputs {
            if let Source::Value(v) = self.resolve(output.value) {
                live.insert(v);
            }
        }
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..).rev() {
            if node.out.iter().any(|v| live.contains(v)) {
                for (_, arg) in &node.args {
                    arg.sources(&mut |s| {
                        if let Source::Value(v) = s {
                            live.insert(v);
                        }
                    });
                }
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
    }

    /// Marks a value whose sizes at run time may be smaller than in the trace: a mask of which
    /// attention broadcasts the rest.
    pub fn narrow(&mut self, value: ValueId) {
        self.narrowed.insert(value);
    }

    /// Whether sizes can be read off a tensor at run time.
    pub fn has_traced_shape(&self, source: Source) -> bool {
        !matches!(source, Source::Value(v) if self.narrowed.contains(&v))
    }

    /// Shape of a tensor in the trace.
    pub fn shape(&self, source: Source) -> Vec<Dim> {
        let sizes = |s: &[usize]| s.iter().map(|&d| Dim::Size(d as i64)).collect();
        match source {
            Source::Value(v) => self.m.values[v.0].shape.clone(),
            Source::Param(p) => sizes(&self.m.params[p.0].shape),
            Source::Const(c) => sizes(&self.m.constants[c.0].shape),
        }
    }

    /// Element type of a tensor.
    pub fn dtype(&self, source: Source) -> Dtype {
        match source {
            Source::Value(v) => self.m.values[v.0].dtype,
            Source::Param(p) => self.m.params[p.0].dtype,
            Source::Const(c) => self.m.constants[c.0].dtype,
        }
    }

    fn resolve_arg(&self, arg: &mut Arg) {
        match arg {
            Arg::Tensor(source) => *source = self.resolve(*source),
            Arg::List(items) => items.iter_mut().for_each(|a| self.resolve_arg(a)),
            _ => {}
        }
    }

    /// The values that extend a state's input, by the state's index.
    fn appends(&self) -> HashMap<ValueId, usize> {
        let states = self.m.states.iter().enumerate();
        states
            .filter_map(|(i, s)| match self.m.outputs[s.output].value {
                Source::Value(v) => Some((v, i)),
                _ => None,
            })
            .collect()
    }

    /// Rewrites `cat([past, new])` into an append; anything else stays and is reported by lowering.
    fn append(&self, node: Node, state: usize) -> Node {
        let past = self.m.inputs[self.m.states[state].input].value;
        let Some(Arg::List(parts)) = node.arg("tensors") else {
            return node;
        };
        let rank = self.m.values[past.0].shape.len() as i64;
        let dim = match node.arg("dim") {
            Some(Arg::Int(dim)) if *dim < 0 => dim.saturating_add(rank),
            Some(Arg::Int(dim)) => *dim,
            _ => 0,
        };
        let grows = dim == self.m.states[state].dim as i64;
        match &parts[..] {
            [Arg::Tensor(Source::Value(first)), new] if *first == past && grows => Node {
                op: APPEND.to_owned(),
                args: vec![
                    ("state".to_owned(), Arg::Int(state as i64)),
                    ("input".to_owned(), new.clone()),
                ],
                ..node
            },
            _ => node,
        }
    }

    /// The tensor that a node only passes on.
    fn noop(&self, node: &Node, full: &HashMap<Source, Scalar>) -> Option<Source> {
        let input = node.args.iter().find_map(|(_, a)| a.tensor())?;
        let out = Source::Value(node.out[0]);
        let same = self.shape(input) == self.shape(out) && self.dtype(input) == self.dtype(out);
        let is_int = |arg: &str, n: i64| match node.arg(arg) {
            Some(Arg::Int(i)) => *i == n,
            Some(Arg::Float(f)) => *f == n as f64,
            _ => false,
        };
        match node.op.as_str() {
            "aten.alias.default"
            | "aten.detach.default"
            | "aten.lift_fresh_copy.default"
            | "aten.clone.default"
            | "aten.contiguous.default"
            | "aten.positive.default" => Some(input),
            "aten._to_copy.default"
            | "aten.to.dtype"
            | "aten.to.dtype_layout"
            | "aten.to.device"
            | "aten.type_as.default"
            | "aten.view.default"
            | "aten.reshape.default"
            | "aten._unsafe_view.default"
            | "aten.flatten.using_ints"
            | "aten.expand.default"
            | "aten.expand_as.default"
            | "aten.broadcast_to.default"
            | "aten.squeeze.dim"
            | "aten.squeeze.dims"
            | "aten.squeeze.default"
                if same =>
            {
                Some(input)
            }
            "aten.slice.Tensor" if same => {
                (node.arg("step").is_none() || is_int("step", 1)).then_some(input)
            }
            "aten.dropout.default" | "aten.feature_dropout.default" | "aten.dropout_.default" => {
                let off = matches!(node.arg("train"), Some(Arg::Bool(false))) || is_int("p", 0);
                off.then_some(input)
            }
            "aten.cat.default" => match node.arg("tensors") {
                Some(Arg::List(parts)) if parts.len() == 1 => parts[0].tensor(),
                _ => None,
            },
            "aten.mul.Tensor" | "aten.div.Tensor" | "aten.mul.Scalar" | "aten.div.Scalar"
                if same && is_int("other", 1) =>
            {
                Some(input)
            }
            "aten.add.Tensor" | "aten.sub.Tensor" if same && !self.dtype(input).is_float() => {
                is_int("other", 0).then_some(input)
            }
            "aten.__and__.Tensor" | "aten.bitwise_and.Tensor" | "aten.logical_and.default" => {
                let (a, b) = (node.arg("self")?.tensor()?, node.arg("other")?.tensor()?);
                let passes = |all: Source, x: Source| {
                    full.get(&all) == Some(&Scalar::Bool(true))
                        && self.shape(x) == self.shape(out)
                        && self.dtype(x) == Dtype::Bool
                };
                match () {
                    _ if passes(a, b) => Some(b),
                    _ if passes(b, a) => Some(a),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The one value that all elements of a node's result have, when that is plain.
    fn full_value(&self, node: &Node, full: &HashMap<Source, Scalar>) -> Option<Scalar> {
        let typed = |value: f64| match self.dtype(Source::Value(node.out[0])) {
            Dtype::Bool => Scalar::Bool(value != 0.0),
            d if d.is_float() => Scalar::Float(value),
            _ => Scalar::Int(value as i64),
        };
        match node.op.as_str() {
            "aten.ones.default" | "aten.new_ones.default" | "aten.ones_like.default" => {
                Some(typed(1.0))
            }
            "aten.zeros.default" | "aten.new_zeros.default" | "aten.zeros_like.default" => {
                Some(typed(0.0))
            }
            "aten.expand.default" | "aten.unsqueeze.default" | "aten.view.default" => {
                full.get(&node.arg("self")?.tensor()?).copied()
            }
            "aten._to_copy.default" => match full.get(&node.arg("self")?.tensor()?)? {
                Scalar::Bool(b) => Some(typed(f64::from(u8::from(*b)))),
                Scalar::Int(i) => Some(typed(*i as f64)),
                Scalar::Float(f) => Some(typed(*f)),
            },
            _ => None,
        }
    }
}

/// Whether an operation makes a tensor of zeros or ones. Two of them stay two, even if they are equal:
/// a module that gets both, as hidden state and cell, has two inputs then at each of its calls.
fn is_made(op: &str) -> bool {
    let fills = [
        "zeros",
        "ones",
        "new_zeros",
        "new_ones",
        "zeros_like",
        "ones_like",
    ];
    let name = op
        .strip_prefix("aten.")
        .and_then(|op| op.strip_suffix(".default"));
    name.is_some_and(|name| fills.contains(&name))
}

impl Node {
    /// An argument by its schema name.
    pub fn arg(&self, name: &str) -> Option<&Arg> {
        self.args.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }

    /// A tensor argument by its schema name.
    pub fn tensor(&self, name: &str) -> Option<Source> {
        self.arg(name)?.tensor()
    }
}

impl Arg {
    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<Source> {
        match self {
            Arg::Tensor(source) => Some(*source),
            _ => None,
        }
    }

    /// Calls `f` for every tensor in the argument.
    pub fn sources(&self, f: &mut impl FnMut(Source)) {
        match self {
            Arg::Tensor(source) => f(*source),
            Arg::List(items) => items.iter().for_each(|a| a.sources(f)),
            _ => {}
        }
    }
}

impl Dtype {
    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32 | Dtype::Float64
        )
    }
}

impl Data {
    /// The one value of a constant whose elements are all equal.
    pub fn full(&self) -> Option<Scalar> {
        match self {
            Data::Full(value) => Some(*value),
            _ => None,
        }
    }
}
