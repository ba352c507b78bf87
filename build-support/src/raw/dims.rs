//! Sizes: symbols and expressions, resolved.

use std::collections::HashMap;

use super::json;
use crate::manifest::{Dim, Symbol, SymbolId};

/// Symbols by name, and their ranges.
#[derive(Default)]
pub(super) struct Symbols<'s> {
    pub ids: HashMap<&'s str, SymbolId>,
    pub ranges: Vec<Symbol>,
}

/// A size in a shape: like [`expression`], but a plain number is not negative.
pub(super) fn size(dim: &json::Dim<'_>, symbols: &Symbols<'_>) -> Result<Dim, String> {
    match expression(dim, symbols)? {
        Dim::Size(size) if size < 0 => Err(format!("a size cannot be {size}")),
        dim => Ok(dim),
    }
}

/// A symbolic integer.
pub(super) fn expression(dim: &json::Dim<'_>, symbols: &Symbols<'_>) -> Result<Dim, String> {
    let (op, operands) = match dim {
        json::Dim::Size(size) => return Ok(Dim::Size(*size)),
        json::Dim::Sym(name) => {
            return match symbols.ids.get(&**name) {
                Some(&id) => Ok(Dim::Sym(id)),
                None => Err(format!("no symbol is named `{}`", &**name)),
            };
        }
        json::Dim::Op(op, operands) => (*op, operands),
    };
    let mut operands = operands
        .iter()
        .map(|operand| expression(operand, symbols))
        .collect::<Result<Vec<_>, _>>()?;
    let pair = match (op, operands.len()) {
        (json::DimOp::Add | json::DimOp::Mul | json::DimOp::Max | json::DimOp::Min, n)
            if n >= 2 =>
        {
            false
        }
        (json::DimOp::Sub | json::DimOp::FloorDiv | json::DimOp::Mod, 2) => true,
        (json::DimOp::Sub | json::DimOp::FloorDiv | json::DimOp::Mod, n) => {
            return Err(format!("the operator takes two operands, not {n}"));
        }
        (_, n) => return Err(format!("the operator takes two or more operands, not {n}")),
    };
    if pair && let (Some(right), Some(left)) = (operands.pop(), operands.pop()) {
        return match op {
            json::DimOp::Sub => Ok(Dim::Sub(Box::new(left), Box::new(right))),
            json::DimOp::FloorDiv => floor_div(left, right, &symbols.ranges),
            _ => modulo(left, right, &symbols.ranges),
        };
    }
    Ok(match op {
        json::DimOp::Add => Dim::Add(operands),
        json::DimOp::Mul => Dim::Mul(operands),
        json::DimOp::Max => Dim::Max(operands),
        _ => Dim::Min(operands),
    })
}

/// `left // right`; a divisor below zero changes the signs of both, as it does in Python.
fn floor_div(left: Dim, right: Dim, ranges: &[Symbol]) -> Result<Dim, String> {
    let (left, right) = match divisor(&right, ranges)? {
        Some(positive) => (negated(left), positive),
        None => (left, right),
    };
    Ok(Dim::FloorDiv(Box::new(left), Box::new(right)))
}

/// `left % right`, which has the sign of `right`.
fn modulo(left: Dim, right: Dim, ranges: &[Symbol]) -> Result<Dim, String> {
    Ok(match divisor(&right, ranges)? {
        Some(positive) => negated(Dim::Mod(Box::new(negated(left)), Box::new(positive))),
        None => Dim::Mod(Box::new(left), Box::new(right)),
    })
}

/// What a divisor below zero is without its sign; `None` for one that is above zero, whatever the
/// sizes within their ranges.
fn divisor(dim: &Dim, ranges: &[Symbol]) -> Result<Option<Dim>, String> {
    let below_zero = || "a divisor in it can be below 0".to_owned();
    match dim {
        Dim::Size(0) => Err("division by zero".to_owned()),
        Dim::Size(1..) => Ok(None),
        Dim::Size(n) => Ok(Some(Dim::Size(n.checked_neg().ok_or_else(below_zero)?))),
        dim => match least(dim, ranges) {
            Some(1..) => Ok(None),
            Some(0) => Err("a divisor in it can be 0".to_owned()),
            _ => Err(below_zero()),
        },
    }
}

fn negated(dim: Dim) -> Dim {
    Dim::Sub(Box::new(Dim::Size(0)), Box::new(dim))
}

/// A number that `dim`, whose divisors are above zero, is never below, if one is known.
fn least(dim: &Dim, ranges: &[Symbol]) -> Option<i64> {
    let each = |dims: &[Dim]| -> Vec<_> { dims.iter().map(|dim| least(dim, ranges)).collect() };
    let all = |dims: &[Dim]| each(dims).into_iter().collect::<Option<Vec<_>>>();
    match dim {
        Dim::Size(size) => Some(*size),
        Dim::Sym(id) => ranges
            .get(id.0)
            .and_then(|symbol| i64::try_from(symbol.min).ok()),
        Dim::Add(dims) => Some(all(dims)?.into_iter().fold(0, i64::saturating_add)),
        Dim::Mul(dims) => {
            let bounds = all(dims)?;
            let product = bounds.iter().copied().fold(1, i64::saturating_mul);
            bounds.iter().all(|&bound| bound >= 0).then_some(product)
        }
        Dim::Max(dims) => each(dims).into_iter().flatten().max(),
        Dim::Min(dims) => all(dims)?.into_iter().min(),
        Dim::Sub(a, b) => match **b {
            Dim::Size(size) => Some(least(a, ranges)?.saturating_sub(size)),
            _ => None,
        },
        Dim::FloorDiv(a, b) => match **b {
            Dim::Size(size @ 1..) => Some(least(a, ranges)?.div_euclid(size)),
            _ => Some(least(a, ranges)?.min(0)),
        },
        Dim::Mod(..) => Some(0),
    }
}

/// Elements of a tensor, if its bytes can be counted.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    let count = shape
        .iter()
        .try_fold(1_usize, |n, &dim| n.checked_mul(dim))?;
    (count <= isize::MAX as usize / 8).then_some(count)
}

/// Whether the known sizes alone already overflow.
pub(super) fn overflows(shape: &[Dim]) -> bool {
    let known = shape.iter().filter_map(|dim| match dim {
        Dim::Size(size) => usize::try_from(*size).ok().filter(|&size| size > 0),
        _ => None,
    });
    elements(&known.collect::<Vec<_>>()).is_none()
}
