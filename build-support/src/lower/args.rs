//! Typed access to a node's arguments; owns the text of what can be wrong with them.

use super::Why;
use crate::graph::Graph;
use crate::ir::{Expr, Float, Lowered};
use crate::manifest::{Arg, Dim, Dtype, Node, ParamId, Scalar, Source, Value};
use crate::ops::{self, Rule};

/// A tensor argument with what is known of it.
#[derive(Debug, Clone)]
pub struct Operand {
    /// Where it comes from.
    pub source: Source,
    /// Its expression.
    pub expr: Expr,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<Dim>,
}

impl Operand {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The expression, cast to `dtype` where it has another.
    pub fn cast(&self, c: &Ctx, dtype: Dtype) -> Expr {
        cast(c, self.expr.clone(), self.dtype, dtype)
    }

    /// The parameter, if the operand is one.
    pub fn param(&self) -> Option<ParamId> {
        match self.source {
            Source::Param(p) => Some(p),
            _ => None,
        }
    }
}

/// `x` of dtype `from` as `to`.
pub fn cast(c: &Ctx, x: Expr, from: Dtype, to: Dtype) -> Expr {
    if storage(from) == storage(to) && (to == Dtype::Bool) == (from == Dtype::Bool) {
        x
    } else if to == Dtype::Bool {
        Expr::Op("to_bool", vec![x])
    } else {
        Expr::Op("to_dtype", vec![x, c.dtype_expr(to)])
    }
}

/// The dtype that holds a PyTorch dtype at run time.
pub fn storage(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::Bool => Dtype::Uint8,
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 => Dtype::Int64,
        other => other,
    }
}

/// Typed access to a node's arguments; owns the text of what can be wrong with them.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'g> {
    pub(super) graph: &'g Graph<'g>,
    pub(super) node: &'g Node,
}

impl<'g> Ctx<'g> {
    pub(super) fn apply(&self, rule: &Rule) -> Result<Lowered, Why> {
        let lowered = self.apply_unwrapped(rule)?;
        Ok(match lowered {
            Lowered::One(expr) if ops::wraps(&self.node.op) => Lowered::One(self.wrapped(expr)),
            other => other,
        })
    }

    /// The result of integer arithmetic as its dtype wraps it around: narrow integers are held as
    /// i64.
    pub fn wrapped(&self, expr: Expr) -> Expr {
        let bits = match self.out_dtype() {
            Dtype::Int8 => 8,
            Dtype::Int16 => 16,
            Dtype::Int32 => 32,
            _ => return expr,
        };
        Expr::Op("wrap_int", vec![expr, Expr::Int(bits)])
    }

    fn apply_unwrapped(&self, rule: &Rule) -> Result<Lowered, Why> {
        match rule {
            Rule::Op(name) => {
                let x = self.first()?;
                let x = x.cast(self, self.out_dtype());
                Ok(Lowered::One(Expr::Op(name, vec![x])))
            }
            Rule::Fn(f) => f(self).map(Lowered::One),
            Rule::Many(f) => f(self),
            Rule::Refuse(reason) => Err(Why((*reason).to_owned())),
        }
    }

    /// A cache is only ever appended to: its content is not a tensor of its own.
    pub(super) fn leaves_caches_alone(&self) -> Result<(), Why> {
        let m = self.graph.m;
        let mut read = None;
        for (_, arg) in &self.node.args {
            arg.sources(&mut |source| {
                let is_read = |i: &usize| Source::Value(m.inputs[*i].value) == source;
                read = read.or(m.states.iter().map(|s| s.input).find(is_read));
            });
        }
        match read {
            None => Ok(()),
            Some(i) => Err(Why(format!(
                "reads the cache `{}` other than by appending to it",
                m.inputs[i].name
            ))),
        }
    }

    /// The graph.
    pub fn graph(&self) -> &'g Graph<'g> {
        self.graph
    }

    /// An expression for a dtype: the model's own, or a fixed one.
    pub fn dtype_expr(&self, dtype: Dtype) -> Expr {
        if dtype == self.graph.m.dtype {
            Expr::ModelDtype
        } else {
            Expr::Dtype(storage(dtype))
        }
    }

    /// The node's output `i`.
    pub fn out(&self, i: usize) -> &'g Value {
        &self.graph.m.values[self.node.out[i].0]
    }

    /// How many tensors the node returns.
    pub fn outs(&self) -> usize {
        self.node.out.len()
    }

    /// Element type of the first output.
    pub fn out_dtype(&self) -> Dtype {
        self.out(0).dtype
    }

    /// Sizes of the first output.
    pub fn out_shape(&self) -> &'g [Dim] {
        &self.out(0).shape
    }

    fn operand(&self, source: Source) -> Operand {
        Operand {
            source,
            expr: Expr::Tensor(source),
            dtype: self.graph.dtype(source),
            shape: self.graph.shape(source),
        }
    }

    /// The first tensor argument.
    pub fn first(&self) -> Result<Operand, Why> {
        let source = self.node.args.iter().find_map(|(_, a)| a.tensor());
        let source = source.ok_or_else(|| Why("has no tensor argument".to_owned()))?;
        Ok(self.operand(source))
    }

    /// A tensor argument.
    pub fn tensor(&self, name: &str) -> Result<Operand, Why> {
        match self.node.arg(name) {
            Some(Arg::Tensor(source)) => Ok(self.operand(*source)),
            other => Err(expected(name, "a tensor", other)),
        }
    }

    /// A tensor argument that may be left out.
    pub fn tensor_opt(&self, name: &str) -> Result<Option<Operand>, Why> {
        match self.node.arg(name) {
            None | Some(Arg::Null) => Ok(None),
            Some(_) => self.tensor(name).map(Some),
        }
    }

    /// Whether an argument is a tensor.
    pub fn is_tensor(&self, name: &str) -> bool {
        matches!(self.node.arg(name), Some(Arg::Tensor(_)))
    }

    /// A list of tensors, some of which may be None.
    pub fn tensors_opt(&self, name: &str) -> Result<Vec<Option<Operand>>, Why> {
        let list = self.list(name)?;
        let one = |a: &Arg| match a {
            Arg::Null => Ok(None),
            Arg::Tensor(s) => Ok(Some(self.operand(*s))),
            other => Err(expected(name, "a list of tensors", Some(other))),
        };
        list.iter().map(one).collect()
    }

    /// A list of tensors.
    pub fn tensors(&self, name: &str) -> Result<Vec<Operand>, Why> {
        let list = self.tensors_opt(name)?;
        let all: Option<Vec<_>> = list.into_iter().collect();
        all.ok_or_else(|| expected(name, "a list of tensors", self.node.arg(name)))
    }

    fn list(&self, name: &str) -> Result<&'g [Arg], Why> {
        match self.node.arg(name) {
            Some(Arg::List(items)) => Ok(items),
            other => Err(expected(name, "a list", other)),
        }
    }

    /// Whether an argument was given and is not None.
    pub fn given(&self, name: &str) -> bool {
        !matches!(self.node.arg(name), None | Some(Arg::Null))
    }

    /// An integer argument.
    pub fn int(&self, name: &str) -> Result<i64, Why> {
        match self.node.arg(name) {
            Some(Arg::Int(i)) => Ok(*i),
            Some(Arg::Bool(b)) => Ok(i64::from(*b)),
            other => Err(expected(name, "an integer", other)),
        }
    }

    /// An integer argument with a default.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, Why> {
        if self.given(name) {
            self.int(name)
        } else {
            Ok(default)
        }
    }

    /// A dimension index, made non-negative for `rank` dimensions.
    pub fn dim(&self, name: &str, rank: usize) -> Result<usize, Why> {
        normalise(name, self.int(name)?, rank)
    }

    /// A dimension index with a default.
    pub fn dim_or(&self, name: &str, default: i64, rank: usize) -> Result<usize, Why> {
        normalise(name, self.int_or(name, default)?, rank)
    }

    /// Dimension indices; an absent or empty list means all.
    pub fn dims(&self, name: &str, rank: usize) -> Result<Vec<usize>, Why> {
        let mut dims = match self.node.arg(name) {
            None | Some(Arg::Null) => Vec::new(),
            Some(Arg::Int(i)) => vec![normalise(name, *i, rank)?],
            Some(_) => {
                let ints = self.ints(name)?;
                let dims = ints.iter().map(|&i| normalise(name, i, rank));
                dims.collect::<Result<Vec<_>, _>>()?
            }
        };
        if dims.is_empty() {
            dims = (0..rank).collect();
        }
        Ok(dims)
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>, Why> {
        let one = |a: &Arg| match a {
            Arg::Int(i) => Ok(*i),
            other => Err(expected(name, "a list of integers", Some(other))),
        };
        match self.node.arg(name) {
            Some(Arg::Int(i)) => Ok(vec![*i]),
            _ => self.list(name)?.iter().map(one).collect(),
        }
    }

    /// A list of `n` non-negative integers; one given integer stands for all.
    pub fn sizes(&self, name: &str, default: usize, n: usize) -> Result<Vec<usize>, Why> {
        if !self.given(name) {
            return Ok(vec![default; n]);
        }
        let ints = self.ints(name)?;
        let sizes: Option<Vec<usize>> = ints.iter().map(|&i| usize::try_from(i).ok()).collect();
        match sizes {
            Some(s) if s.len() == n => Ok(s),
            Some(s) if s.len() == 1 => Ok(vec![s[0]; n]),
            Some(s) if s.is_empty() => Ok(vec![default; n]),
            _ => {
                let ints: Vec<String> = ints.iter().map(i64::to_string).collect();
                Err(Why(format!(
                    "argument `{name}` is [{}], expected one size or {n}, none below 0",
                    ints.join(", ")
                )))
            }
        }
    }

    /// A size that may be symbolic.
    pub fn size(&self, name: &str) -> Result<Dim, Why> {
        match self.node.arg(name) {
            Some(Arg::Int(i)) => Ok(Dim::Size(*i)),
            Some(Arg::Sym(d)) => Ok(d.clone()),
            other => Err(expected(name, "a size", other)),
        }
    }

    /// A list of sizes, each of which may be symbolic.
    pub fn size_list(&self, name: &str) -> Result<Vec<Dim>, Why> {
        let one = |a: &Arg| match a {
            Arg::Int(i) => Ok(Dim::Size(*i)),
            Arg::Sym(d) => Ok(d.clone()),
            other => Err(expected(name, "a list of sizes", Some(other))),
        };
        self.list(name)?.iter().map(one).collect()
    }

    /// A number as a float.
    pub fn float(&self, name: &str) -> Result<f64, Why> {
        match self.node.arg(name) {
            Some(Arg::Float(f)) => Ok(*f),
            Some(Arg::Int(i)) => Ok(*i as f64),
            Some(Arg::Bool(b)) => Ok(f64::from(u8::from(*b))),
            other => Err(expected(name, "a number", other)),
        }
    }

    /// A number as a float, with a default.
    pub fn float_or(&self, name: &str, default: f64) -> Result<f64, Why> {
        if self.given(name) {
            self.float(name)
        } else {
            Ok(default)
        }
    }

    /// An element of a list of numbers.
    pub fn float_at(&self, name: &str, i: usize) -> Result<f64, Why> {
        match self.list(name)?.get(i) {
            Some(Arg::Float(f)) => Ok(*f),
            Some(Arg::Int(i)) => Ok(*i as f64),
            other => Err(expected(name, "a list of numbers", other)),
        }
    }

    /// A number as an optional float expression.
    pub fn float_opt(&self, name: &str) -> Result<Expr, Why> {
        if self.given(name) {
            let value = Expr::Float(Float::new(self.float(name)?));
            Ok(Expr::Some(Box::new(value)))
        } else {
            Ok(Expr::None)
        }
    }

    /// A typed number.
    pub fn scalar(&self, name: &str) -> Result<Scalar, Why> {
        match self.node.arg(name) {
            Some(Arg::Float(f)) => Ok(Scalar::Float(*f)),
            Some(Arg::Int(i)) => Ok(Scalar::Int(*i)),
            Some(Arg::Bool(b)) => Ok(Scalar::Bool(*b)),
            other => Err(expected(name, "a number", other)),
        }
    }

    /// A boolean with a default.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool, Why> {
        match self.node.arg(name) {
            None | Some(Arg::Null) => Ok(default),
            Some(Arg::Bool(b)) => Ok(*b),
            Some(Arg::Int(i)) => Ok(*i != 0),
            other => Err(expected(name, "a boolean", other)),
        }
    }

    /// A string with a default.
    pub fn str_or(&self, name: &str, default: &'g str) -> Result<&'g str, Why> {
        match self.node.arg(name) {
            None | Some(Arg::Null) => Ok(default),
            Some(Arg::Str(s)) => Ok(s),
            other => Err(expected(name, "a string", other)),
        }
    }
}

fn normalise(name: &str, dim: i64, rank: usize) -> Result<usize, Why> {
    let rank = rank.max(1) as i64;
    let wrapped = if dim < 0 { dim + rank } else { dim };
    if (0..rank).contains(&wrapped) {
        Ok(wrapped as usize)
    } else {
        Err(Why(format!(
            "argument `{name}` is {dim}, out of range for {rank} dimensions"
        )))
    }
}

fn expected(name: &str, what: &str, got: Option<&Arg>) -> Why {
    match got {
        None => Why(format!("argument `{name}` is missing, expected {what}")),
        Some(arg) => Why(format!(
            "argument `{name}` is {}, expected {what}",
            arg.kind()
        )),
    }
}

impl Arg {
    fn kind(&self) -> &'static str {
        match self {
            Arg::Null => "None",
            Arg::Bool(_) => "a boolean",
            Arg::Int(_) => "an integer",
            Arg::Float(_) => "a float",
            Arg::Str(_) => "a string",
            Arg::Tensor(_) => "a tensor",
            Arg::Sym(_) => "a symbolic size",
            Arg::Dtype(_) => "a dtype",
            Arg::Device => "a device",
            Arg::Enum(_) => "an enumeration",
            Arg::List(_) => "a list",
        }
    }
}
