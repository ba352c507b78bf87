//! Bodies: what one module call does, in terms of its own inputs, fields and sizes.
//!
//! In: the tree, the lowered nodes and the finished child calls. Out: a [`Body`] per call. Nothing
//! in a body says which of several equal modules it came from, so equal modules have equal bodies.

use std::collections::HashMap;

use crate::graph::Graph;
use crate::ir::{Expr, FieldId, Layer, LayerArg, Lit, Lowered, Var};
use crate::loops;
use crate::manifest::{CallId, ConstId, Constant, Dim, Source, SymbolId, ValueId};
use crate::tree::{Item, Tree};

/// Index of a struct definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DefId(pub usize);

/// A dotted path, from the module that holds the field or from the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldPath {
    /// Below the module.
    Own(String),
    /// Elsewhere: shared or tied modules.
    Root(String),
}

/// A parameter as a constructor's argument: its path and sizes.
pub type Held = (FieldPath, Vec<Lit>);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// A layer whose parameters have their usual names below the field's path.
    Layer {
        /// The layer, without its parameters' identities.
        layer: Layer,
        /// Whether there is a bias.
        bias: bool,
    },
    /// A layer of parameters that lie elsewhere or have other names.
    LayerOf {
        /// The layer.
        layer: Layer,
        /// Its parameters, in the layer's order.
        params: Vec<Option<Held>>,
    },
    /// A parameter used as a tensor.
    Param(Vec<Lit>),
    /// A constant.
    Const(ConstId),
    /// A child struct and the arguments of its `load`.
    Child(DefId, Vec<Lit>),
    /// Equal children at consecutive indices below the path, from the first one's index.
    Children(DefId, usize, Vec<Vec<Lit>>),
}

/// A field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Where it is in the checkpoint.
    pub path: FieldPath,
    /// What it holds.
    pub kind: FieldKind,
}

/// How a body gets a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymBind {
    /// A dimension of an input.
    Axis(Var, usize),
    /// An argument.
    Arg,
}

/// Which part of a cache a call works on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CacheUse {
    /// All of it.
    Whole,
    /// The one layer.
    Layer,
}

/// What a caller passes for a cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CacheArg {
    /// The cache argument as it is.
    Same(usize),
    /// One layer of it.
    Layer(usize, usize),
    /// In a loop: consecutive layers from this one.
    Layers(usize, usize),
}

/// Arguments of a child call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Args<T> {
    /// Tensors.
    pub tensors: Vec<T>,
    /// Sizes the child cannot read off its inputs.
    pub sizes: Vec<Dim>,
    /// Caches.
    pub caches: Vec<CacheArg>,
}

/// An argument of a call in a loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LoopArg {
    /// The same in every round.
    Same(Expr),
    /// The previous round's output of this index.
    Carried(usize),
    /// Another one each round.
    Each(Vec<Expr>),
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// `let out = expr;`
    Let(Var, Expr),
    /// `expr;`, for what it does to a cache.
    Do(Expr),
    /// `let (a, _) = expr;`
    LetTuple(Vec<Option<Var>>, Expr),
    /// A child's forward.
    Call(FieldId, Args<Expr>, Vec<Var>),
    /// A forward of each of several children; the initial values of what is carried.
    Loop(FieldId, Args<LoopArg>, Vec<Expr>, Vec<Var>),
    /// An output of this module (`None`) or of a leaf below it, for the probe.
    Record(Option<FieldPath>, usize, Var),
}

/// What a module call does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Body {
    /// Python class of the module.
    pub class: String,
    /// Number of tensor inputs; they are the first variables.
    pub inputs: usize,
    /// Number of variables.
    pub vars: usize,
    /// Sizes, by local symbol.
    pub syms: Vec<SymBind>,
    /// Caches: name and part.
    pub caches: Vec<(String, CacheUse)>,
    /// Fields.
    pub fields: Vec<Field>,
    /// Statements.
    pub stmts: Vec<Stmt>,
    /// What it returns.
    pub outputs: Vec<Var>,
}

/// A finished call: its struct and how it is connected.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The struct.
    pub def: DefId,
    /// Tensor inputs.
    pub inputs: Vec<Source>,
    /// Tensor outputs.
    pub outputs: Vec<ValueId>,
    /// Sizes that must be passed.
    pub sizes: Vec<Dim>,
    /// Caches it works on: name and layers, ascending.
    pub caches: Vec<(String, Vec<usize>)>,
    /// Arguments of `load`.
    pub load: Vec<Lit>,
}

/// A body with what connects it to the graph.
#[derive(Debug)]
pub struct Local {
    /// The body.
    pub body: Body,
    /// The graph's tensor behind each input.
    pub inputs: Vec<Source>,
    /// Sizes that must be passed, in the graph's symbols.
    pub sizes: Vec<Dim>,
    /// Caches it works on.
    pub caches: Vec<(String, Vec<usize>)>,
    /// Names of the sizes, by local symbol.
    pub symbols: Vec<String>,
    /// Golden keys that this body records: call and output index.
    pub recorded: Vec<(CallId, usize)>,
}

/// Makes the body of a call whose children are finished.
pub fn body(
    graph: &Graph,
    tree: &Tree,
    lowered: &[Lowered],
    done: &HashMap<CallId, Instance>,
    call: CallId,
) -> Local {
    let mut b = Builder::new(graph, call);
    b.caches(tree, lowered, done);
    if call.0 == 0 {
        for input in &graph.m.inputs {
            let state = graph.m.states.iter();
            if !state
                .clone()
                .any(|s| graph.m.inputs[s.input].value == input.value)
            {
                b.var_of(Source::Value(input.value));
            }
        }
    }
    b.find_inputs(tree, lowered, done);
    let items = &tree.items[call.0];
    let mut i = 0;
    while i < items.len() {
        match items[i] {
            Item::Node(node, leaf) => b.node(node, leaf, &lowered[node]),
            Item::Call(_) => {
                if let Some(run) = loops::find(graph, tree, done, call, i) {
                    b.repeat(&run, done);
                    i += run.calls.len();
                    continue;
                }
                if let Item::Call(child) = items[i] {
                    b.child(child, &done[&child]);
                }
            }
        }
        i += 1;
    }
    b.finish(tree)
}

struct Builder<'a> {
    graph: &'a Graph<'a>,
    call: CallId,
    path: &'a str,
    inputs: Vec<Source>,
    vars: usize,
    values: HashMap<Source, Var>,
    fields: Vec<Field>,
    syms: Vec<SymbolId>,
    caches: Vec<(String, Vec<usize>)>,
    stmts: Vec<Stmt>,
    recorded: Vec<(CallId, usize)>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a Graph<'a>, call: CallId) -> Self {
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
    fn caches(&mut self, tree: &Tree, lowered: &[Lowered], done: &HashMap<CallId, Instance>) {
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

    fn is_whole(&self, cache: usize) -> bool {
        self.call.0 == 0 || self.caches[cache].1.len() > 1
    }

    /// Numbers the tensors that come from outside, in order of first use.
    fn find_inputs(&mut self, tree: &Tree, lowered: &[Lowered], done: &HashMap<CallId, Instance>) {
        let mut made = std::collections::HashSet::new();
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

    fn var_of(&mut self, source: Source) -> Var {
        let next = Var(self.vars);
        let var = *self.values.entry(source).or_insert(next);
        if var == next {
            self.vars += 1;
        }
        var
    }

    fn relative(&self, path: &str) -> FieldPath {
        relative(self.path, path)
    }

    fn field(&mut self, field: Field) -> FieldId {
        let found = self.fields.iter().position(|f| *f == field);
        FieldId(found.unwrap_or_else(|| {
            self.fields.push(field);
            self.fields.len() - 1
        }))
    }

    fn tensor(&mut self, source: Source) -> Expr {
        match source {
            Source::Value(_) => Expr::Var(self.var_of(source)),
            Source::Param(p) => {
                let param = &self.graph.m.params[p.0];
                let path = self.relative(&param.name);
                let kind = FieldKind::Param(lits(&param.shape));
                Expr::Field(self.field(Field { path, kind }))
            }
            Source::Const(c) => {
                // Equal contents are one constant, so that they do not tell equal modules apart.
                let constants = &self.graph.m.constants;
                let same = |x: &Constant| {
                    x.data == constants[c.0].data
                        && x.shape == constants[c.0].shape
                        && x.dtype == constants[c.0].dtype
                };
                let first = constants.iter().position(same).unwrap_or(c.0);
                let path = match self.relative(&constants[c.0].name) {
                    FieldPath::Own(path) if path.contains('.') || !self.path.is_empty() => path,
                    _ => "constant".to_owned(),
                };
                let path = FieldPath::Own(path);
                let kind = FieldKind::Const(ConstId(first));
                Expr::Field(self.field(Field { path, kind }))
            }
        }
    }

    fn dim(&mut self, dim: &Dim) -> Dim {
        dim.map(&mut |s| {
            let found = self.syms.iter().position(|x| *x == s);
            SymbolId(found.unwrap_or_else(|| {
                self.syms.push(s);
                self.syms.len() - 1
            }))
        })
    }

    fn localise(&mut self, expr: Expr, leaf: Option<(CallId, ValueId)>) -> Expr {
        expr.map(&mut |e| match e {
            Expr::Tensor(source) => self.tensor(source),
            Expr::Layer(layer, x) => {
                let field = self.layer(*layer, leaf);
                Expr::Forward(self.field(field), x)
            }
            Expr::Size(d) => Expr::Size(self.dim(&d)),
            Expr::SizeAsInt(d) => Expr::SizeAsInt(self.dim(&d)),
            Expr::Shape(dims) => Expr::Shape(dims.iter().map(|d| self.dim(d)).collect()),
            Expr::Dims(dims) => Expr::Dims(dims.iter().map(|d| self.dim(d)).collect()),
            Expr::Append {
                state, slot, new, ..
            } => {
                let state = &self.graph.m.states[state];
                let name = |(n, _): &(String, Vec<usize>)| *n == state.name;
                let cache = self.caches.iter().position(name).unwrap_or_default();
                Expr::Append {
                    state: cache,
                    layer: self.is_whole(cache).then_some(state.layer),
                    slot,
                    new,
                }
            }
            other => other,
        })
    }

    /// The field for a layer: in its usual place when the parameters are all below one module,
    /// under their usual names, and the node is that module's only one.
    fn layer(&mut self, mut layer: Layer, leaf: Option<(CallId, ValueId)>) -> Field {
        let m = self.graph.m;
        let params: Vec<_> = std::mem::take(&mut layer.params);
        let usual = leaf.and_then(|(call, out)| {
            let path = self.graph.path(call);
            let fits = params.iter().all(|(role, p)| {
                p.is_none_or(|p| m.params[p.0].name == format!("{path}.{role}"))
            });
            let outputs = &m.calls[call.0].outputs;
            let one = matches!(outputs[..], [v] if self.graph.resolve(Source::Value(v)) == Source::Value(out));
            (fits && one && !path.is_empty()).then_some((call, path))
        });
        let has_bias = params.iter().any(|(r, p)| *r == "bias" && p.is_some());
        if let Some((call, path)) = usual {
            self.recorded.push((call, 0));
            return Field {
                path: self.relative(path),
                kind: FieldKind::Layer {
                    layer,
                    bias: has_bias,
                },
            };
        }
        let held = |p: &Option<crate::manifest::ParamId>| {
            p.map(|p| {
                let param = &m.params[p.0];
                (self.relative(&param.name), lits(&param.shape))
            })
        };
        let name = params
            .iter()
            .find_map(|(_, p)| *p)
            .map(|p| &m.params[p.0].name);
        let path = name.map_or("layer", |n| n);
        Field {
            path: self.relative(path),
            kind: FieldKind::LayerOf {
                params: params.iter().map(|(_, p)| held(p)).collect(),
                layer,
            },
        }
    }

    fn define(&mut self, value: ValueId) -> Var {
        let var = Var(self.vars);
        self.vars += 1;
        self.values.insert(Source::Value(value), var);
        var
    }

    fn node(&mut self, node: usize, leaf: Option<CallId>, lowered: &Lowered) {
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
    fn record(&mut self, call: CallId, child: Option<FieldPath>) {
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

    fn cache_args(&self, child: &Instance) -> Vec<CacheArg> {
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

    fn child(&mut self, call: CallId, child: &Instance) {
        let path = self.relative(self.graph.path(call));
        let kind = FieldKind::Child(child.def, child.load.clone());
        let field = self.field(Field { path, kind });
        let args = Args {
            tensors: child.inputs.iter().map(|s| self.tensor(*s)).collect(),
            sizes: child.sizes.iter().map(|d| self.dim(d)).collect(),
            caches: self.cache_args(child),
        };
        let outs = child.outputs.iter().map(|v| self.define(*v)).collect();
        self.stmts.push(Stmt::Call(field, args, outs));
    }

    fn repeat(&mut self, run: &loops::Run, done: &HashMap<CallId, Instance>) {
        let first = &done[&run.calls[0]];
        let last = &done[&run.calls[run.calls.len() - 1]];
        let load = run.calls.iter().map(|c| done[c].load.clone()).collect();
        let field = self.field(Field {
            path: self.relative(&run.path),
            kind: FieldKind::Children(first.def, run.first, load),
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

    fn finish(mut self, tree: &Tree) -> Local {
        let mut outputs = Vec::new();
        if self.call.0 == 0 {
            for (_, source) in self.graph.outputs() {
                let expr = self.tensor(source);
                let var = match expr {
                    Expr::Var(var) => var,
                    field => {
                        let var = Var(self.vars);
                        self.vars += 1;
                        self.stmts.push(Stmt::Let(var, field));
                        var
                    }
                };
                outputs.push(var);
            }
        } else {
            for value in &tree.outputs[self.call.0] {
                outputs.push(self.values[&Source::Value(*value)]);
            }
        }
        self.record(self.call, None);
        self.drop_unread(&outputs);
        let mut sizes = Vec::new();
        let syms = self.syms.clone();
        let syms = syms.iter().map(|s| self.bind(*s, &mut sizes)).collect();
        let class = &self.graph.m.modules[self.graph.m.calls[self.call.0].module.0].class;
        let caches = (0..self.caches.len()).map(|i| {
            let part = if self.is_whole(i) {
                CacheUse::Whole
            } else {
                CacheUse::Layer
            };
            (self.caches[i].0.clone(), part)
        });
        let body = Body {
            class: class.clone(),
            inputs: self.inputs.len(),
            vars: self.vars,
            syms,
            caches: caches.collect(),
            fields: self.fields,
            stmts: self.stmts,
            outputs,
        };
        Local {
            body,
            symbols: self
                .syms
                .iter()
                .map(|s| self.graph.m.symbols[s.0].name.clone())
                .collect(),
            inputs: self.inputs,
            sizes,
            caches: self.caches,
            recorded: self.recorded,
        }
    }

    /// Drops statements whose value nobody reads: parts of a split that are not used.
    fn drop_unread(&mut self, outputs: &[Var]) {
        let mut read = vec![false; self.vars];
        for out in outputs {
            read[out.0] = true;
        }
        let mut kept = Vec::with_capacity(self.stmts.len());
        for mut stmt in self.stmts.drain(..).rev() {
            match &mut stmt {
                Stmt::Let(var, expr) if !read[var.0] => {
                    if !matches!(expr, Expr::Append { .. }) {
                        continue;
                    }
                    let expr = std::mem::replace(expr, Expr::None);
                    stmt = Stmt::Do(expr);
                }
                Stmt::LetTuple(vars, _) => {
                    for var in vars {
                        *var = var.filter(|v| read[v.0]);
                    }
                }
                _ => {}
            }
            stmt.reads(&mut |v| read[v.0] = true);
            kept.push(stmt);
        }
        kept.reverse();
        self.stmts = kept;
    }

    fn bind(&self, symbol: SymbolId, sizes: &mut Vec<Dim>) -> SymBind {
        for (i, input) in self.inputs.iter().enumerate() {
            let shape = self.graph.shape(*input);
            if let Some(axis) = shape.iter().position(|d| *d == Dim::Sym(symbol)) {
                return SymBind::Axis(Var(i), axis);
            }
        }
        sizes.push(Dim::Sym(symbol));
        SymBind::Arg
    }
}

/// `path` as seen from `module`.
pub fn relative(module: &str, path: &str) -> FieldPath {
    if module.is_empty() {
        return FieldPath::Own(path.to_owned());
    }
    match path
        .strip_prefix(module)
        .and_then(|rest| rest.strip_prefix('.'))
    {
        Some(rest) => FieldPath::Own(rest.to_owned()),
        None => FieldPath::Root(path.to_owned()),
    }
}

fn lits(shape: &[usize]) -> Vec<Lit> {
    shape.iter().map(|&n| Lit::Int(n as i64)).collect()
}

impl Body {
    /// Calls `f` for every literal that may differ between instances, with its name.
    pub fn lits(&mut self, f: &mut impl FnMut(&str, &mut Lit)) {
        for field in &mut self.fields {
            match &mut field.kind {
                FieldKind::Layer { layer, .. } => layer.args.iter_mut().for_each(|a| a.lits(f)),
                FieldKind::LayerOf { layer, params } => {
                    layer.args.iter_mut().for_each(|a| a.lits(f));
                    for (_, shape) in params.iter_mut().flatten() {
                        shape.iter_mut().for_each(|l| f("size", l));
                    }
                }
                FieldKind::Param(shape) => shape.iter_mut().for_each(|l| f("size", l)),
                FieldKind::Child(_, load) => load.iter_mut().for_each(|l| f("size", l)),
                FieldKind::Children(_, _, loads) => {
                    loads.iter_mut().flatten().for_each(|l| f("size", l));
                }
                FieldKind::Const(_) => {}
            }
        }
    }
}

impl LayerArg {
    fn lits(&mut self, f: &mut impl FnMut(&str, &mut Lit)) {
        match self {
            LayerArg::Lit(name, lit) => f(name, lit),
            LayerArg::Array(name, lits) => lits.iter_mut().for_each(|l| f(name, l)),
            LayerArg::Struct(_, fields) => fields.iter_mut().for_each(|(_, a)| a.lits(f)),
        }
    }
}

impl Lowered {
    /// Its expressions.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Lowered::One(e) | Lowered::Tuple(e) => vec![e],
            Lowered::Each(parts) => parts.iter().map(|(_, e)| e).collect(),
        }
    }
}

impl Graph<'_> {
    /// Module path of a call.
    pub fn path(&self, call: CallId) -> &str {
        &self.m.modules[self.m.calls[call.0].module.0].path
    }
}

impl Dim {
    /// Rebuilds the size with other symbols.
    pub fn map(&self, f: &mut impl FnMut(SymbolId) -> SymbolId) -> Dim {
        let all = |dims: &[Dim], f: &mut _| dims.iter().map(|d| d.map(f)).collect();
        let two = |a: &Dim, b: &Dim, f: &mut _| (Box::new(a.map(f)), Box::new(b.map(f)));
        match self {
            Dim::Size(n) => Dim::Size(*n),
            Dim::Sym(s) => Dim::Sym(f(*s)),
            Dim::Add(d) => Dim::Add(all(d, f)),
            Dim::Mul(d) => Dim::Mul(all(d, f)),
            Dim::Max(d) => Dim::Max(all(d, f)),
            Dim::Min(d) => Dim::Min(all(d, f)),
            Dim::Sub(a, b) => {
                let (a, b) = two(a, b, f);
                Dim::Sub(a, b)
            }
            Dim::FloorDiv(a, b) => {
                let (a, b) = two(a, b, f);
                Dim::FloorDiv(a, b)
            }
            Dim::Mod(a, b) => {
                let (a, b) = two(a, b, f);
                Dim::Mod(a, b)
            }
        }
    }
}
