//! Forward functions: the statements of a body as tokens.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Literal, TokenStream, TokenTree};
use quote::quote;

use super::Struct;
use super::expr::Scope;
use super::parts::split;
use super::repeat::repeat;
use crate::body::{Args, Body, CacheArg, CacheUse, FieldPath, Stmt, SymBind};
use crate::ir::{Expr, FieldId, Var};
use crate::names::ident;

/// A struct's private `forward`.
pub fn forward(s: &Struct, all: &[Struct]) -> TokenStream {
    let body = s.body();
    let tensors = (0..body.inputs).map(|i| {
        let name = ident(&s.names.vars[i]);
        quote!(#name: &Tensor)
    });
    let sizes = size_args(s).map(|name| {
        let name = ident(name);
        quote!(#name: usize)
    });
    let caches = body
        .caches
        .iter()
        .zip(&s.names.caches)
        .map(|(part, name)| cache_arg(*part, name));
    let probe = s.probed.then(|| quote!(p: &mut impl Probe));
    let args: Vec<_> = tensors.chain(sizes).chain(caches).chain(probe).collect();
    let allow = allow(args.len(), body.outputs.len());
    let result = result_type(body.outputs.len());
    let bind = bindings(s);
    let Code {
        statements,
        outcome,
        parts,
    } = statements(s, all, operations(&bind));
    let outcome = outcome.tokens();
    quote! {
        #allow
        fn forward(&self, #(#args),*) -> Result<#result> {
            #bind
            #statements
            #outcome
        }

        #parts
    }
}

/// Clippy's limits on what a function takes beside `self`, and on the tensors that it returns.
pub fn allow(args: usize, outputs: usize) -> Option<TokenStream> {
    let lints = [
        (args > 6).then(|| quote!(clippy::too_many_arguments)),
        (outputs > 7).then(|| quote!(clippy::type_complexity)),
    ];
    let lints: Vec<_> = lints.into_iter().flatten().collect();
    (!lints.is_empty()).then(|| quote!(#[allow(#(#lints),*)]))
}

/// Names of the sizes that are arguments.
fn size_args(s: &Struct) -> impl Iterator<Item = &str> {
    let syms = s.body().syms.iter().zip(&s.names.sizes);
    syms.filter(|(bind, _)| **bind == SymBind::Arg)
        .map(|(_, name)| name.as_str())
}

/// `Tensor`, or a tuple of them.
pub fn result_type(outputs: usize) -> TokenStream {
    match outputs {
        1 => quote!(Tensor),
        n => {
            let all = std::iter::repeat_n(quote!(Tensor), n);
            quote!((#(#all),*))
        }
    }
}

/// `let (batch, seq, _) = x.dims3()?;` for the sizes that are read off inputs.
fn bindings(s: &Struct) -> TokenStream {
    let body = s.body();
    let mut out = TokenStream::new();
    for (bind, name) in body.syms.iter().zip(&s.names.sizes) {
        if let SymBind::Field(f) = bind {
            let (name, field) = (ident(name), ident(&s.fields[f.0]));
            out.extend(quote!(let #name = self.#field;));
        }
    }
    for input in 0..body.inputs {
        let of_input = |(bind, name)| match bind {
            SymBind::Axis(v, axis) if v == Var(input) => Some((axis, name)),
            _ => None,
        };
        let syms = body.syms.iter().copied().zip(&s.names.sizes);
        let axes: Vec<(usize, &String)> = syms.filter_map(of_input).collect();
        let x = ident(&s.names.vars[input]);
        let rank = s.ranks[input];
        match axes[..] {
            [] => {}
            [(axis, name)] => {
                let (axis, name) = (Literal::usize_unsuffixed(axis), ident(name));
                out.extend(quote!(let #name = #x.dim(#axis)?;));
            }
            _ if (2..=5).contains(&rank) => {
                let pattern = (0..rank).map(|i| match axes.iter().find(|(a, _)| *a == i) {
                    Some((_, name)) => ident(name),
                    None => ident("_"),
                });
                let dims = ident(&format!("dims{rank}"));
                out.extend(quote!(let (#(#pattern),*) = #x.#dims()?;));
            }
            _ => {
                for (axis, name) in axes {
                    let (axis, name) = (Literal::usize_unsuffixed(axis), ident(name));
                    out.extend(quote!(let #name = #x.dim(#axis)?;));
                }
            }
        }
    }
    out
}

/// What a function ends with.
pub enum Outcome {
    /// A call that already gives the function's result.
    Call(TokenStream),
    /// Values of their own.
    Values(Vec<TokenStream>),
}

impl Outcome {
    /// The function's last expression.
    pub fn tokens(&self) -> TokenStream {
        match self {
            Outcome::Call(call) => call.clone(),
            Outcome::Values(values) => {
                let values = pattern(values.iter().cloned());
                quote!(Ok(#values))
            }
        }
    }
}

/// A function's code, and the functions that hold the parts of one that would be too long.
pub struct Code {
    /// The statements.
    pub statements: TokenStream,
    /// What comes after them.
    pub outcome: Outcome,
    /// Further functions of the struct.
    pub parts: TokenStream,
}

/// The code of a struct's forward, which does `before` operations besides.
pub fn statements(s: &Struct, all: &[Struct], before: usize) -> Code {
    let mut scope = s.scope();
    if let Some(code) = split(s, all, &mut scope, before) {
        return code;
    }
    let body = s.body();
    let call = match &body.stmts[..] {
        [before @ .., Stmt::Let(var, expr)] if body.outputs == [Expr::Var(*var)] => {
            scope.fallible(expr).map(|call| (before, call))
        }
        _ => None,
    };
    let (stmts, outcome) = match call {
        Some((before, call)) => (before, Outcome::Call(call)),
        None => (&body.stmts[..], Outcome::Values(returned(s, &scope))),
    };
    Code {
        statements: block(s, all, &mut scope, stmts),
        outcome,
        parts: TokenStream::new(),
    }
}

/// How many operations tokens do that can fail.
pub fn operations(tokens: &TokenStream) -> usize {
    let operations = tokens.clone().into_iter().map(|tree| match tree {
        TokenTree::Punct(p) => usize::from(p.as_char() == '?'),
        TokenTree::Group(group) => operations(&group.stream()),
        _ => 0,
    });
    operations.sum()
}

/// Statements of one function.
pub fn block(s: &Struct, all: &[Struct], scope: &mut Scope, stmts: &[Stmt]) -> TokenStream {
    let mut defined = BTreeSet::new();
    for stmt in stmts {
        stmt.defines(&mut |v| {
            defined.insert(v);
        });
        if let Stmt::Loop(l) = stmt {
            // What a loop begins with becomes what it carries, when nothing else needs it.
            let carried = l.outs.iter().filter_map(|o| o.carried.as_ref());
            scope
                .mutable
                .extend(carried.filter_map(|(init, var)| match init {
                    Expr::Var(v) if defined.contains(v) && s.reads[v.0] == 1 => {
                        (scope.vars[v.0].0 == scope.vars[var.0].0).then_some(*v)
                    }
                    _ => None,
                }));
        }
    }
    let out = stmts.iter().map(|stmt| statement(s, all, scope, stmt));
    let out = out.collect();
    scope.mutable.clear();
    out
}

/// What the body returns, as values of their own.
pub fn returned(s: &Struct, scope: &Scope) -> Vec<TokenStream> {
    let outputs = &s.body().outputs;
    let value = |(i, expr): (usize, &Expr)| {
        let value = scope.value(expr);
        // A tensor that is returned twice is moved only the last time.
        match expr {
            Expr::Var(v) if !scope.vars[v.0].1 && !outputs[i + 1..].contains(expr) => value,
            _ => quote!(#value.clone()),
        }
    };
    outputs.iter().enumerate().map(value).collect()
}

fn statement(s: &Struct, all: &[Struct], scope: &Scope, stmt: &Stmt) -> TokenStream {
    match stmt {
        Stmt::Let(var, expr) => {
            let (name, value) = (scope.define(*var), scope.value(expr));
            let clone = match expr {
                Expr::Field(f) => !scope.fields[f.0].1,
                expr => expr.is_place(),
            };
            if clone {
                quote!(let #name = #value.clone();)
            } else {
                quote!(let #name = #value;)
            }
        }
        Stmt::Do(expr) => {
            let value = scope.value(expr);
            quote!(#value;)
        }
        Stmt::LetTuple(vars, expr) => {
            let vars = vars.iter().map(|v| match v {
                Some(v) => scope.define(*v),
                None => quote!(_),
            });
            let value = scope.value(expr);
            quote!(let (#(#vars),*) = #value;)
        }
        Stmt::Call(field, args, outs) => {
            let outs = pattern(outs.iter().map(|v| scope.define(*v)));
            let tensors = args.tensors.iter().map(|e| scope.reference(e)).collect();
            let call = call(s, all, scope, *field, args, tensors, None);
            let name = ident(&s.fields[field.0]);
            quote!(let #outs = self.#name.#call;)
        }
        Stmt::Loop(l) => repeat(s, all, scope, l),
        Stmt::Record(child, index, expr) => {
            let (index, value) = (Literal::usize_unsuffixed(*index), scope.reference(expr));
            match child {
                None => quote!(p.record(&self.path, #index, #value);),
                Some(FieldPath::Own(path)) => {
                    quote!(p.record_child(&self.path, #path, #index, #value);)
                }
                Some(FieldPath::Root(path)) => {
                    quote!(p.record_child(&Path::root(), #path, #index, #value);)
                }
            }
        }
    }
}

/// One name, or a tuple of them.
pub fn pattern(names: impl Iterator<Item = TokenStream>) -> TokenStream {
    let names: Vec<_> = names.collect();
    match &names[..] {
        [one] => quote!(#one),
        many => quote!((#(#many),*)),
    }
}

/// `forward(…)?` of a child.
pub fn call<T>(
    s: &Struct,
    all: &[Struct],
    scope: &Scope,
    field: FieldId,
    args: &Args<T>,
    tensors: Vec<TokenStream>,
    counter: Option<&Ident>,
) -> TokenStream {
    let child = &all[s.child(field).0];
    let sizes = args.sizes.iter().map(|d| scope.size(d));
    let caches = args.caches.iter().map(|c| cache(s, scope, c, counter));
    let probe = child.probed.then(|| quote!(p));
    let args = tensors.into_iter().chain(sizes).chain(caches).chain(probe);
    quote!(forward(#(#args),*)?)
}

/// What a child is passed for a cache.
fn cache(s: &Struct, scope: &Scope, arg: &CacheArg, counter: Option<&Ident>) -> TokenStream {
    let (cache, first, count, step) = match *arg {
        CacheArg::Same(cache) => {
            let name = ident(&scope.caches[cache]);
            return quote!(#name);
        }
        CacheArg::Part {
            cache,
            first,
            count,
            step,
        } => (cache, first, count, step),
    };
    let name = ident(&scope.caches[cache]);
    let at = |layer: usize| {
        let (n, by) = (
            Literal::usize_unsuffixed(layer),
            Literal::usize_unsuffixed(step),
        );
        match (counter.filter(|_| step > 0), step, layer) {
            (None, ..) => quote!(#n),
            (Some(i), 1, 0) => quote!(#i),
            (Some(i), 1, _) => quote!(#i + #n),
            (Some(i), _, 0) => quote!(#by * #i),
            (Some(i), ..) => quote!(#by * #i + #n),
        }
    };
    let from = at(first);
    match (s.body().caches[cache], count) {
        (CacheUse::Layers, None) => quote!(&mut #name[#from]),
        (_, None) => quote!(#name.layer(#from)),
        (part, Some(count)) => {
            let to = at(first + count);
            match part {
                CacheUse::Layers => quote!(&mut #name[#from..#to]),
                _ => quote!(#name.layers(#from..#to)),
            }
        }
    }
}

/// A cache as an argument of a struct that is not the root.
pub fn cache_arg(part: CacheUse, name: &str) -> TokenStream {
    let name = ident(name);
    match part {
        CacheUse::Whole => quote!(#name: &mut KvCache),
        CacheUse::Layers => quote!(#name: &mut [LayerCache]),
        CacheUse::Layer => quote!(#name: &mut LayerCache),
    }
}

/// Whether any statement of the body, or of a child, shows something to the probe.
pub fn is_probed(body: &Body, child_is_probed: impl Fn(FieldId) -> bool) -> bool {
    body.stmts.iter().any(|stmt| {
        let mut found = false;
        let mut expr = |e: &Expr| e.visit(&mut |e| found |= matches!(e, Expr::Forward(..)));
        match stmt {
            Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => expr(e),
            Stmt::Call(field, args, _) => {
                args.tensors.iter().for_each(&mut expr);
                found |= child_is_probed(*field);
            }
            Stmt::Loop(l) => {
                l.inits().for_each(&mut expr);
                found |= child_is_probed(l.field);
            }
            Stmt::Record(..) => found = true,
        }
        found
    })
}
