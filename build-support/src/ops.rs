//! The op table: one row per ATen overload.
//!
//! A row names the op and says what it becomes. Nothing else in the crate knows what an op means,
//! but for the clean-up of no-ops in [`crate::graph`] and the patterns of [`crate::fuse`].

mod activation;
mod apart;
mod arith;
mod attention;
mod bits;
mod compare;
mod conv;
mod create;
mod einsum;
mod index;
mod nn;
mod pool;
mod products;
mod rearrange;
mod recurrent;
mod reduce;
mod shape;
pub(crate) mod shapes;

use std::collections::BTreeMap;

use crate::ir::{Expr, Float, Lowered};
use crate::lower::{Ctx, Operand, Why};
use crate::manifest::{Dim, Scalar};
pub use apart::{decomposition, written};

/// What an op becomes.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// A function of `pycandle::ops` of the first tensor, cast to the output's dtype.
    Op(&'static str),
    /// An expression for the one output.
    Fn(fn(&Ctx) -> Result<Expr, Why>),
    /// Expressions for several outputs.
    Many(fn(&Ctx) -> Result<Lowered, Why>),
    /// Nothing, for a reason that says what to do.
    Refuse(&'static str),
}

/// One row of the table.
pub type Row = (&'static str, Rule);

const FAMILIES: &[(&str, &[Row])] = &[
    ("Activation", activation::ROWS),
    ("Arithmetic", arith::ROWS),
    ("Attention and fused forms", attention::ROWS),
    ("Bits", bits::ROWS),
    ("Bits", bits::LEFT_SHIFTS),
    ("Comparison and logic", compare::ROWS),
    ("Convolution", conv::ROWS),
    ("Creation", create::ROWS),
    ("Einstein summation", einsum::ROWS),
    ("Indexing", index::ROWS),
    ("Indexing", index::FOLDS),
    ("Layers", nn::ROWS),
    ("Pooling and resizing", pool::ROWS),
    ("Products", products::ROWS),
    ("Recurrent layers", recurrent::ROWS),
    ("Reduction", reduce::ROWS),
    ("Shape", shape::ROWS),
    ("Shape", rearrange::ROWS),
];

/// Whether an op computes with numbers, so that its result can leave the range of its dtype.
pub fn wraps(op: &str) -> bool {
    let computing = [arith::ROWS, bits::LEFT_SHIFTS, index::FOLDS, products::ROWS];
    computing
        .iter()
        .any(|rows| rows.binary_search_by_key(&op, |(name, _)| name).is_ok())
}

/// The rule of an op.
pub fn row(op: &str) -> Option<&'static Rule> {
    FAMILIES.iter().find_map(|(_, rows)| {
        let i = rows.binary_search_by_key(&op, |(name, _)| name).ok()?;
        Some(&rows[i].1)
    })
}

/// The ATen overloads that have a lowering, by family, in the order of the table.
///
/// ```
/// let mut ops = pycandle_build::supported();
/// assert!(ops.any(|(family, op)| (family, op) == ("Layers", "aten.linear.default")));
/// ```
pub fn supported() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = FAMILIES
        .iter()
        .flat_map(|(family, rows)| rows.iter().map(move |r| (*family, r)));
    rows.filter(|(_, (op, rule))| op.starts_with("aten.") && !matches!(rule, Rule::Refuse(_)))
        .map(|(family, (op, _))| (family, *op))
}

/// The op table as Markdown, for `docs/OPS.md`; `becomes` holds, by overload, the code that is
/// generated for a recorded example.
///
/// ```
/// let becomes = [("aten.cos.default".to_owned(), "ops::cos(x)".to_owned())].into();
/// let markdown = pycandle_build::documentation(&becomes);
/// assert!(markdown.contains("| `aten.cos.default` | `ops::cos(x)` |"));
/// ```
pub fn documentation(becomes: &BTreeMap<String, String>) -> String {
    let mut out = String::from(INTRODUCTION);
    let mut under = "";
    for (family, op) in supported() {
        if family != under {
            out.push_str(&format!(
                "\n## {family}\n\n| overload | an example becomes |\n|---|---|\n"
            ));
            under = family;
        }
        let code = becomes
            .get(op)
            .map(|c| format!("`{}`", c.replace('|', "\\|")));
        out.push_str(&format!("| `{op}` | {} |\n", code.unwrap_or_default()));
    }
    out.push_str(COMING_APART);
    for names in apart::all() {
        out.push_str(&format!("- `decompose=[{names}]`\n"));
    }
    out
}

const INTRODUCTION: &str = "\
# Supported operators

Generated from the op table; `BLESS=1 cargo test -p pycandle-build --test ops` writes it again.

Every overload here has at least one golden recorded from PyTorch under `tests/ops` or
`tests/models`, and is held against it. Operators that a trace does not contain because exporting
takes them apart (`reshape`, `chunk`, `batch_norm`, …) have no row of their own. Where weights are
parameters of a module, `linear`, `embedding`, the norms and the convolutions become layers of the
runtime instead of the functions shown.
";

const COMING_APART: &str = "
## By decomposition

Operators without a row that PyTorch takes apart into operators with one, when a model is recorded
with `GoldenRecorder(…, decompose=[…])`; each has a golden under `tests/ops`.

";

fn float(value: f64) -> Expr {
    Expr::Float(Float::new(value))
}

fn int(value: impl TryInto<i64>) -> Expr {
    Expr::Int(value.try_into().unwrap_or(i64::MAX))
}

fn ints(values: &[usize]) -> Expr {
    Expr::Slice(values.iter().map(|&v| int(v)).collect())
}

/// A size where the function takes a signed integer.
fn signed(size: &Dim) -> Expr {
    match size {
        Dim::Size(n) => int(*n),
        size => Expr::SizeAsInt(size.clone()),
    }
}

/// One size, or several as a tuple.
fn one_or_tuple(sizes: &[usize]) -> Expr {
    match sizes {
        [one] => int(*one),
        many => Expr::Tuple(many.iter().map(|&n| int(n)).collect()),
    }
}

fn op(name: &'static str, args: impl IntoIterator<Item = Expr>) -> Result<Expr, Why> {
    Ok(Expr::Op(name, args.into_iter().collect()))
}

fn method(x: Expr, name: &'static str, args: impl IntoIterator<Item = Expr>) -> Result<Expr, Why> {
    Ok(Expr::Method(Box::new(x), name, args.into_iter().collect()))
}

fn some(x: Option<Expr>) -> Expr {
    x.map_or(Expr::None, |x| Expr::Some(Box::new(x)))
}

fn why<T>(text: impl Into<String>) -> Result<T, Why> {
    Err(Why(text.into()))
}

/// The size of a tensor's dimension.
fn size_at(x: &Operand, dim: usize) -> Result<&Dim, Why> {
    let missing = || Why(format!("the tensor has no dimension {dim}"));
    x.shape.get(dim).ok_or_else(missing)
}

/// The sizes of the node's output `i`.
fn out_shape<'g>(c: &Ctx<'g>, i: usize) -> Result<&'g [Dim], Why> {
    if i < c.outs() {
        return Ok(&c.out(i).shape);
    }
    why(format!(
        "returns {} tensors, expected {} or more",
        c.outs(),
        i + 1
    ))
}

/// The size of a dimension of the node's output `i`.
fn out_size<'g>(c: &Ctx<'g>, i: usize, dim: usize) -> Result<&'g Dim, Why> {
    let missing = || Why(format!("the output has no dimension {dim}"));
    out_shape(c, i)?.get(dim).ok_or_else(missing)
}

/// Dimension indices; unlike [`Ctx::dims`], an empty list means none.
fn exact_dims(c: &Ctx, name: &str, rank: usize) -> Result<Vec<usize>, Why> {
    if c.ints(name)?.is_empty() {
        return Ok(Vec::new());
    }
    c.dims(name, rank)
}

/// An integer argument that cannot be negative.
fn count(c: &Ctx, name: &str) -> Result<Expr, Why> {
    match c.int(name)? {
        n if n < 0 => why(format!("argument `{name}` is {n}, it cannot be negative")),
        n => Ok(int(n)),
    }
}

/// A number argument as a float that holds it exactly.
fn number(c: &Ctx, name: &str) -> Result<f64, Why> {
    match c.scalar(name)? {
        Scalar::Int(i) if i as f64 as i128 != i128::from(i) => why(format!(
            "argument `{name}` is {i}, which a float cannot hold exactly: make it a tensor in the model"
        )),
        _ => c.float(name),
    }
}

/// A number argument as a float, which may be a size.
fn number_or_size(c: &Ctx, name: &str) -> Result<Expr, Why> {
    match c.size(name) {
        Ok(size) if !matches!(size, Dim::Size(_)) => Ok(Expr::SizeAsFloat(size)),
        _ => number(c, name).map(float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_unique() {
        for (family, rows) in FAMILIES {
            for pair in rows.windows(2) {
                assert!(
                    pair[0].0 < pair[1].0,
                    "{family}: {} {}",
                    pair[0].0,
                    pair[1].0
                );
            }
        }
        let mut all: Vec<_> = FAMILIES.iter().flat_map(|f| f.1).map(|r| r.0).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|p| p[0] != p[1]));
    }
}
