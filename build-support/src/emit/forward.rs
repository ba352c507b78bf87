//! Forward functions: the statements of a body as tokens.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::expr::Scope;
use super::{Struct, idents};
use crate::body::{Args, Body, CacheArg, CacheUse, FieldPath, LoopArg, Stmt, SymBind};
use crate::ir::{Expr, FieldId, Var};
use crate::names::ident;

/// How many operations one function may hold.
const LONGEST: usize = 100;

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

/// Statements by function: the compiler takes much longer for one long function than for its parts.
fn ranges(body: &Body) -> Vec<Range<usize>> {
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
fn part(s: &Struct, all: &[Struct], n: usize, range: Range<usize>) -> (TokenStream, TokenStream) {
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

fn result(s: &Struct, scope: &Scope) -> TokenStream {
    let value = |v: &Var| {
        let (name, reference) = &scope.vars[v.0];
        let name = ident(name);
        if *reference {
            quote!(#name.clone())
        } else {
            quote!(#name)
        }
    };
    let outputs: Vec<_> = s.body().outputs.iter().map(value).collect();
    match &outputs[..] {
        [one] => quote!(Ok(#one)),
        many => quote!(Ok((#(#many),*))),
    }
}

fn statement(s: &Struct, all: &[Struct], scope: &Scope, stmt: &Stmt) -> TokenStream {
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
        scope.vars.iter().any(|(n, _)| n == name) || scope.sizes.iter().any(|n| n == name)
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
