//! Checks that the sizes meet the conditions of the trace.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;

use super::expr::Scope;
use crate::manifest::{Comparison, Condition, Dim, Manifest, SymbolId};
use crate::names::ident;

/// `bind::condition(batch != 77, "batch != 77 (model.py:3)", &[("batch", batch)])?;`
pub fn conditions(m: &Manifest, scope: &Scope) -> TokenStream {
    m.conditions
        .iter()
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

/// A size as it is written in Python, with the names of the manifest.
fn text(m: &Manifest, dim: &Dim, nested: bool) -> String {
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
