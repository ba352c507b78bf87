//! The statements of a body: nodes, child calls and loops.

use std::collections::{HashMap, HashSet};

use super::{
    Args, CacheArg, CacheUse, Field, FieldKind, FieldPath, Instance, Kept, Loop, LoopArg, LoopOut,
    Stmt,
};
use crate::graph::Graph;
use crate::ir::{Expr, FieldId, Lowered, Var};
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
    /// Values that are elements of lists.
    pub(super) kept: HashMap<Source, (Var, usize)>,
    pub(super) fields: Vec<Field>,
    pub(super) field_ids: HashMap<Field, FieldId>,
    pub(super) syms: Vec<SymbolId>,
    pub(super) caches: Vec<(String, Vec<usize>)>,
    pub(super) parts: Vec<CacheUse>,
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
            kept: HashMap::new(),
            fields: Vec::new(),
            field_ids: HashMap::new(),
            syms: Vec::new(),
            caches: Vec::new(),
            parts: Vec::new(),
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
        let parts = used.iter().map(|(name, layers)| {
            let mut states = self.graph.m.states.iter();
            match layers.len() {
                _ if self.call.0 == 0 => CacheUse::Whole,
                1 => CacheUse::Layer,
                _ if states.any(|s| s.name == *name && layers.binary_search(&s.layer).is_err()) => {
                    CacheUse::Layers
                }
                _ => CacheUse::Whole,
            }
        });
        self.parts = parts.collect();
        self.caches = used;
    }

    /// The cache argument of this name.
    pub(super) fn cache(&self, name: &str) -> usize {
        let named = |(n, _): &(String, Vec<usize>)| n == name;
        self.caches.iter().position(named).unwrap_or_default()
    }

    /// A layer of the whole cache as this body counts them.
    pub(super) fn local_layer(&self, cache: usize, layer: usize) -> usize {
        match self.parts[cache] {
            CacheUse::Whole => layer,
            _ => layer - self.caches[cache].1[0],
        }
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
            for value in used(item, lowered, done) {
                if !made.contains(&value) {
                    self.var_of(Source::Value(value));
                }
            }
            match item {
                Item::Call(c) => made.extend(done[c].outputs.iter().copied()),
                Item::Node(n, _) => made.extend(self.graph.nodes[*n].out.iter().copied()),
            }
        }
        self.inputs = {
            let mut inputs: Vec<_> = self.values.iter().map(|(s, v)| (*v, *s)).collect();
            inputs.sort_unstable();
            inputs.into_iter().map(|(_, s)| s).collect()
        };
    }

    /// How many items read each value; returning it counts.
    pub(super) fn uses(
        &self,
        tree: &Tree,
        lowered: &[Lowered],
        done: &HashMap<CallId, Instance>,
    ) -> HashMap<ValueId, usize> {
        let mut uses: HashMap<ValueId, usize> = HashMap::new();
        for item in &tree.items[self.call.0] {
            let distinct: HashSet<ValueId> = used(item, lowered, done).into_iter().collect();
            for value in distinct {
                *uses.entry(value).or_default() += 1;
            }
        }
        for value in &tree.outputs[self.call.0] {
            *uses.entry(*value).or_default() += 1;
        }
        if self.call.0 == 0 {
            for (_, source) in self.graph.outputs() {
                if let Source::Value(value) = source {
                    *uses.entry(value).or_default() += 1;
                }
            }
        }
        uses
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
            Lowered::Tuple(expr, _) => {
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
            let expr = match (self.kept.get(&source), self.values.get(&source)) {
                (Some((list, at)), _) => Expr::Element(*list, *at),
                // The inputs are the first variables.
                (None, Some(var)) if var.0 >= self.inputs.len() => Expr::Var(*var),
                _ => continue,
            };
            self.stmts.push(Stmt::Record(child.clone(), i, expr));
            self.recorded.push((call, i));
        }
    }

    /// What a child takes of the caches; `next` is the child of a loop's next round.
    pub(super) fn cache_args(&self, child: &Instance, next: Option<&Instance>) -> Vec<CacheArg> {
        let arg = |(i, (name, layers)): (usize, &(String, Vec<usize>))| {
            let cache = self.cache(name);
            let part = child.parts[i];
            let same = *layers == self.caches[cache].1 && part == self.parts[cache];
            if same {
                return CacheArg::Same(cache);
            }
            let (first, last) = (layers[0], layers[layers.len() - 1]);
            CacheArg::Part {
                cache,
                first: self.local_layer(cache, first),
                count: (part == CacheUse::Layers).then_some(last - first + 1),
                step: next.map_or(0, |next| next.caches[i].1[0] - first),
            }
        };
        child.caches.iter().enumerate().map(arg).collect()
    }

    pub(super) fn child(&mut self, call: CallId, child: &Instance) {
        let path = self.relative(self.graph.path(call));
        let kind = FieldKind::Child(child.def, child.load.clone());
        let dtype = None;
        let field = self.field(Field { path, kind, dtype });
        let args = Args {
            tensors: child.inputs.iter().map(|s| self.tensor(*s)).collect(),
            sizes: child.sizes.iter().map(|d| self.dim(d)).collect(),
            caches: self.cache_args(child, None),
        };
        let outs = child.outputs.iter().map(|v| self.define(*v)).collect();
        self.stmts.push(Stmt::Call(field, args, outs));
    }

    pub(super) fn repeat(&mut self, run: &loops::Run, done: &HashMap<CallId, Instance>) {
        let all: Vec<&Instance> = run.calls.iter().map(|c| &done[c]).collect();
        let (first, last) = (all[0], all[all.len() - 1]);
        let load = all.iter().map(|i| i.load.clone()).collect();
        let field = self.field(Field {
            path: self.relative(&run.path),
            kind: FieldKind::Children(first.def, run.first, load),
            dtype: None,
        });
        let tensors = run.args.iter().map(|arg| match arg {
            loops::Arg::Same(s) => LoopArg::Same(self.tensor(*s)),
            loops::Arg::Carried(o) => LoopArg::Carried(*o),
            loops::Arg::Each(all) => LoopArg::Each(all.iter().map(|s| self.tensor(*s)).collect()),
        });
        let tensors = tensors.collect();
        let args = Args {
            tensors,
            caches: self.cache_args(first, Some(all[1])),
            sizes: first.sizes.iter().map(|d| self.dim(d)).collect(),
        };
        let inits = run.outs.iter().map(|o| o.init.map(|s| self.tensor(s)));
        let inits: Vec<Option<Expr>> = inits.collect();
        let outs = run
            .outs
            .iter()
            .zip(inits)
            .enumerate()
            .map(|(o, (out, init))| {
                let kept = (!out.kept.is_empty()).then(|| self.keep(&all, o, &out.kept));
                let carried = init.map(|init| (init, self.define(last.outputs[o])));
                LoopOut { carried, kept }
            });
        let outs = outs.collect();
        self.stmts.push(Stmt::Loop(Loop { field, args, outs }));
    }

    /// A list of what some rounds of a loop put out.
    fn keep(&mut self, all: &[&Instance], out: usize, rounds: &[usize]) -> Kept {
        let list = Var(self.vars);
        self.vars += 1;
        // The last round of what is carried may be kept too: that is one condition less.
        let every = rounds.len() + 1 >= all.len();
        for (i, round) in rounds.iter().enumerate() {
            let at = if every { *round } else { i };
            let value = Source::Value(all[*round].outputs[out]);
            self.kept.insert(value, (list, at));
        }
        Kept {
            list,
            rounds: (!every).then(|| rounds.to_vec()),
        }
    }
}

/// Values that an item reads, in order.
fn used(item: &Item, lowered: &[Lowered], done: &HashMap<CallId, Instance>) -> Vec<ValueId> {
    let mut used = Vec::new();
    let mut add = |source: &Source| {
        if let Source::Value(value) = source {
            used.push(*value);
        }
    };
    match item {
        Item::Call(c) => done[c].inputs.iter().for_each(add),
        Item::Node(n, _) => {
            for expr in lowered[*n].exprs() {
                expr.visit(&mut |e| {
                    if let Expr::Tensor(s) = e {
                        add(s);
                    }
                });
            }
        }
    }
    used
}
