//! The lowered form: Rust expressions as data.
//!
//! [`crate::lower`] turns each graph node into an [`Expr`] over graph values; [`crate::body`] makes
//! those local to one module call; [`crate::emit`] turns them into tokens. Two calls whose bodies
//! compare equal in this form are one struct, because the code that would be written is the same.

use crate::manifest::{Dim, Dtype, ParamId, Source};

/// A float that can be compared and hashed by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Float(u64);

impl Float {
    /// Wraps a value.
    pub fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// The value.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Index of a local variable in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub usize);

/// Index of a field in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldId(pub usize);

/// An expression of the generated code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A tensor of the graph; only before a body is made local.
    Tensor(Source),
    /// A layer applied to its input; only before a body is made local.
    Layer(Box<Layer>, Box<Expr>),
    /// A local tensor.
    Var(Var),
    /// An element of a local list of tensors.
    Element(Var, usize),
    /// A parameter or constant held by the struct, as a tensor.
    Field(FieldId),
    /// A layer held by the struct, applied.
    Forward(FieldId, Box<Expr>),
    /// An operator between tensors of equal dtype and shape.
    Binary(char, Box<Expr>, Box<Expr>),
    /// A fallible method of `Tensor`.
    Method(Box<Expr>, &'static str, Vec<Expr>),
    /// A fallible function of `pycandle::ops`.
    Op(&'static str, Vec<Expr>),
    /// An append to a tensor of a cache.
    Append {
        /// Index into the manifest's states; into the body's caches once that is local.
        state: usize,
        /// The layer of the cache, when the body holds more than one.
        layer: Option<usize>,
        /// Slot name.
        slot: String,
        /// What is appended.
        new: Box<Expr>,
    },
    /// A float held by the struct, or by index while bodies are compared.
    Setting(FieldId),
    /// Integer literal.
    Int(i64),
    /// Float literal.
    Float(Float),
    /// Boolean literal.
    Bool(bool),
    /// A size.
    Size(Dim),
    /// A size where the function takes a signed integer.
    SizeAsInt(Dim),
    /// A size where the function takes a float.
    SizeAsFloat(Dim),
    /// A shape, as a slice of sizes.
    Shape(Vec<Dim>),
    /// A shape, as a tuple of sizes.
    Dims(Vec<Dim>),
    /// `[…]`
    Array(Vec<Expr>),
    /// `&[…]`
    Slice(Vec<Expr>),
    /// `(…)`
    Tuple(Vec<Expr>),
    /// `None`
    None,
    /// `Some(…)`
    Some(Box<Expr>),
    /// A variant of an enum of `pycandle::ops`.
    Variant(&'static str, &'static str),
    /// A fixed dtype.
    Dtype(Dtype),
    /// The dtype the model was loaded with.
    ModelDtype,
    /// The device the model was loaded on.
    Device,
}

impl Expr {
    /// Visits this expression and everything below it, operands first.
    pub fn visit<'a>(&'a self, f: &mut impl FnMut(&'a Expr)) {
        match self {
            Expr::Layer(_, x) | Expr::Forward(_, x) | Expr::Some(x) => x.visit(f),
            Expr::Append { new, .. } => new.visit(f),
            Expr::Binary(_, a, b) => {
                a.visit(f);
                b.visit(f);
            }
            Expr::Method(recv, _, args) => {
                recv.visit(f);
                args.iter().for_each(|a| a.visit(f));
            }
            Expr::Op(_, args) | Expr::Slice(args) | Expr::Array(args) | Expr::Tuple(args) => {
                args.iter().for_each(|a| a.visit(f));
            }
            _ => {}
        }
        f(self);
    }

    /// Rebuilds this expression bottom-up.
    pub fn map(self, f: &mut impl FnMut(Expr) -> Expr) -> Expr {
        let all = |args: Vec<Expr>, f: &mut _| args.into_iter().map(|a| a.map(f)).collect();
        let mapped = match self {
            Expr::Layer(l, x) => Expr::Layer(l, Box::new(x.map(f))),
            Expr::Forward(l, x) => Expr::Forward(l, Box::new(x.map(f))),
            Expr::Some(x) => Expr::Some(Box::new(x.map(f))),
            Expr::Append {
                state,
                layer,
                slot,
                new,
            } => Expr::Append {
                state,
                layer,
                slot,
                new: Box::new(new.map(f)),
            },
            Expr::Binary(op, a, b) => Expr::Binary(op, Box::new(a.map(f)), Box::new(b.map(f))),
            Expr::Method(recv, name, args) => {
                let recv = Box::new(recv.map(f));
                Expr::Method(recv, name, all(args, f))
            }
            Expr::Op(name, args) => Expr::Op(name, all(args, f)),
            Expr::Slice(args) => Expr::Slice(all(args, f)),
            Expr::Array(args) => Expr::Array(all(args, f)),
            Expr::Tuple(args) => Expr::Tuple(all(args, f)),
            leaf => leaf,
        };
        f(mapped)
    }

    /// The variable that this expression is, or is an element of.
    pub fn var(&self) -> Option<Var> {
        match self {
            Expr::Var(v) | Expr::Element(v, _) => Some(*v),
            _ => None,
        }
    }

    /// Whether this expression names a tensor that is there already.
    pub fn is_place(&self) -> bool {
        matches!(self, Expr::Var(_) | Expr::Element(..) | Expr::Field(_))
    }

    /// Whether this expression is a tensor, and so is passed by reference.
    pub fn is_tensor(&self) -> bool {
        matches!(
            self,
            Expr::Tensor(_)
                | Expr::Layer(..)
                | Expr::Var(_)
                | Expr::Element(..)
                | Expr::Field(_)
                | Expr::Forward(..)
                | Expr::Binary(..)
                | Expr::Method(..)
                | Expr::Op(..)
                | Expr::Append { .. }
        )
    }
}

/// What a node becomes.
#[derive(Debug, Clone)]
pub enum Lowered {
    /// One tensor.
    One(Expr),
    /// Independent expressions for some outputs, by output index.
    Each(Vec<(usize, Expr)>),
    /// One expression that returns all outputs, this many, as a tuple.
    Tuple(Expr, usize),
}

/// A literal in a constructor; the ones that differ between equal structs become arguments of `load`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lit {
    /// A size or count.
    Int(i64),
    /// A float.
    Float(Float),
    /// Differs between the struct's instances: an argument of `load`, by index.
    Hole(usize),
}

/// An argument of a layer's constructor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LayerArg {
    /// A literal, with the name it gets when it becomes an argument of `load`.
    Lit(&'static str, Lit),
    /// An array of literals, with their names; the last is also that of those behind it.
    Array(&'static [&'static str], Vec<Lit>),
    /// As [`Self::Array`], as a tuple: a shape.
    Tuple(&'static [&'static str], Vec<Lit>),
    /// A struct literal of the runtime: type, then fields.
    Struct(&'static str, Vec<(&'static str, LayerArg)>),
}

/// A layer of the runtime: an op whose weights are parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layer {
    /// Type name in the runtime, as `Linear`.
    pub ty: &'static str,
    /// Suffix of the constructors: `""`, or a variant as `transposed`.
    pub variant: &'static str,
    /// Parameters by the name the constructor expects (`weight`, `bias`, …); `None` when absent.
    pub params: Vec<(&'static str, Option<ParamId>)>,
    /// Further constructor arguments.
    pub args: Vec<LayerArg>,
}
