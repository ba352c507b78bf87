//! Loops over equal children.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;

use super::expr::Scope;
use super::forward::{call, pattern};
use super::{Struct, idents};
use crate::body::{CacheArg, FieldKind, Loop, LoopArg, LoopOut};
use crate::ir::{Expr, Var};
use crate::names::{self, ident};

/// A loop, with what it begins with before it.
pub fn repeat(s: &Struct, all: &[Struct], scope: &Scope, l: &Loop) -> TokenStream {
    let mut out = before(s, scope, l);
    let list = ident(&s.fields[l.field.0]);
    let mut fresh = Fresh::new(scope, l);
    let element = fresh.take(&[&names::element(&s.fields[l.field.0])]);
    let layered = l
        .args
        .caches
        .iter()
        .any(|c| matches!(c, CacheArg::Part { .. }));
    let some = |o: &LoopOut| o.kept.as_ref().is_some_and(|k| k.rounds.is_some());
    let counter = (layered || l.outs.iter().any(some)).then(|| fresh.take(&["i"]));

    let child = &all[s.child(l.field).0];
    let mut iter = quote!(self.#list.iter());
    let mut head = quote!(#element);
    let mut tensors = Vec::new();
    for (arg, input) in l.args.tensors.iter().zip(&child.names.vars) {
        tensors.push(match arg {
            LoopArg::Same(e) => scope.reference(e),
            LoopArg::Carried(o) => {
                let carried = l.outs[*o].carried.as_ref();
                carried.map_or_else(TokenStream::new, |(_, v)| scope.reference(&Expr::Var(*v)))
            }
            LoopArg::Each(values) => {
                let values = values.iter().map(|e| scope.reference(e));
                let name = fresh.take(&[input, &format!("{element}_{input}")]);
                iter.extend(quote!(.zip([#(#values),*])));
                head = quote!((#head, #name));
                quote!(#name)
            }
        });
    }
    if let Some(i) = &counter {
        iter.extend(quote!(.enumerate()));
        head = quote!((#i, #head));
    } else if !l.args.tensors.iter().any(|a| matches!(a, LoopArg::Each(_))) {
        iter = quote!(&self.#list);
    }
    let call = call(s, all, scope, l.field, &l.args, tensors, counter.as_ref());
    let round = round(
        scope,
        l,
        child,
        &mut fresh,
        &quote!(#element.#call),
        counter.as_ref(),
    );
    out.extend(quote!(for #head in #iter { #round }));
    out
}

/// What the loop begins with, and the lists that it fills.
fn before(s: &Struct, scope: &Scope, l: &Loop) -> TokenStream {
    let mut out = TokenStream::new();
    let children = match &s.body().fields[l.field.0].kind {
        FieldKind::Children(_, _, loads) => loads.len(),
        _ => 0,
    };
    for result in &l.outs {
        if let Some((init, var)) = &result.carried {
            out.extend(begin(s, scope, init, *var));
        }
        if let Some(kept) = &result.kept {
            let list = ident(&scope.vars[kept.list.0].0);
            let n = kept.rounds.as_ref().map_or(children, Vec::len);
            let n = Literal::usize_unsuffixed(n);
            out.extend(quote!(let mut #list = Vec::with_capacity(#n);));
        }
    }
    out
}

/// `let mut hidden = …;`, unless that is what it is called already.
fn begin(s: &Struct, scope: &Scope, init: &Expr, var: Var) -> Option<TokenStream> {
    let value = scope.value(init);
    let value = match init {
        Expr::Var(v) if scope.mutable.contains(v) => return None,
        Expr::Var(v) if s.reads[v.0] == 1 && !scope.vars[v.0].1 => value,
        Expr::Field(f) if scope.fields[f.0].1 => value,
        expr if expr.is_place() => quote!(#value.clone()),
        _ => value,
    };
    let name = ident(&scope.vars[var.0].0);
    Some(quote!(let mut #name = #value;))
}

/// What is done in each round.
fn round(
    scope: &Scope,
    l: &Loop,
    child: &Struct,
    fresh: &mut Fresh,
    call: &TokenStream,
    counter: Option<&Ident>,
) -> TokenStream {
    let keep = |out: &LoopOut, value: TokenStream| {
        let kept = out.kept.as_ref()?;
        let list = ident(&scope.vars[kept.list.0].0);
        Some(match &kept.rounds {
            None => quote!(#list.push(#value);),
            Some(rounds) => {
                let rounds = rounds.iter().map(|r| Literal::usize_unsuffixed(*r));
                quote!(if [#(#rounds),*].contains(&#counter) { #list.push(#value); })
            }
        })
    };
    let carried = |out: &LoopOut| {
        let (_, var) = out.carried.as_ref()?;
        Some(ident(&scope.vars[var.0].0))
    };
    let names: Option<Vec<Ident>> = l.outs.iter().map(carried).collect();
    if let Some(names) = names {
        let assigned = pattern(names.iter().map(|n| quote!(#n)));
        let kept = l.outs.iter().zip(&names);
        let kept = kept.filter_map(|(out, name)| keep(out, quote!(#name.clone())));
        return match names.is_empty() {
            true => quote!(#call;),
            false => quote!(#assigned = #call; #(#kept)*),
        };
    }
    if let [out] = &l.outs[..] {
        return keep(out, call.clone()).unwrap_or_default();
    }
    let results = l.outs.iter().zip(child.output_names());
    let results = results.map(|(out, name)| match out.carried {
        Some(_) => fresh.take(&["next"]),
        None => fresh.take(&[&name]),
    });
    let results: Vec<Ident> = results.collect();
    let assigned = pattern(results.iter().map(|n| quote!(#n)));
    let parts = l
        .outs
        .iter()
        .zip(&results)
        .map(|(out, result)| match carried(out) {
            Some(name) => {
                let kept = keep(out, quote!(#name.clone()));
                quote!(#name = #result; #kept)
            }
            None => keep(out, quote!(#result)).unwrap_or_default(),
        });
    quote!(let #assigned = #call; #(#parts)*)
}

/// Names for what is only there within a loop; they may hide what the loop does not use.
struct Fresh(BTreeSet<String>);

impl Fresh {
    fn new(scope: &Scope, l: &Loop) -> Self {
        let mut used = BTreeSet::from(["p".to_owned()]);
        for arg in &l.args.tensors {
            if let LoopArg::Same(e) = arg {
                idents(scope.reference(e), &mut used);
            }
        }
        for size in &l.args.sizes {
            idents(scope.size(size), &mut used);
        }
        used.extend(scope.caches.iter().cloned());
        used.extend(l.vars().map(|v| scope.vars[v.0].0.clone()));
        Self(used)
    }

    /// The first of these names that is free, or the last one with a number.
    fn take(&mut self, wanted: &[&str]) -> Ident {
        let last = wanted.last().copied().unwrap_or("x");
        let numbered = (2..).map(|n| format!("{last}{n}"));
        let mut names = wanted.iter().map(|n| (*n).to_owned()).chain(numbered);
        let name = names.find(|n| !self.0.contains(n)).unwrap_or_default();
        self.0.insert(name.clone());
        ident(&name)
    }
}
