//! Checks that the sizes meet the conditions of the trace.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;

use super::expr::Scope;
use crate::manifest::{Comparison, Condition, Dim, Manifest, Symbol, SymbolId};
use crate::names::ident;

/// Every condition that the ranges of the sizes, which are checked before, do not imply:
/// `bind::condition(batch != 77, "batch != 77 (model.py:3)", &[("batch", batch)])?;`
pub fn conditions(m: &Manifest, scope: &Scope) -> TokenStream {
    m.conditions
        .iter()
        .filter(|c| !is_implied(&m.symbols, c))
        .map(|c| condition(m, c, scope))
        .collect()
}

fn condition(m: &Manifest, c: &Condition, scope: &Scope) -> TokenStream {
    let signed = c.left.can_be_negative() || c.right.can_be_negative();
    let side = |dim: &Dim| match (signed, dim) {
        (true, Dim::Sym(_)) => scope.signed(dim, true),
        (true, _) => scope.signed(dim, false),
        (false, _) => scope.size(dim),
    };
    let (left, right) = (side(&c.left), side(&c.right));
    let (holds, sign) = match c.comparison {
        Comparison::Eq => (quote!(#left == #right), "=="),
        Comparison::Ne => (quote!(#left != #right), "!="),
        Comparison::Lt => (quote!(#left < #right), "<"),
        Comparison::Le => (quote!(#left <= #right), "<="),
    };
    let (left, right) = (text(m, &c.left, false), text(m, &c.right, false));
    let at = c.at.as_ref().map_or(String::new(), |at| format!(" ({at})"));
    let text = format!("{left} {sign} {right}{at}");
    let mut used = BTreeSet::new();
    symbols(&c.left, &mut used);
    symbols(&c.right, &mut used);
    let sizes = used.into_iter().map(|SymbolId(n)| {
        let (name, size) = (&m.symbols[n].name, ident(&scope.sizes[n]));
        quote!((#name, #size))
    });
    quote!(bind::condition(#holds, #text, &[#(#sizes),*])?;)
}

/// Whether a condition holds for all sizes within their ranges.
fn is_implied(symbols: &[Symbol], c: &Condition) -> bool {
    let (left, right) = (range(symbols, &c.left), range(symbols, &c.right));
    let below = |a: &Range, b: &Range| a.1.zip(b.0).is_some_and(|(most, least)| most < least);
    match c.comparison {
        Comparison::Ne => below(&left, &right) || below(&right, &left),
        Comparison::Lt => below(&left, &right),
        Comparison::Le => left
            .1
            .zip(right.0)
            .is_some_and(|(most, least)| most <= least),
        Comparison::Eq => left.0.is_some() && left.0 == left.1 && left == right,
    }
}

/// The least and the most that a size can be; `None` where that is not known.
type Range = (Option<i128>, Option<i128>);

fn range(symbols: &[Symbol], dim: &Dim) -> Range {
    let all = |dims: &[Dim]| dims.iter().map(|d| range(symbols, d)).collect::<Vec<_>>();
    // Each end is known when that of every part is.
    let fold = |dims: &[Dim], of: fn(i128, i128) -> Option<i128>| {
        let both = |a: Option<i128>, b: Option<i128>| a.zip(b).and_then(|(a, b)| of(a, b));
        let parts = all(dims).into_iter();
        parts
            .reduce(|a, b| (both(a.0, b.0), both(a.1, b.1)))
            .unwrap_or((None, None))
    };
    match dim {
        Dim::Size(n) => (Some(i128::from(*n)), Some(i128::from(*n))),
        Dim::Sym(SymbolId(n)) => {
            let symbol = &symbols[*n];
            (Some(symbol.min as i128), symbol.max.map(|max| max as i128))
        }
        Dim::Add(dims) => fold(dims, i128::checked_add),
        Dim::Max(dims) => {
            // One part that is large is enough.
            let least = all(dims).into_iter().filter_map(|r| r.0).max();
            (least, fold(dims, |a, b| Some(a.max(b))).1)
        }
        Dim::Min(dims) => {
            let most = all(dims).into_iter().filter_map(|r| r.1).min();
            (fold(dims, |a, b| Some(a.min(b))).0, most)
        }
        Dim::Mul(dims)
            if all(dims)
                .iter()
                .all(|r| r.0.is_some_and(|least| least >= 0)) =>
        {
            fold(dims, i128::checked_mul)
        }
        Dim::Sub(a, b) => {
            let ((low, high), (least, most)) = (range(symbols, a), range(symbols, b));
            let minus =
                |a: Option<i128>, b: Option<i128>| a.zip(b).and_then(|(a, b)| a.checked_sub(b));
            (minus(low, most), minus(high, least))
        }
        Dim::FloorDiv(a, b) => match (range(symbols, a), &**b) {
            ((low, high), Dim::Size(n)) if *n > 0 => {
                let by = |x: i128| x.div_euclid(i128::from(*n));
                (low.map(by), high.map(by))
            }
            _ => (None, None),
        },
        Dim::Mod(_, b) => match **b {
            Dim::Size(n) if n > 0 => (Some(0), Some(i128::from(n) - 1)),
            _ => (None, None),
        },
        Dim::Mul(_) => (None, None),
    }
}

/// A size as it is written in Python, with the names of the manifest.
pub fn text(m: &Manifest, dim: &Dim, nested: bool) -> String {
    let all = |dims: &[Dim], nested| dims.iter().map(|d| text(m, d, nested)).collect::<Vec<_>>();
    let pair =
        |a: &Dim, sign: &str, b: &Dim| format!("{} {sign} {}", text(m, a, true), text(m, b, true));
    let joined = match dim {
        Dim::Size(n) => return n.to_string(),
        Dim::Sym(SymbolId(n)) => return m.symbols[*n].name.clone(),
        Dim::Max(dims) => return format!("max({})", all(dims, false).join(", ")),
        Dim::Min(dims) => return format!("min({})", all(dims, false).join(", ")),
        Dim::Add(dims) => all(dims, true).join(" + "),
        Dim::Mul(dims) => all(dims, true).join(" * "),
        Dim::Sub(a, b) => pair(a, "-", b),
        Dim::FloorDiv(a, b) => pair(a, "//", b),
        Dim::Mod(a, b) => pair(a, "%", b),
    };
    if nested {
        format!("({joined})")
    } else {
        joined
    }
}

fn symbols(dim: &Dim, into: &mut BTreeSet<SymbolId>) {
    match dim {
        Dim::Size(_) => {}
        Dim::Sym(id) => {
            into.insert(*id);
        }
        Dim::Add(dims) | Dim::Mul(dims) | Dim::Max(dims) | Dim::Min(dims) => {
            dims.iter().for_each(|d| symbols(d, into));
        }
        Dim::Sub(a, b) | Dim::FloorDiv(a, b) | Dim::Mod(a, b) => {
            symbols(a, into);
            symbols(b, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_imply_what_no_size_within_them_breaks() {
        let symbol = |min, max| Symbol {
            name: "n".to_owned(),
            min,
            max,
        };
        let n = || Dim::Sym(SymbolId(0));
        let size = |n| Dim::Size(n);
        let less = |a, b| Dim::Sub(Box::new(a), Box::new(b));
        let half = |a| Dim::FloorDiv(Box::new(a), Box::new(Dim::Size(2)));
        let doubled = || Dim::Mul(vec![n(), size(2)]);
        // Left, comparison, right; whether n ≥ 2 implies it, and whether 2 ≤ n ≤ 8 does.
        let cases = [
            (n(), Comparison::Ne, size(1), true, true),
            (n(), Comparison::Ne, size(2), false, false),
            (n(), Comparison::Ne, size(9), false, true),
            (
                Dim::Max(vec![n(), size(1)]),
                Comparison::Ne,
                size(1),
                true,
                true,
            ),
            (
                Dim::Min(vec![n(), size(4)]),
                Comparison::Le,
                size(4),
                true,
                true,
            ),
            (doubled(), Comparison::Ne, size(0), true, true),
            (doubled(), Comparison::Lt, size(17), false, true),
            (doubled(), Comparison::Lt, size(16), false, false),
            (
                half(less(n(), size(1))),
                Comparison::Le,
                size(3),
                false,
                true,
            ),
            (
                half(less(n(), size(3))),
                Comparison::Ne,
                size(-1),
                false,
                false,
            ),
            (size(3), Comparison::Eq, size(3), true, true),
            (n(), Comparison::Eq, n(), false, false),
            (
                Dim::Mod(Box::new(n()), Box::new(size(4))),
                Comparison::Lt,
                size(4),
                true,
                true,
            ),
        ];
        for (left, comparison, right, open, closed) in cases {
            let c = Condition {
                left,
                comparison,
                right,
                at: None,
            };
            assert_eq!(is_implied(&[symbol(2, None)], &c), open, "{c:?}");
            assert_eq!(is_implied(&[symbol(2, Some(8))], &c), closed, "{c:?}");
        }
    }
}
