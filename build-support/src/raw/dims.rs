//! Sizes: symbols and expressions, resolved.

use std::collections::HashMap;

use super::json;
use crate::manifest::{Dim, Symbol, SymbolId};

/// Symbols by name.
pub(super) type Symbols<'s> = HashMap<&'s str, SymbolId>;

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
            return match symbols.get(&**name) {
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
            json::DimOp::FloorDiv => floor_div(left, right),
            _ => modulo(left, right),
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
fn floor_div(left: Dim, right: Dim) -> Result<Dim, String> {
    let (left, right) = match divisor(&right)? {
        Some(positive) => (negated(left), positive),
        None => (left, right),
    };
    Ok(Dim::FloorDiv(Box::new(left), Box::new(right)))
}

/// `left % right`, which has the sign of `right`.
fn modulo(left: Dim, right: Dim) -> Result<Dim, String> {
    Ok(match divisor(&right)? {
        Some(positive) => negated(Dim::Mod(Box::new(negated(left)), Box::new(positive))),
        None => Dim::Mod(Box::new(left), Box::new(right)),
    })
}

/// What a divisor below zero is without its sign; `None` for another.
fn divisor(dim: &Dim) -> Result<Option<Dim>, String> {
    let below_zero = "a divisor in it can be below 0";
    match dim {
        Dim::Size(0) => Err("division by zero".to_owned()),
        Dim::Size(n @ ..0) => Ok(Some(Dim::Size(n.checked_neg().ok_or(below_zero)?))),
        Dim::Mul(factors) if factors.iter().any(|f| matches!(f, Dim::Size(..0))) => {
            Err(below_zero.to_owned())
        }
        Dim::Sub(from, _) if matches!(**from, Dim::Size(..1)) => Err(below_zero.to_owned()),
        _ => Ok(None),
    }
}

fn negated(dim: Dim) -> Dim {
    Dim::Sub(Box::new(Dim::Size(0)), Box::new(dim))
}

/// A size in a condition, which is computed before anything else is known of the inputs: no divisor
/// in it can be 0, whatever the sizes within their ranges.
pub(super) fn bounded(
    dim: &json::Dim<'_>,
    names: &Symbols<'_>,
    symbols: &[Symbol],
) -> Result<Dim, String> {
    let dim = expression(dim, names)?;
    match least(&dim, symbols) {
        Some(_) => Ok(dim),
        None => Err("a divisor in it can be 0".to_owned()),
    }
}

/// A number that `dim` is never below; `None` where a divisor can be 0 or less.
fn least(dim: &Dim, symbols: &[Symbol]) -> Option<i64> {
    let all = |dims: &[Dim]| {
        dims.iter()
            .map(|dim| least(dim, symbols))
            .collect::<Option<Vec<_>>>()
    };
    Some(match dim {
        Dim::Size(size) => *size,
        Dim::Sym(id) => symbols
            .get(id.0)
            .map_or(0, |symbol| i64::try_from(symbol.min).unwrap_or(i64::MAX)),
        Dim::Add(dims) => all(dims)?.into_iter().fold(0, i64::saturating_add),
        Dim::Mul(dims) => {
            let bounds = all(dims)?;
            match bounds.iter().all(|&bound| bound >= 0) {
                true => bounds.into_iter().fold(1, i64::saturating_mul),
                false => i64::MIN,
            }
        }
        Dim::Max(dims) => all(dims)?.into_iter().max()?,
        Dim::Min(dims) => all(dims)?.into_iter().min()?,
        Dim::Sub(a, b) => {
            let (a, _) = (least(a, symbols)?, least(b, symbols)?);
            match **b {
                Dim::Size(size) => a.saturating_sub(size),
                _ => i64::MIN,
            }
        }
        Dim::FloorDiv(a, b) => {
            let (a, divisor) = (least(a, symbols)?, least(b, symbols)?);
            match **b {
                _ if divisor < 1 => return None,
                Dim::Size(size) => a.div_euclid(size),
                _ => a.min(0),
            }
        }
        Dim::Mod(a, b) => {
            least(a, symbols)?;
            match least(b, symbols)? {
                ..1 => return None,
                _ => 0,
            }
        }
    })
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
