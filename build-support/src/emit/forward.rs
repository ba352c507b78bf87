//! Forward functions: the statements of a body as tokens.

use std::ops::Range;

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::Struct;
use super::expr::Scope;
use super::parts::{part, ranges};
use crate::body::{Args, Body, CacheArg, CacheUse, FieldPath, LoopArg, Stmt, SymBind};
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
        .map(|((_, part), name)| {
            let name = ident(name);
            match part {
                CacheUse::Whole => quote!(#name: &mut KvCache),
                CacheUse::Layer => quote!(#name: &mut LayerCache),
            }
        });
    let probe = s.probed.then(|| quote!(p: &mut impl Probe));
    let args: Vec<_> = tensors.chain(sizes).chain(caches).chain(probe).collect();
    let allow = (args.len() > 6).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    let result = result_type(body.outputs.len());
    let bind = bindings(s);
    let Code { statements, parts } = statements(s, all);
    quote! {
        #allow
        fn forward(&self, #(#args),*) -> Result<#result> {
            #bind
            #statements
        }

        #parts
    }
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

/// A function's statements, and the functions that hold the parts of one that would be too long.
pub struct Code {
    /// The statements and the result.
    pub statements: TokenStream,
    /// Further functions of the struct.
    pub parts: TokenStream,
}

/// The statements and the result of a struct's forward.
pub fn statements(s: &Struct, all: &[Struct]) -> Code {
    let scope = s.scope();
    let mut code = Code {
        statements: TokenStream::new(),
        parts: TokenStream::new(),
    };
    let ranges = ranges(s.body());
    if let [range] = &ranges[..] {
        code.statements = whole(s, all, &scope, range.clone());
        return code;
    }
    for (i, range) in ranges.into_iter().enumerate() {
        let (call, part) = part(s, all, i + 1, range);
        code.statements.extend(call);
        code.parts.extend(part);
    }
    code.statements.extend(result(s, &scope));
    code
}

/// The statements, ending in the result.
fn whole(s: &Struct, all: &[Struct], scope: &Scope, range: Range<usize>) -> TokenStream {
    let body = s.body();
    let mut out = TokenStream::new();
    for i in range.clone() {
        let stmt = &body.stmts[i];
        if i + 1 == range.end
            && let Stmt::Let(var, expr) = stmt
            && body.outputs == [*var]
            && let Some(tail) = tail(scope, expr)
        {
            out.extend(tail);
            return out;
        }
        out.extend(statement(s, all, scope, stmt));
    }
    out.extend(result(s, scope));
    out
}

/// A last expression that already is the function's result type.
fn tail(scope: &Scope, expr: &Expr) -> Option<TokenStream> {
    match expr {
        Expr::Op(..) | Expr::Forward(..) | Expr::Append { .. } => {
            let mut tokens: Vec<_> = scope.value(expr).into_iter().collect();
            tokens.pop();
            Some(tokens.into_iter().collect())
        }
        _ => None,
    }
}

/// What the body returns, as values of their own.
pub fn returned(s: &Struct, scope: &Scope) -> Vec<TokenStream> {
    let outputs = &s.body().outputs;
    let value = |(i, var): (usize, &Var)| {
        let (name, reference) = &scope.vars[var.0];
        let name = ident(name);
        // A tensor that is returned twice is moved only the last time.
        if *reference || outputs[i + 1..].contains(var) {
            quote!(#name.clone())
        } else {
            quote!(#name)
        }
    };
    outputs.iter().enumerate().map(value).collect()
}

fn result(s: &Struct, scope: &Scope) -> TokenStream {
    let outputs = returned(s, scope);
    match &outputs[..] {
        [one] => quote!(Ok(#one)),
        many => quote!(Ok((#(#many),*))),
    }
}

pub fn statement(s: &Struct, all: &[Struct], scope: &Scope, stmt: &Stmt) -> TokenStream {
    match stmt {
        Stmt::Let(var, expr) => {
            let (name, value) = (ident(&scope.vars[var.0].0), scope.value(expr));
            let clone = matches!(expr, Expr::Var(_))
                || matches!(expr, Expr::Field(f) if !scope.fields[f.0].1);
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
                Some(v) => ident(&scope.vars[v.0].0),
                None => ident("_"),
            });
            let value = scope.value(expr);
            quote!(let (#(#vars),*) = #value;)
        }
        Stmt::Call(field, args, outs) => {
            let outs = pattern(scope, outs);
            let tensors = args.tensors.iter().map(|e| scope.reference(e)).collect();
            let call = call(s, all, scope, *field, args, tensors, None);
            let name = ident(&s.fields[field.0]);
            quote!(let #outs = self.#name.#call;)
        }
        Stmt::Loop(field, args, inits, outs) => repeat(s, all, scope, *field, args, inits, outs),
        Stmt::Record(child, index, var) => {
            let (index, value) = (
                Literal::usize_unsuffixed(*index),
                scope.reference(&Expr::Var(*var)),
            );
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

fn pattern(scope: &Scope, vars: &[Var]) -> TokenStream {
    let names: Vec<_> = vars.iter().map(|v| ident(&scope.vars[v.0].0)).collect();
    match &names[..] {
        [one] => quote!(#one),
        many => quote!((#(#many),*)),
    }
}

/// `forward(…)?` of a child.
fn call<T>(
    s: &Struct,
    all: &[Struct],
    scope: &Scope,
    field: FieldId,
    args: &Args<T>,
    tensors: Vec<TokenStream>,
    counter: Option<&proc_macro2::Ident>,
) -> TokenStream {
    let child = &all[s.child(field).0];
    let sizes = args.sizes.iter().map(|d| scope.size(d));
    let caches = args.caches.iter().map(|c| match (c, counter) {
        (CacheArg::Same(c), _) => {
            let name = ident(&scope.caches[*c]);
            quote!(#name)
        }
        (CacheArg::Layers(c, first), Some(i)) => {
            let name = ident(&scope.caches[*c]);
            match first {
                0 => quote!(#name.layer(#i)),
                n => {
                    let n = Literal::usize_unsuffixed(*n);
                    quote!(#name.layer(#i + #n))
                }
            }
        }
        (CacheArg::Layer(c, layer) | CacheArg::Layers(c, layer), _) => {
            let (name, layer) = (ident(&scope.caches[*c]), Literal::usize_unsuffixed(*layer));
            quote!(#name.layer(#layer))
        }
    });
    let probe = child.probed.then(|| quote!(p));
    let args = tensors.into_iter().chain(sizes).chain(caches).chain(probe);
    quote!(forward(#(#args),*)?)
}

fn repeat(
    s: &Struct,
    all: &[Struct],
    scope: &Scope,
    field: FieldId,
    args: &Args<LoopArg>,
    inits: &[Expr],
    outs: &[Var],
) -> TokenStream {
    let mut out = TokenStream::new();
    for (var, init) in outs.iter().zip(inits) {
        let (name, value) = (ident(&scope.vars[var.0].0), scope.value(init));
        let value = match init {
            Expr::Var(v) if s.reads(*v) == 1 && !scope.vars[v.0].1 => value,
            Expr::Var(_) => quote!(#value.clone()),
            Expr::Field(f) if !scope.fields[f.0].1 => quote!(#value.clone()),
            _ => value,
        };
        out.extend(quote!(let mut #name = #value;));
    }
    let list = ident(&s.fields[field.0]);
    let taken = |name: &str| {
        let names = scope.sizes.iter().chain(&scope.caches);
        scope.vars.iter().any(|(n, _)| n == name) || names.clone().any(|n| n == name)
    };
    let fresh = |name: &str| {
        let mut name = name.to_owned();
        while taken(&name) {
            name.push('_');
        }
        ident(&name)
    };
    let single = s.fields[field.0].trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    let element = match single.strip_suffix('s') {
        Some(one) if one.len() > 2 => fresh(one),
        _ => fresh("layer"),
    };
    let counter = args
        .caches
        .iter()
        .any(|c| matches!(c, CacheArg::Layers(..)))
        .then(|| fresh("i"));

    let mut iter = quote!(self.#list.iter());
    let mut head = quote!(#element);
    let mut tensors = Vec::new();
    for arg in &args.tensors {
        tensors.push(match arg {
            LoopArg::Same(e) => scope.reference(e),
            LoopArg::Carried(o) => scope.reference(&Expr::Var(outs[*o])),
            LoopArg::Each(values) => {
                let values = values.iter().map(|e| scope.reference(e));
                let name = fresh(&format!("each{}", tensors.len()));
                iter.extend(quote!(.zip([#(#values),*])));
                head = quote!((#head, #name));
                quote!(#name)
            }
        });
    }
    if let Some(i) = &counter {
        iter.extend(quote!(.enumerate()));
        head = quote!((#i, #head));
    } else if !args.tensors.iter().any(|a| matches!(a, LoopArg::Each(_))) {
        iter = quote!(&self.#list);
    }
    let call = call(s, all, scope, field, args, tensors, counter.as_ref());
    let assigned = pattern(scope, outs);
    out.extend(quote! {
        for #head in #iter {
            #assigned = #element.#call;
        }
    });
    out
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
            Stmt::Loop(field, _, inits, _) => {
                inits.iter().for_each(&mut expr);
                found |= child_is_probed(*field);
            }
            Stmt::Record(..) => found = true,
        }
        found
    })
}
