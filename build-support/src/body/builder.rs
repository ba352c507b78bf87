//! The statements of a body: nodes, child calls and loops.

use std::collections::{HashMap, HashSet};

use super::{Args, CacheArg, Field, FieldKind, FieldPath, Instance, LoopArg, Stmt};
use crate::graph::Graph;
use crate::ir::{Expr, Lowered, Var};
use crate::loops;
use crate::manifest::{CallId, Source, SymbolId, ValueId};
use crate::tree::{Item, Tree};

/// A body in the making.
pub(super) struct Builder<'a> {
    pub(super) graph: &'a Graph<'a>,
    pub(super) call: CallId,
    pub(super) path: &'a str,
    pub(super) inputs: Vec<Source>,
    pub(super) vars: usize,
    pub(super) values: HashMap<Source, Var>,
    pub(super) fields: Vec<Field>,
    pub(super) syms: Vec<SymbolId>,
    pub(super) caches: Vec<(String, Vec<usize>)>,
    pub(super) stmts: Vec<Stmt>,
    pub(super) recorded: Vec<(CallId, usize)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(graph: &'a Graph<'a>, call: CallId) -> Self {
        Self {
            graph,
            call,
            path: graph.path(call),
            inputs: Vec::new(),
            vars: 0,
            values: HashMap::new(),
            fields: Vec::new(),
            syms: Vec::new(),
            caches: Vec::new(),
            stmts: Vec::new(),
            recorded: Vec::new(),
        }
    }

    /// Which caches the call works on, from its appends and its children.
    pub(super) fn caches(
        &mut self,
        tree: &Tree,
        lowered: &[Lowered],
        done: &HashMap<CallId, Instance>,
    ) {
        let mut used: Vec<(String, Vec<usize>)> = Vec::new();
        let mut add = |name: &str, layers: &[usize]| {
            match used.iter_mut().find(|(n, _)| n == name) {
                Some((_, all)) => all.extend(layers),
                None => used.push((name.to_owned(), layers.to_vec())),
            };
        };
        for item in &tree.items[self.call.0] {
            match item {
                Item::Call(c) => {
                    for (name, layers) in &done[c].caches {
                        add(name, layers);
                    }
                }
                Item::Node(n, _) => {
                    if let Lowered::One(Expr::Append { state, .. }) = &lowered[*n] {
                        let state = &self.graph.m.states[*state];
                        add(&state.name, &[state.layer]);
                    }
                }
            }
        }
        if self.call.0 == 0 {
            // The root owns the whole cache, also the parts that nothing appends to.
            for state in &self.graph.m.states {
                add(&state.name, &[state.layer]);
            }
        }
        for (_, layers) in &mut used {
            layers.sort_unstable();
            layers.dedup();
        }
        self.caches = used;
    }

    pub(super) fn is_whole(&self, cache: usize) -> bool {
        self.call.0 == 0 || self.caches[cache].1.len() > 1
    }

    /// Numbers the tensors that come from outside, in order of first use.
    pub(super) fn find_inputs(
        &mut self,
        tree: &Tree,
        lowered: &[Lowered],
        done: &HashMap<CallId, Instance>,
    ) {
        let mut made = HashSet::new();
        for item in &tree.items[self.call.0] {
            let mut used = Vec::new();
            match item {
                Item::Call(c) => {
                    used.extend(&done[c].inputs);
                    made.extend(done[c].outputs.iter().copied());
                }
                Item::Node(n, _) => {
                    for expr in lowered[*n].exprs() {
                        expr.visit(&mut |e| {
                            if let Expr::Tensor(s) = e {
                                used.push(*s);
                            }
                        });
                    }
                }
            }
            for source in used {
                if let Source::Value(v) = source
                    && !made.contains(&v)
                {
                    self.var_of(source);
                }
            }
            if let Item::Node(n, _) = item {
                made.extend(self.graph.nodes[*n].out.iter().copied());
            }
        }
        self.inputs = {
            let mut inputs: Vec<_> = self.values.iter().map(|(s, v)| (*v, *s)).collect();
            inputs.sort_unstable();
            inputs.into_iter().map(|(_, s)| s).collect()
        };
    }

    pub(super) fn var_of(&mut self, source: Source) -> Var {
        let next = Var(self.vars);
        let var = *self.values.entry(source).or_insert(next);
        if var == next {
            self.vars += 1;
        }
        var
    }

    pub(super) fn define(&mut self, value: ValueId) -> Var {
        let var = Var(self.vars);
        self.vars += 1;
        self.values.insert(Source::Value(value), var);
        var
    }

    pub(super) fn node(&mut self, node: usize, leaf: Option<CallId>, lowered: &Lowered) {
        let out = self.graph.nodes[node].out.clone();
        let before = self.recorded.len();
        match lowered {
            Lowered::One(expr) => {
                let expr = self.localise(expr.clone(), leaf.map(|l| (l, out[0])));
                let var = self.define(out[0]);
                self.stmts.push(Stmt::Let(var, expr));
            }
            Lowered::Each(parts) => {
                for (i, expr) in parts {
                    let expr = self.localise(expr.clone(), leaf.map(|l| (l, out[*i])));
                    let var = self.define(out[*i]);
                    self.stmts.push(Stmt::Let(var, expr));
                }
            }
            Lowered::Tuple(expr) => {
                let expr = self.localise(expr.clone(), None);
                let vars = out.iter().map(|v| Some(self.define(*v))).collect();
                self.stmts.push(Stmt::LetTuple(vars, expr));
            }
        }
        if let Some(leaf) = leaf
            && self.recorded.len() == before
        {
            let path = self.relative(self.graph.path(leaf));
            self.record(leaf, Some(path));
        }
    }

    /// Statements that show a call's outputs to the probe, as far as they are at hand.
    pub(super) fn record(&mut self, call: CallId, child: Option<FieldPath>) {
        for (i, value) in self.graph.m.calls[call.0].outputs.iter().enumerate() {
            let source = self.graph.resolve(Source::Value(*value));
            if let Some(var) = self.values.get(&source)
                && !self.inputs.contains(&source)
            {
                self.stmts.push(Stmt::Record(child.clone(), i, *var));
                self.recorded.push((call, i));
            }
        }
    }

    pub(super) fn cache_args(&self, child: &Instance) -> Vec<CacheArg> {
        let arg = |(name, layers): &(String, Vec<usize>)| {
            let cache = self
                .caches
                .iter()
                .position(|(n, _)| n == name)
                .unwrap_or_default();
            match layers[..] {
                [layer] if self.is_whole(cache) => CacheArg::Layer(cache, layer),
                _ => CacheArg::Same(cache),
            }
        };
        child.caches.iter().map(arg).collect()
    }

    pub(super) fn child(&mut self, call: CallId, child: &Instance) {
        let path = self.relative(self.graph.path(call));
        let kind = FieldKind::Child(child.def, child.load.clone());
        let dtype = None;
        let field = self.field(Field { path, kind, dtype });
        let args = Args {
            tensors: child.inputs.iter().map(|s| self.tensor(*s)).collect(),
            sizes: child.sizes.iter().map(|d| self.dim(d)).collect(),
            caches: self.cache_args(child),
        };
        let outs = child.outputs.iter().map(|v| self.define(*v)).collect();
        self.stmts.push(Stmt::Call(field, args, outs));
    }

    pub(super) fn repeat(&mut self, run: &loops::Run, done: &HashMap<CallId, Instance>) {
        let first = &done[&run.calls[0]];
        let last = &done[&run.calls[run.calls.len() - 1]];
        let load = run.calls.iter().map(|c| done[c].load.clone()).collect();
        let field = self.field(Field {
            path: self.relative(&run.path),
            kind: FieldKind::Children(first.def, run.first, load),
            dtype: None,
        });
        let inits = run.inits.iter().map(|s| self.tensor(*s)).collect();
        let tensors = run.args.iter().map(|arg| match arg {
            loops::Arg::Same(s) => LoopArg::Same(self.tensor(*s)),
            loops::Arg::Carried(o) => LoopArg::Carried(*o),
            loops::Arg::Each(all) => LoopArg::Each(all.iter().map(|s| self.tensor(*s)).collect()),
        });
        let tensors = tensors.collect();
        let caches = self.cache_args(first).into_iter().map(|c| match c {
            CacheArg::Layer(cache, layer) => CacheArg::Layers(cache, layer),
            same => same,
        });
        let args = Args {
            tensors,
            caches: caches.collect(),
            sizes: first.sizes.iter().map(|d| self.dim(d)).collect(),
        };
        let outs = last.outputs.iter().map(|v| self.define(*v)).collect();
        self.stmts.push(Stmt::Loop(field, args, inits, outs));
    }
}
