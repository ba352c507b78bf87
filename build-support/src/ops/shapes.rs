//! What shape each op gives, and whether a manifest says the same.
//!
//! In: a [`Manifest`] whose references resolve. Out: every node whose shapes contradict its op. A
//! trace holds for all sizes within its ranges and conditions, so it has to hold for some of them:
//! sizes are put in, and every rule is arithmetic on numbers. What a rule does not know it passes.

mod args;
mod create;
mod joins;
mod network;
mod recurrent;
mod reduce;
mod samples;
mod views;

use std::collections::{HashMap, HashSet};

use crate::manifest::{Manifest, Node, Source};
use args::At;
use samples::samples;

/// Sizes of a tensor.
type Shape = Vec<i64>;

/// Why a rule gives no shape.
enum No {
    /// It cannot be told; whether the op can be used at all is said elsewhere.
    Unknown,
    /// The arguments contradict each other.
    Wrong(String),
}

/// The shapes that an op returns, as far as they are known.
type Given = Result<Vec<Option<Shape>>, No>;

type Rule = fn(&At) -> Given;

/// A node that says something else than its op.
#[derive(Debug)]
pub struct Contradiction {
    /// Index into the manifest's nodes.
    pub node: usize,
    /// What of the node: `args`, or `out[0].shape`.
    pub field: String,
    /// What it should be.
    pub message: String,
}

const FAMILIES: &[&[(&str, Rule)]] = &[
    create::RULES,
    joins::RULES,
    network::RULES,
    recurrent::RULES,
    reduce::RULES,
    views::RULES,
];

/// The rule of an op: its own, or, where the op is elementwise, that of broadcasting.
fn rule(op: &str) -> Option<Rule> {
    let own = FAMILIES.iter().find_map(|rules| {
        let at = rules.binary_search_by_key(&op, |(name, _)| name).ok()?;
        Some(rules[at].1)
    });
    let elementwise = || {
        use super::{activation, arith, bits, compare};
        let families = [
            activation::ROWS,
            arith::ROWS,
            bits::ROWS,
            bits::LEFT_SHIFTS,
            compare::ROWS,
        ];
        let mut rows = families.into_iter().flatten();
        rows.any(|(name, _)| *name == op)
            .then_some(broadcast as Rule)
    };
    own.or_else(elementwise)
}

/// Everything in which the manifest contradicts itself; of nodes that share a tensor, the first.
pub fn check(m: &Manifest) -> Vec<Contradiction> {
    let samples = samples(m);
    let mut found = Vec::new();
    let mut doubtful: HashSet<Source> = HashSet::new();
    let mut rules: HashMap<&str, Option<Rule>> = HashMap::new();
    for (i, node) in m.nodes.iter().enumerate() {
        let Some(rule) = *rules.entry(&node.op).or_insert_with(|| rule(&node.op)) else {
            continue;
        };
        if !doubtful.is_empty() && tensors(node).iter().any(|s| doubtful.contains(s)) {
            continue;
        }
        let mut problems = samples.iter().filter_map(|sizes| {
            let at = At { m, node, sizes };
            let (field, message) = contradiction(&at, rule)?;
            Some((field, message + &at.sizes_text()))
        });
        if let Some((field, message)) = problems.next() {
            doubtful.extend(tensors(node));
            found.push(Contradiction {
                node: i,
                field,
                message,
            });
        }
    }
    found
}

/// The tensors that a node reads and makes.
fn tensors(node: &Node) -> Vec<Source> {
    let mut all: Vec<Source> = node.out.iter().map(|v| Source::Value(*v)).collect();
    node.args
        .iter()
        .for_each(|(_, arg)| arg.sources(&mut |s| all.push(s)));
    all
}

fn contradiction(at: &At, rule: Rule) -> Option<(String, String)> {
    let given = match rule(at) {
        Ok(given) => given,
        Err(No::Unknown) => return None,
        Err(No::Wrong(text)) => return Some(("args".to_owned(), text)),
    };
    let out = &at.node.out;
    if given.len() != out.len() {
        let (n, listed) = (given.len(), out.len());
        let text = format!("the op returns {n} tensors, {listed} are listed");
        return Some(("out".to_owned(), text));
    }
    for (j, (given, value)) in given.iter().zip(out).enumerate() {
        let (Some(given), Ok(listed)) = (given, at.shape_of(Source::Value(*value))) else {
            continue;
        };
        // An argument that makes a size negative is named by the op's lowering.
        if *given != listed && given.iter().all(|&size| size >= 0) {
            let text = format!("the op gives {given:?}, not {listed:?}");
            return Some((format!("out[{j}].shape"), text));
        }
    }
    None
}

fn one(shape: Shape) -> Given {
    Ok(vec![Some(shape)])
}

fn wrong<T>(text: impl Into<String>) -> Result<T, No> {
    Err(No::Wrong(text.into()))
}

/// The first tensor's shape.
fn same(at: &At) -> Given {
    one(at.all()?.into_iter().next().ok_or(No::Unknown)?)
}

/// The shape of all tensors together.
fn broadcast(at: &At) -> Given {
    let all = at.all()?;
    let mut all = all.into_iter();
    let first = all.next().ok_or(No::Unknown)?;
    one(all.try_fold(first, |a, b| together(&a, &b))?)
}

/// Two shapes broadcast, as PyTorch does it.
fn together(a: &[i64], b: &[i64]) -> Result<Shape, No> {
    let rank = a.len().max(b.len());
    let at = |shape: &[i64], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(i) => shape[i],
        None => 1,
    };
    let sizes = (0..rank).map(|i| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Ok(x),
        (1, x) | (x, 1) => Ok(x),
        _ => wrong(format!("{a:?} and {b:?} do not broadcast")),
    });
    sizes.collect()
}

/// Fails unless `shape` broadcasts to `whole`.
fn fits(what: &str, shape: &[i64], whole: &[i64]) -> Result<(), No> {
    match together(shape, whole) {
        Ok(both) if both == whole => Ok(()),
        _ => wrong(format!(
            "`{what}` is {shape:?}, which does not broadcast to {whole:?}"
        )),
    }
}

/// Fails unless an argument that may be left out has this shape.
fn is(at: &At, what: &str, expected: &[i64]) -> Result<(), No> {
    match at.shape_opt(what)? {
        Some(shape) if shape != expected => {
            wrong(format!("`{what}` is {shape:?}, expected {expected:?}"))
        }
        _ => Ok(()),
    }
}

fn count(shape: &[i64]) -> Result<i64, No> {
    let product = shape.iter().try_fold(1_i64, |n, &d| n.checked_mul(d));
    product.ok_or(No::Unknown)
}

#[cfg(test)]
mod tests;
