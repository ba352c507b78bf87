//! Bodies: what one module call does, in terms of its own inputs, fields and sizes.
//!
//! In: the tree, the lowered nodes and the finished child calls. Out: a [`Body`] per call. Nothing
//! in a body says which of several equal modules it came from, so equal modules have equal bodies.

mod builder;
mod fields;
mod finish;
mod literals;

use std::collections::HashMap;

use crate::graph::Graph;
use crate::ir::{Expr, FieldId, Layer, Lit, Lowered, Var};
use crate::loops;
use crate::manifest::{CallId, ConstId, Dim, Dtype, Source, ValueId};
use crate::tree::{Item, Tree};
use builder::Builder;

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

/// A parameter as a constructor's argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held {
    /// Its path.
    pub path: FieldPath,
    /// Its sizes.
    pub shape: Vec<Lit>,
    /// Its dtype, when that is not the model's.
    pub dtype: Option<Dtype>,
}

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
    /// A number that differs between the struct's instances.
    Number(Lit),
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
    /// The dtype of its parameters, when that is not the model's.
    pub dtype: Option<Dtype>,
}

/// How a body gets a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymBind {
    /// A dimension of an input.
    Axis(Var, usize),
    /// A number that the struct holds.
    Field(FieldId),
    /// An argument.
    Arg,
}

/// Which part of a cache a call works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheUse {
    /// All of it.
    Whole,
    /// Several layers, counted from the first of them.
    Layers,
    /// The one layer.
    Layer,
}

/// What a caller passes for a cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CacheArg {
    /// The cache argument as it is.
    Same(usize),
    /// Some layers of it.
    Part {
        /// The cache argument.
        cache: usize,
        /// The first layer, as the caller counts them.
        first: usize,
        /// How many; `None` for one that is passed by itself.
        count: Option<usize>,
        /// In a loop: how many layers further each round is.
        step: usize,
    },
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

/// A forward of each of several children.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Loop {
    /// The children.
    pub field: FieldId,
    /// Their arguments.
    pub args: Args<LoopArg>,
    /// Their outputs.
    pub outs: Vec<LoopOut>,
}

/// An output of the children of a loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoopOut {
    /// What the next round takes: its first value, and the variable that has the last one's after
    /// the loop.
    pub carried: Option<(Expr, Var)>,
    /// The list that what is read after the loop is kept in.
    pub kept: Option<Kept>,
}

/// A list of what the rounds of a loop put out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The list.
    pub list: Var,
    /// The rounds that it has the output of; `None` for all of them.
    pub rounds: Option<Vec<usize>>,
}

impl Loop {
    /// The expressions that are read before the first round.
    pub fn inits(&self) -> impl Iterator<Item = &Expr> {
        self.outs
            .iter()
            .filter_map(|o| Some(&o.carried.as_ref()?.0))
    }

    /// The same, to change them.
    pub fn inits_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let outs = self.outs.iter_mut();
        outs.filter_map(|o| Some(&mut o.carried.as_mut()?.0))
    }

    /// The variables that it defines.
    pub fn vars(&self) -> impl Iterator<Item = Var> + '_ {
        self.outs.iter().flat_map(|o| {
            let carried = o.carried.iter().map(|(_, var)| *var);
            carried.chain(o.kept.iter().map(|k| k.list))
        })
    }
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
    /// A forward of each of several children.
    Loop(Loop),
    /// An output of this module (`None`) or of a leaf below it, for the probe.
    Record(Option<FieldPath>, usize, Expr),
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
    /// Caches; their names are not part of what a call does.
    pub caches: Vec<CacheUse>,
    /// Fields.
    pub fields: Vec<Field>,
    /// Statements.
    pub stmts: Vec<Stmt>,
    /// What it returns: variables, or elements of lists.
    pub outputs: Vec<Expr>,
    /// Numbers taken out of the statements while bodies are compared.
    pub numbers: Vec<Lit>,
}

impl Body {
    /// The variables that are lists of tensors.
    pub fn lists(&self) -> impl Iterator<Item = Var> + '_ {
        self.stmts.iter().flat_map(|stmt| {
            let outs = match stmt {
                Stmt::Loop(l) => l.outs.as_slice(),
                _ => &[],
            };
            outs.iter().filter_map(|o| Some(o.kept.as_ref()?.list))
        })
    }
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
    /// Which part of each cache that is.
    pub parts: Vec<CacheUse>,
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
    let calls = loops::Calls {
        graph,
        done,
        parent: call,
        items,
        uses: b.uses(tree, lowered, done),
    };
    let mut i = 0;
    while i < items.len() {
        match items[i] {
            Item::Node(node, leaf) => b.node(node, leaf, &lowered[node]),
            Item::Call(_) => {
                if let Some(run) = calls.find(i) {
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

/// `path` as seen from `module`; empty for the module itself.
pub fn relative(module: &str, path: &str) -> FieldPath {
    if module.is_empty() {
        return FieldPath::Own(path.to_owned());
    }
    if module == path {
        return FieldPath::Own(String::new());
    }
    match path
        .strip_prefix(module)
        .and_then(|rest| rest.strip_prefix('.'))
    {
        Some(rest) => FieldPath::Own(rest.to_owned()),
        None => FieldPath::Root(path.to_owned()),
    }
}

impl Lowered {
    /// Its expressions.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Lowered::One(e) | Lowered::Tuple(e, _) => vec![e],
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
