//! The arguments of a node as numbers.

use std::collections::BTreeSet;

use super::samples::value;
use super::{No, Shape};
use crate::manifest::{Arg, Dim, Dtype, Manifest, Node, Source};

/// A node with sizes put in for its symbols.
pub struct At<'m> {
    pub m: &'m Manifest,
    pub node: &'m Node,
    /// By symbol.
    pub sizes: &'m [i64],
}

impl<'m> At<'m> {
    /// `, when batch is 7`; empty when no size is open.
    pub fn sizes_text(&self) -> String {
        let mut symbols = BTreeSet::new();
        for source in super::tensors(self.node) {
            if let Source::Value(v) = source {
                let shape = &self.m.values[v.0].shape;
                shape.iter().for_each(|dim| collect(dim, &mut symbols));
            }
        }
        let one = |&i: &usize| format!("{} is {}", self.m.symbols[i].name, self.sizes[i]);
        let sizes: Vec<String> = symbols.iter().map(one).collect();
        match sizes.is_empty() {
            true => String::new(),
            false => format!(", when {}", sizes.join(" and ")),
        }
    }

    pub fn shape_of(&self, source: Source) -> Result<Shape, No> {
        let fixed = |shape: &[usize]| {
            let sizes = shape.iter().map(|&d| i64::try_from(d).ok());
            sizes.collect::<Option<_>>().ok_or(No::Unknown)
        };
        match source {
            Source::Param(p) => fixed(&self.m.params[p.0].shape),
            Source::Const(c) => fixed(&self.m.constants[c.0].shape),
            Source::Value(v) => {
                let shape = &self.m.values[v.0].shape;
                shape.iter().map(|dim| self.size(dim)).collect()
            }
        }
    }

    fn size(&self, dim: &Dim) -> Result<i64, No> {
        let size = value(dim, self.sizes).filter(|&size| size >= 0);
        size.ok_or(No::Unknown)
    }

    /// The shapes of all tensors among the arguments, in their order.
    pub fn all(&self) -> Result<Vec<Shape>, No> {
        let args = self.node.args.iter().filter_map(|(_, arg)| arg.tensor());
        args.map(|source| self.shape_of(source)).collect()
    }

    pub fn shape(&self, name: &str) -> Result<Shape, No> {
        self.shape_opt(name)?.ok_or(No::Unknown)
    }

    pub fn shape_opt(&self, name: &str) -> Result<Option<Shape>, No> {
        match self.node.arg(name) {
            None | Some(Arg::Null) => Ok(None),
            Some(Arg::Tensor(source)) => self.shape_of(*source).map(Some),
            Some(_) => Err(No::Unknown),
        }
    }

    /// The shapes and dtypes of a list of tensors, None among them.
    pub fn shapes(&self, name: &str) -> Result<Vec<Option<(Shape, Dtype)>>, No> {
        let Some(Arg::List(items)) = self.node.arg(name) else {
            return Err(No::Unknown);
        };
        let one = |item: &Arg| match item {
            Arg::Null => Ok(None),
            Arg::Tensor(source) => Ok(Some((self.shape_of(*source)?, self.dtype(*source)))),
            _ => Err(No::Unknown),
        };
        items.iter().map(one).collect()
    }

    /// The shapes of a list of tensors.
    pub fn list(&self, name: &str) -> Result<Vec<Shape>, No> {
        let all = self.shapes(name)?.into_iter();
        let all = all.map(|shape| shape.map(|(shape, _)| shape));
        all.collect::<Option<_>>().ok_or(No::Unknown)
    }

    fn dtype(&self, source: Source) -> Dtype {
        match source {
            Source::Value(v) => self.m.values[v.0].dtype,
            Source::Param(p) => self.m.params[p.0].dtype,
            Source::Const(c) => self.m.constants[c.0].dtype,
        }
    }

    pub fn given(&self, name: &str) -> bool {
        !matches!(self.node.arg(name), None | Some(Arg::Null))
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.node.arg(name), Some(Arg::Bool(true)))
    }

    pub fn text(&self, name: &str) -> Option<&'m str> {
        match self.node.arg(name) {
            Some(Arg::Str(text)) => Some(text),
            _ => None,
        }
    }

    fn number(&self, arg: &Arg) -> Result<i64, No> {
        match arg {
            Arg::Int(n) => Ok(*n),
            Arg::Sym(dim) => value(dim, self.sizes).ok_or(No::Unknown),
            _ => Err(No::Unknown),
        }
    }

    pub fn int(&self, name: &str) -> Result<i64, No> {
        self.node
            .arg(name)
            .map_or(Err(No::Unknown), |arg| self.number(arg))
    }

    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, No> {
        match self.given(name) {
            true => self.int(name),
            false => Ok(default),
        }
    }

    /// A number of any kind.
    pub fn float(&self, name: &str) -> Result<f64, No> {
        match self.node.arg(name) {
            Some(Arg::Float(f)) => Ok(*f),
            _ => self.int(name).map(|n| n as f64),
        }
    }

    /// A list of numbers of any kind.
    pub fn floats(&self, name: &str) -> Result<Vec<f64>, No> {
        let one = |arg: &Arg| match arg {
            Arg::Float(f) => Ok(*f),
            other => self.number(other).map(|n| n as f64),
        };
        match self.node.arg(name) {
            Some(Arg::List(items)) => items.iter().map(one).collect(),
            _ => Err(No::Unknown),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Vec<i64>, No> {
        match self.node.arg(name) {
            Some(Arg::List(items)) => items.iter().map(|item| self.number(item)).collect(),
            Some(arg) => Ok(vec![self.number(arg)?]),
            None => Err(No::Unknown),
        }
    }

    /// One number per spatial dimension, from one for all, several, or none.
    pub fn per_dim(&self, name: &str, default: &[i64]) -> Result<Vec<i64>, No> {
        let n = default.len();
        if !self.given(name) {
            return Ok(default.to_vec());
        }
        let ints = self.ints(name)?;
        match ints.len() {
            0 => Ok(default.to_vec()),
            1 => Ok(vec![ints[0]; n]),
            len if len == n => Ok(ints),
            _ => Err(No::Unknown),
        }
    }

    /// A dimension of a tensor of this rank.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, No> {
        axis(self.int_or(name, default)?, rank)
    }

    /// Several dimensions; None when none are given.
    pub fn axes(&self, name: &str, rank: usize) -> Result<Option<Vec<usize>>, No> {
        if !self.given(name) {
            return Ok(None);
        }
        let axes = self.ints(name)?.into_iter().map(|dim| axis(dim, rank));
        axes.collect::<Result<_, _>>().map(Some)
    }
}

fn axis(dim: i64, rank: usize) -> Result<usize, No> {
    let n = i64::try_from(rank.max(1)).map_err(|_| No::Unknown)?;
    let dim = if dim < 0 { dim.saturating_add(n) } else { dim };
    match usize::try_from(dim) {
        Ok(dim) if dim < rank => Ok(dim),
        _ => Err(No::Unknown),
    }
}

fn collect(dim: &Dim, symbols: &mut BTreeSet<usize>) {
    match dim {
        Dim::Size(_) => {}
        Dim::Sym(s) => {
            symbols.insert(s.0);
        }
        Dim::Add(all) | Dim::Mul(all) | Dim::Max(all) | Dim::Min(all) => {
            all.iter().for_each(|d| collect(d, symbols));
        }
        Dim::Sub(a, b) | Dim::FloorDiv(a, b) | Dim::Mod(a, b) => {
            collect(a, symbols);
            collect(b, symbols);
        }
    }
}
