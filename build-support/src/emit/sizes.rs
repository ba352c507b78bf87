//! Sizes as tokens.

use proc_macro2::TokenStream;
use quote::quote;

use super::expr::{Scope, int};
use crate::manifest::Dim;
use crate::names::ident;

impl Scope {
    /// A size, as `usize`.
    pub fn size(&self, dim: &Dim) -> TokenStream {
        let dim = dim.clone().plain();
        if dim.can_be_negative() {
            let size = self.signed(&dim, false);
            quote!(ops::extent(#size)?)
        } else {
            self.size_in(&dim, false)
        }
    }

    /// A size where the function takes `i64`, or another type of numbers below zero.
    pub fn size_as(&self, dim: &Dim, ty: &TokenStream) -> TokenStream {
        let dim = dim.clone().plain();
        let negative = dim.can_be_negative();
        if negative && ty.to_string() == "i64" {
            return self.signed(&dim, false);
        }
        let size = match negative {
            true => self.signed(&dim, true),
            false => self.size_in(&dim, true),
        };
        quote!(#size as #ty)
    }

    /// A size without a negative part, in `usize`.
    fn size_in(&self, dim: &Dim, nested: bool) -> TokenStream {
        let leaf = |d: &Dim| self.size_in(d, true);
        if let Some((a, b)) = cut_off(dim) {
            let (a, b) = (leaf(a), self.size_in(b, false));
            return quote!(#a.saturating_sub(#b));
        }
        match dim {
            Dim::Size(n) => int(*n),
            Dim::Sym(s) => {
                let name = ident(&self.sizes[s.0]);
                quote!(#name)
            }
            Dim::FloorDiv(a, b) => match rounded_up(a, b) {
                Some(a) => {
                    let (a, b) = (leaf(&a), self.size_in(b, false));
                    quote!(#a.div_ceil(#b))
                }
                None => infix(&[leaf(a), leaf(b)], quote!(/), nested),
            },
            Dim::Mod(a, b) => infix(&[leaf(a), leaf(b)], quote!(%), nested),
            Dim::Max(d) => chain(d, "max", leaf, |d| self.size_in(d, false)),
            Dim::Min(d) => chain(d, "min", leaf, |d| self.size_in(d, false)),
            other => operation(other, nested, leaf),
        }
    }

    /// A size in `i64`, where a part of it may be negative.
    pub fn signed(&self, dim: &Dim, nested: bool) -> TokenStream {
        let leaf = |d: &Dim| self.signed(d, true);
        let method = |a: &Dim, name: &str, b: &Dim| {
            let (a, name, b) = (leaf(a), ident(name), self.signed(b, false));
            quote!(#a.#name(#b))
        };
        match dim {
            Dim::Size(n) => int(*n),
            Dim::Sym(s) => {
                let name = ident(&self.sizes[s.0]);
                if nested {
                    quote!((#name as i64))
                } else {
                    quote!(#name as i64)
                }
            }
            // Python's floor division and remainder, for a divisor above zero.
            Dim::FloorDiv(a, b) => method(a, "div_euclid", b),
            Dim::Mod(a, b) => method(a, "rem_euclid", b),
            Dim::Max(d) => chain(d, "max", leaf, |d| self.signed(d, false)),
            Dim::Min(d) => chain(d, "min", leaf, |d| self.signed(d, false)),
            Dim::Sub(a, b) if **a == ZERO => {
                let b = leaf(b);
                if nested { quote!((-#b)) } else { quote!(-#b) }
            }
            other => operation(other, nested, leaf),
        }
    }
}

/// Arithmetic that is written the same for signed and unsigned sizes.
fn operation(dim: &Dim, nested: bool, leaf: impl Fn(&Dim) -> TokenStream) -> TokenStream {
    let all = |dims: &[Dim]| dims.iter().map(&leaf).collect::<Vec<_>>();
    match dim {
        Dim::Add(d) => infix(&all(d), quote!(+), nested),
        Dim::Mul(d) => infix(&all(d), quote!(*), nested),
        Dim::Sub(a, b) => infix(&[leaf(a), leaf(b)], quote!(-), nested),
        other => leaf(other),
    }
}

/// The method of one size with the others, which are its `arguments`.
fn chain(
    dims: &[Dim],
    name: &str,
    receiver: impl Fn(&Dim) -> TokenStream,
    argument: impl Fn(&Dim) -> TokenStream,
) -> TokenStream {
    // A literal has no type of its own to call a method on.
    let mut dims = dims.to_vec();
    dims.sort_by_key(|d| matches!(d, Dim::Size(_)));
    let name = ident(name);
    let first = dims.first().map(receiver).unwrap_or_default();
    let rest = dims.iter().skip(1).map(argument);
    rest.fold(first, |a, b| quote!(#a.#name(#b)))
}

/// What `top / bottom` is the quotient of, rounded up: `(size + 3) / 4` is of `size`.
fn rounded_up(top: &Dim, bottom: &Dim) -> Option<Dim> {
    let (Dim::Add(terms), Dim::Size(n @ 2..)) = (top, bottom) else {
        return None;
    };
    let less = Dim::Size(n - 1);
    let rest: Vec<_> = terms
        .iter()
        .filter(|term| **term != less)
        .cloned()
        .collect();
    match (terms.len() - rest.len(), &rest[..]) {
        (1, [one]) => Some(one.clone()),
        (1, [_, ..]) => Some(Dim::Add(rest)),
        _ => None,
    }
}

fn infix(operands: &[TokenStream], operator: TokenStream, nested: bool) -> TokenStream {
    let mut out = TokenStream::new();
    for (i, operand) in operands.iter().enumerate() {
        if i > 0 {
            out.extend(operator.clone());
        }
        out.extend(operand.clone());
    }
    if nested { quote!((#out)) } else { out }
}

/// Fewer operations for the same size: what a slice that counts from the end takes of its dim, say,
/// is `size.min(1)` rather than `max(size - max(size - 1, 0), 0)`.
fn plain(dim: Dim) -> Dim {
    match dim {
        Dim::Max(d) if d.contains(&ZERO) => {
            let mut others = d.iter().filter(|d| **d != ZERO);
            match (others.next(), others.next()) {
                (Some(one), None) if !one.can_be_negative() => one.clone(),
                _ => Dim::Max(d),
            }
        }
        Dim::Sub(a, b) => match (cut_off(&b), &*b) {
            (Some((from, less)), _) if *from == *a => Dim::Min(vec![*a, less.clone()]),
            (_, Dim::Min(least)) if least.len() == 2 && least.contains(&a) => {
                let other = if least[0] == *a { &least[1] } else { &least[0] };
                Dim::Max(vec![Dim::Sub(a, Box::new(other.clone())), ZERO])
            }
            _ => Dim::Sub(a, b),
        },
        Dim::Mul(d) if d.contains(&MINUS_ONE) => {
            let rest: Vec<_> = d.iter().filter(|d| **d != MINUS_ONE).cloned().collect();
            match (d.len() - rest.len(), &rest[..]) {
                (1, [one]) => Dim::Sub(Box::new(ZERO), Box::new(one.clone())),
                _ => Dim::Mul(d),
            }
        }
        other => other,
    }
}

const MINUS_ONE: Dim = Dim::Size(-1);
const ZERO: Dim = Dim::Size(0);

/// The parts of `max(a - b, 0)`, neither of which can be negative.
fn cut_off(dim: &Dim) -> Option<(&Dim, &Dim)> {
    match dim {
        Dim::Max(d) => match &d[..] {
            [Dim::Sub(a, b), ZERO] | [ZERO, Dim::Sub(a, b)] => {
                // A literal has no type of its own to call a method on.
                let fits = !matches!(**a, Dim::Size(_)) && !a.can_be_negative();
                (fits && !b.can_be_negative()).then_some((&**a, &**b))
            }
            _ => None,
        },
        _ => None,
    }
}

impl Dim {
    /// The same size by fewer operations, where there are such.
    pub fn plain(self) -> Dim {
        self.rebuild(&mut plain)
    }

    /// Whether a part of it may be below zero.
    pub fn can_be_negative(&self) -> bool {
        match self {
            _ if cut_off(self).is_some() => false,
            Dim::Size(n) => *n < 0,
            Dim::Sym(_) => false,
            Dim::Sub(..) => true,
            Dim::Add(d) | Dim::Mul(d) | Dim::Max(d) | Dim::Min(d) => {
                // Two literals alone have no type either.
                let literals = d.iter().all(|d| matches!(d, Dim::Size(_)));
                literals || d.iter().any(Dim::can_be_negative)
            }
            Dim::FloorDiv(a, b) | Dim::Mod(a, b) => a.can_be_negative() || b.can_be_negative(),
        }
    }
}
