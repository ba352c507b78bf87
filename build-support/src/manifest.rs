//! The checked manifest: what every later stage works on.
//!
//! In: nothing but [`crate::raw`], which alone knows the JSON. Out: a [`Manifest`] in which every
//! reference resolves, nodes are in topological order and names are unique, so that later stages
//! index without checking again. The format is described in `docs/manifest.md`.
//!
//! ```
//! use pycandle_build::manifest::{
//!     Arg, Call, CallId, Comparison, Condition, ConstId, Constant, Data, Dim, Dtype, Input, Manifest,
//!     Module, ModuleId, Node, Output, Param, ParamId, Scalar, Source, State, Symbol, SymbolId, Value,
//!     ValueId,
//! };
//! # let path = "../tests/models/llama_manifest.json";
//! let m: Manifest = pycandle_build::raw::read(path.as_ref())?;
//! for Symbol { name, min, max } in &m.symbols {
//!     println!("{name} from {min} to {max:?}");
//! }
//! for Condition { comparison, left, right, .. } in &m.conditions {
//!     println!("{left:?} {} {right:?}", if *comparison == Comparison::Eq { "==" } else { "…" });
//! }
//! let size = |dim: &Dim| match dim {
//!     Dim::Size(n) => n.to_string(),
//!     Dim::Sym(SymbolId(s)) => m.symbols[*s].name.clone(),
//!     sum => format!("{sum:?}"),
//! };
//! for Input { name, value: ValueId(v), .. } in &m.inputs {
//!     let Value { dtype, shape, .. } = &m.values[*v];
//!     println!("{name}: {dtype:?} {:?}", shape.iter().map(size).collect::<Vec<_>>());
//! }
//! let name = |source: Source| match source {
//!     Source::Value(ValueId(v)) => &m.values[v].name,
//!     Source::Param(ParamId(p)) => &m.params[p].name,
//!     Source::Const(ConstId(c)) => &m.constants[c].name,
//! };
//! for Node { op, args, call: CallId(call), .. } in &m.nodes {
//!     let Call { module: ModuleId(module), .. } = &m.calls[*call];
//!     let Module { path, class, .. } = &m.modules[*module];
//!     let tensors = args.iter().filter_map(|(_, arg)| match arg {
//!         Arg::Tensor(source) => Some(name(*source)),
//!         _ => None,
//!     });
//!     println!("{path} ({class}): {op} of {:?}", tensors.collect::<Vec<_>>());
//! }
//! for Output { name: output, value, .. } in &m.outputs {
//!     println!("{output} is {}", name(*value));
//! }
//! for State { name, layer, slot, .. } in &m.states {
//!     println!("{name}[{layer}].{slot} grows");
//! }
//! let floats = |param: &&Param| param.dtype == Dtype::Float32;
//! assert_eq!(m.params.iter().filter(floats).count(), m.params.len());
//! let ones = |constant: &&Constant| constant.data == Data::Full(Scalar::Int(1));
//! assert_eq!(m.constants.iter().filter(ones).count(), 0);
//! # Ok::<(), pycandle_build::Report>(())
//! ```

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub usize);
    };
}
id!(
    /// Index into [`Manifest::symbols`].
    SymbolId
);
id!(
    /// Index into [`Manifest::values`].
    ValueId
);
id!(
    /// Index into [`Manifest::params`].
    ParamId
);
id!(
    /// Index into [`Manifest::constants`].
    ConstId
);
id!(
    /// Index into [`Manifest::modules`].
    ModuleId
);
id!(
    /// Index into [`Manifest::calls`].
    CallId
);

/// Element type of a tensor, as PyTorch names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    Uint8,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    Bfloat16,
    Float32,
    Float64,
}

/// A size: a number, a symbol or arithmetic over them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Dim {
    Size(i64),
    Sym(SymbolId),
    Add(Vec<Dim>),
    Mul(Vec<Dim>),
    Max(Vec<Dim>),
    Min(Vec<Dim>),
    Sub(Box<Dim>, Box<Dim>),
    FloorDiv(Box<Dim>, Box<Dim>),
    Mod(Box<Dim>, Box<Dim>),
}

/// A named size of the trace, with the range in which the trace holds.
#[derive(Debug, Clone)]
pub struct Symbol {
    /// Identifier, unique.
    pub name: String,
    /// Smallest size, inclusive.
    pub min: usize,
    /// Largest size, inclusive; `None` when unbounded.
    pub max: Option<usize>,
}

/// How two sizes compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
}

/// What the sizes must meet beside their ranges, or the trace does not hold.
#[derive(Debug, Clone)]
pub struct Condition {
    /// How they must compare.
    pub comparison: Comparison,
    /// Left side.
    pub left: Dim,
    /// Right side.
    pub right: Dim,
    /// Python `file:line` that asks for it.
    pub at: Option<String>,
}

/// A tensor in the graph.
#[derive(Debug, Clone)]
pub struct Value {
    /// Unique name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<Dim>,
}

/// A tensor input of the model.
#[derive(Debug, Clone)]
pub struct Input {
    /// Identifier; also the value's name.
    pub name: String,
    /// Pytree path.
    pub path: String,
    /// The value.
    pub value: ValueId,
}

/// Where a tensor argument or an output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Source {
    Value(ValueId),
    Param(ParamId),
    Const(ConstId),
}

/// A tensor output of the model.
#[derive(Debug, Clone)]
pub struct Output {
    /// Identifier.
    pub name: String,
    /// Pytree path.
    pub path: String,
    /// What it holds.
    pub value: Source,
}

/// An input that comes back extended as an output: one tensor of a cache.
#[derive(Debug, Clone)]
pub struct State {
    /// Name of the cache.
    pub name: String,
    /// Layer within the cache.
    pub layer: usize,
    /// Slot within the layer, as `key`.
    pub slot: String,
    /// Index into [`Manifest::inputs`].
    pub input: usize,
    /// Index into [`Manifest::outputs`].
    pub output: usize,
    /// The dimension that grows.
    pub dim: usize,
}

/// A tensor that a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Param {
    /// Checkpoint key.
    pub name: String,
    /// Whether it is a buffer.
    pub buffer: bool,
    /// Element type in the trace.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
    /// The first parameter that shares its storage.
    pub tied_to: Option<ParamId>,
}

/// A tensor that no checkpoint holds.
#[derive(Debug, Clone)]
pub struct Constant {
    /// Unique name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Data,
}

/// Elements of a constant.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Data {
    Full(Scalar),
    Arange {
        start: Scalar,
        step: Scalar,
    },
    List(Vec<Scalar>),
    /// A safetensors file beside the manifest (a bare file name).
    File(String),
}

/// One element, typed as in the manifest.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
}

/// A module of the tree.
#[derive(Debug, Clone)]
pub struct Module {
    /// Dotted path, empty for the root.
    pub path: String,
    /// Class name without its Python module.
    pub class: String,
    /// Whether the class is one of `torch.nn`, and not the model's.
    pub library: bool,
}

/// One call of a module.
#[derive(Debug, Clone)]
pub struct Call {
    /// The module.
    pub module: ModuleId,
    /// How many calls of the same module came before.
    pub index: usize,
    /// The enclosing call, `None` for the root.
    pub parent: Option<CallId>,
    /// Values made inside and used outside.
    pub outputs: Vec<ValueId>,
}

/// An argument of a node.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Arg {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Tensor(Source),
    Sym(Dim),
    Dtype(Dtype),
    Device,
    Enum(String),
    List(Vec<Arg>),
}

/// One ATen call.
#[derive(Debug, Clone)]
pub struct Node {
    /// Overload, as `aten.linear.default`.
    pub op: String,
    /// Arguments by schema name.
    pub args: Vec<(String, Arg)>,
    /// Tensors it returns.
    pub out: Vec<ValueId>,
    /// The call it belongs to.
    pub call: CallId,
    /// Python `file:line`.
    pub at: Option<String>,
    /// Line in the manifest, from 1.
    pub line: usize,
}

/// A traced model, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// File name of the manifest, for messages and the generated header.
    pub file: String,
    /// `(major, minor)` of the format.
    pub version: (u32, u32),
    /// Recorder and library versions, in file order.
    pub recorder: Vec<(String, String)>,
    /// Model name.
    pub name: String,
    /// Python class without its module.
    pub class: String,
    /// Class of a structured output, without its module.
    pub output_class: Option<String>,
    /// The model dtype.
    pub dtype: Dtype,
    /// Symbols.
    pub symbols: Vec<Symbol>,
    /// What the sizes must meet beside their ranges; no divisor in them can be 0.
    pub conditions: Vec<Condition>,
    /// Tensor inputs, in call order.
    pub inputs: Vec<Input>,
    /// Arguments that are no tensors and keep the value that they were traced with: path and value,
    /// as Python writes it.
    pub fixed_inputs: Vec<(String, String)>,
    /// Tensor outputs.
    pub outputs: Vec<Output>,
    /// Caches.
    pub states: Vec<State>,
    /// What a checkpoint holds.
    pub params: Vec<Param>,
    /// What no checkpoint holds.
    pub constants: Vec<Constant>,
    /// Module tree; entry 0 is the root.
    pub modules: Vec<Module>,
    /// Module calls; entry 0 is the root's, a parent comes before its children.
    pub calls: Vec<Call>,
    /// Graph, in topological order.
    pub nodes: Vec<Node>,
    /// Every input and node output.
    pub values: Vec<Value>,
    /// The model's `config.json`.
    pub config: Option<serde_json::Value>,
}
