//! Parts: a function that would be too long becomes several.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::TokenStream;
use quote::quote;

use super::forward::{result_type, statement};
use super::{Struct, idents};
use crate::body::{Body, CacheUse, Stmt};
use crate::ir::{Expr, Var};
use crate::names::ident;

/// How many operations one function may hold.
const LONGEST: usize = 100;

/// Statements by function: the compiler takes much longer for one long function than for its parts.
pub fn ranges(body: &Body) -> Vec<Range<usize>> {
    let costs: Vec<usize> = body.stmts.iter().map(Stmt::cost).collect();
    if costs.iter().sum::<usize>() <= LONGEST {
        return std::iter::once(0..costs.len()).collect();
    }
    let mut ranges = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (i, cost) in costs.iter().enumerate() {
        if sum + cost > LONGEST && i > start {
            ranges.push(start..i);
            (start, sum) = (i, 0);
        }
        sum += cost;
    }
    ranges.push(start..costs.len());
    ranges
}

/// One part: its call, and the function.
pub fn part(
    s: &Struct,
    all: &[Struct],
    n: usize,
    range: Range<usize>,
) -> (TokenStream, TokenStream) {
    let body = s.body();
    let mut scope = s.scope();
    let (mut defined, mut read) = (BTreeSet::new(), BTreeSet::new());
    for stmt in &body.stmts[range.clone()] {
        stmt.reads(&mut |v| {
            if !defined.contains(&v) {
                read.insert(v);
            }
        });
        stmt.defines(&mut |v| {
            defined.insert(v);
        });
    }
    let mut later: BTreeSet<Var> = body.outputs.iter().copied().collect();
    for stmt in &body.stmts[range.end..] {
        stmt.reads(&mut |v| {
            later.insert(v);
        });
    }
    if body.stmts[range.clone()].iter().any(Stmt::needs_device) {
        // Every tensor is on the model's device: one that the part has anyway serves.
        scope.device = read.first().copied().or(scope.device);
        read.extend(scope.device);
    }
    let outer = s.scope();
    for var in &read {
        scope.vars[var.0].1 = true;
    }
    let statements = body.stmts[range]
        .iter()
        .map(|stmt| statement(s, all, &scope, stmt));
    let statements: TokenStream = statements.collect();
    let mut used = BTreeSet::new();
    idents(statements.clone(), &mut used);

    let read = read
        .into_iter()
        .filter(|v| used.contains(&scope.vars[v.0].0));
    let read = read.map(|v| (ident(&scope.vars[v.0].0), outer.reference(&Expr::Var(v))));
    let outs: Vec<Var> = defined.into_iter().filter(|v| later.contains(v)).collect();
    let names: Vec<_> = outs.iter().map(|v| ident(&scope.vars[v.0].0)).collect();
    let sizes = s
        .names
        .sizes
        .iter()
        .filter(|n| used.contains(*n))
        .map(|n| ident(n));
    let sizes: Vec<_> = sizes.collect();
    let caches = body.caches.iter().zip(&s.names.caches);
    let caches = caches
        .filter(|(_, name)| used.contains(*name))
        .map(|((_, part), name)| {
            let name = ident(name);
            match part {
                _ if s.is_root => (quote!(#name: &mut ModelCache<Self>), name),
                CacheUse::Whole => (quote!(#name: &mut KvCache), name),
                CacheUse::Layer => (quote!(#name: &mut LayerCache), name),
            }
        });
    let (cache_args, caches): (Vec<_>, Vec<_>) = caches.unzip();
    let probe = used.contains("p").then(|| quote!(p));
    let probe_arg = probe.as_ref().map(|p| quote!(#p: &mut impl Probe));
    let (tensors, passed): (Vec<_>, Vec<_>) = read.unzip();

    let name = ident(&format!("part_{n}"));
    let ty = result_type(outs.len());
    let value = match &names[..] {
        [one] => quote!(#one),
        many => quote!((#(#many),*)),
    };
    let args: Vec<_> = tensors
        .iter()
        .map(|t| quote!(#t: &Tensor))
        .chain(sizes.iter().map(|n| quote!(#n: usize)))
        .chain(cache_args)
        .chain(probe_arg)
        .collect();
    let allow = (args.len() > 6).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    let call = quote! {
        let #value = self.#name(#(#passed,)* #(#sizes,)* #(#caches,)* #probe)?;
    };
    let function = quote! {
        #allow
        fn #name(&self, #(#args),*) -> Result<#ty> {
            #statements
            Ok(#value)
        }
    };
    (call, function)
}
