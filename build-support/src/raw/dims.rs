//! Sizes: symbols and expressions, resolved.

use std::collections::HashMap;

use super::json;
use crate::manifest::{Dim, SymbolId};

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
        if right == Dim::Size(0) && op != json::DimOp::Sub {
            return Err("division by zero".to_owned());
        }
        let (left, right) = (Box::new(left), Box::new(right));
        return Ok(match op {
            json::DimOp::Sub => Dim::Sub(left, right),
            json::DimOp::FloorDiv => Dim::FloorDiv(left, right),
            _ => Dim::Mod(left, right),
        });
    }
    Ok(match op {
        json::DimOp::Add => Dim::Add(operands),
        json::DimOp::Mul => Dim::Mul(operands),
        json::DimOp::Max => Dim::Max(operands),
        _ => Dim::Min(operands),
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
