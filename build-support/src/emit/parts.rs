//! Parts: a function that would be too long becomes several.
//!
//! The compiler takes much longer for one long function than for its parts. A cut goes where the
//! fewest values cross it, so that it falls between modules or steps rather than within one.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::TokenStream;
use quote::quote;

use super::expr::Scope;
use super::forward::{Code, Outcome, allow, block, cache_arg, operations, pattern, returned};
use super::root::model_cache;
use super::{Struct, idents};
use crate::body::Stmt;
use crate::ir::{Expr, Var};
use crate::names::ident;

/// How many operations one function may hold.
const LONGEST: usize = 100;

/// How many calls of parts a function holds at least, whatever else it does.
const FEWEST: usize = 10;

/// The statements as calls of parts, and the parts; `None` when they fit into one function, which
/// does `before` operations besides.
pub fn split(s: &Struct, all: &[Struct], scope: &mut Scope, before: usize) -> Option<Code> {
    let most = LONGEST.saturating_sub(before).max(FEWEST);
    let stmts = &s.body().stmts;
    let costs = stmts.iter().map(|stmt| {
        let tokens = block(s, all, scope, std::slice::from_ref(stmt));
        operations(&tokens)
    });
    let costs: Vec<usize> = costs.collect();
    if costs.iter().sum::<usize>() <= most {
        return None;
    }
    let live = Live::new(s);
    let ranges = live.ranges(&costs, stmts);
    let mut parts = Parts {
        s,
        all,
        live,
        functions: TokenStream::new(),
    };
    Some(Code {
        statements: parts.calls(scope, "part", &ranges, most),
        outcome: Outcome::Values(returned(s, scope)),
        parts: parts.functions,
    })
}

/// Where the variables of a body are needed.
struct Live {
    /// The statement that defines each variable; `None` for inputs.
    defined: Vec<Option<usize>>,
    /// The last statement that reads each variable; the number of statements when it is returned.
    last: Vec<Option<usize>>,
    /// How many variables are needed on both sides of the place before each statement.
    across: Vec<usize>,
}

impl Live {
    fn new(s: &Struct) -> Self {
        let body = s.body();
        let (mut defined, mut last) = (vec![None; body.vars], vec![None; body.vars]);
        for (i, stmt) in body.stmts.iter().enumerate() {
            stmt.defines(&mut |v| defined[v.0] = Some(i));
            stmt.reads(&mut |v| last[v.0] = Some(i));
        }
        for var in body.outputs.iter().filter_map(Expr::var) {
            last[var.0] = Some(body.stmts.len());
        }
        let mut begins = vec![0_usize; body.stmts.len() + 1];
        let mut ends = begins.clone();
        for (from, to) in defined.iter().zip(&last) {
            if let Some(to) = to {
                begins[from.map_or(0, |i| i + 1)] += 1;
                ends[*to] += 1;
            }
        }
        let (mut across, mut now) = (Vec::with_capacity(begins.len()), 0);
        for (begin, end) in begins.iter().zip(&ends) {
            now += begin;
            across.push(now);
            now -= end;
        }
        Self {
            defined,
            last,
            across,
        }
    }

    /// Statements by part: each holds at most [`LONGEST`] operations, and is cut in its second half.
    fn ranges(&self, costs: &[usize], stmts: &[Stmt]) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        while start < costs.len() {
            let (mut stop, mut half, mut sum) = (start, start + 1, 0);
            while stop < costs.len() && (stop == start || sum + costs[stop] <= LONGEST) {
                sum += costs[stop];
                stop += 1;
                if sum <= LONGEST / 2 {
                    half = stop;
                }
            }
            if stop < costs.len() {
                // A module's output is shown to the probe where it is made.
                let shown = |i: usize| matches!(stmts[i], Stmt::Record(..));
                let price = |i: &usize| (shown(*i), self.across[*i]);
                stop = (half..=stop).rev().min_by_key(price).unwrap_or(stop);
            }
            ranges.push(start..stop);
            start = stop;
        }
        ranges
    }
}

/// The parts of one function.
struct Parts<'a> {
    s: &'a Struct,
    all: &'a [Struct],
    live: Live,
    functions: TokenStream,
}

impl Parts<'_> {
    /// Calls of the parts with these statements, `most` or fewer: where there are more parts, some
    /// call others.
    fn calls(
        &mut self,
        scope: &mut Scope,
        name: &str,
        ranges: &[Range<usize>],
        most: usize,
    ) -> TokenStream {
        let each = match ranges.len() <= most {
            true => 1,
            false => LONGEST.max(ranges.len().div_ceil(most)),
        };
        let mut out = TokenStream::new();
        for (i, group) in ranges.chunks(each).enumerate() {
            out.extend(self.part(scope, &format!("{name}_{}", i + 1), group));
        }
        out
    }

    /// One part: its call, and the function.
    fn part(&mut self, scope: &mut Scope, name: &str, ranges: &[Range<usize>]) -> TokenStream {
        let range = ranges[0].start..ranges[ranges.len() - 1].end;
        let (mut read, outs) = self.crossing(&range);
        let device = scope.device;
        if self.s.body().stmts[range].iter().any(Stmt::needs_device) {
            // Every tensor is on the model's device: one that the part has anyway serves.
            let tensor = read.iter().find(|v| !scope.lists.contains(v)).copied();
            scope.device = tensor.or(device);
            if tensor.is_none() {
                read.extend(device);
            }
        }
        let passed = read.iter().map(|v| scope.reference(&Expr::Var(*v)));
        let passed: Vec<_> = passed.collect();
        let outside: Vec<bool> = read.iter().map(|v| scope.vars[v.0].1).collect();
        for var in &read {
            scope.vars[var.0].1 = true;
        }
        let statements = match ranges {
            [range] => {
                let stmts = &self.s.body().stmts[range.clone()];
                block(self.s, self.all, scope, stmts)
            }
            many => self.calls(scope, name, many, LONGEST),
        };
        scope.device = device;
        for (var, reference) in read.iter().zip(outside) {
            scope.vars[var.0].1 = reference;
        }
        let (call, function) = self.function(scope, name, &statements, &read, &passed, &outs);
        self.functions.extend(function);
        call
    }

    /// What a range of statements reads of what is before it, and makes for what is after it.
    fn crossing(&self, range: &Range<usize>) -> (Vec<Var>, Vec<Var>) {
        let (mut read, mut outs) = (BTreeSet::new(), BTreeSet::new());
        for stmt in &self.s.body().stmts[range.clone()] {
            stmt.reads(&mut |v| {
                if self.live.defined[v.0].is_none_or(|i| i < range.start) {
                    read.insert(v);
                }
            });
            stmt.defines(&mut |v| {
                if self.live.last[v.0].is_some_and(|i| i >= range.end) {
                    outs.insert(v);
                }
            });
        }
        (read.into_iter().collect(), outs.into_iter().collect())
    }

    fn function(
        &self,
        scope: &Scope,
        name: &str,
        statements: &TokenStream,
        read: &[Var],
        passed: &[TokenStream],
        outs: &[Var],
    ) -> (TokenStream, TokenStream) {
        let mut used = BTreeSet::new();
        idents(statements.clone(), &mut used);
        let var = |v: &Var| ident(&scope.vars[v.0].0);
        let tensors = read.iter().map(|v| {
            let name = var(v);
            match scope.lists.contains(v) {
                true => quote!(#name: &[Tensor]),
                false => quote!(#name: &Tensor),
            }
        });
        let sizes = scope.sizes.iter().filter(|n| used.contains(*n));
        let sizes: Vec<_> = sizes.map(|n| ident(n)).collect();
        let caches = self.s.body().caches.iter().zip(&scope.caches);
        let caches = caches.filter(|(_, name)| used.contains(*name));
        let caches = caches.map(|(part, name)| {
            let arg = match self.s.is_root {
                true => model_cache(self.s, name),
                false => cache_arg(*part, name),
            };
            (arg, ident(name))
        });
        let (cache_args, caches): (Vec<_>, Vec<_>) = caches.unzip();
        let probe = used.contains("p").then(|| quote!(p));
        let probe_arg = probe.as_ref().map(|p| quote!(#p: &mut impl Probe));
        let args = tensors.chain(sizes.iter().map(|n| quote!(#n: usize)));
        let args: Vec<_> = args.chain(cache_args).chain(probe_arg).collect();
        let allow = allow(args.len(), outs.len());
        let types = outs.iter().map(|v| match scope.lists.contains(v) {
            true => quote!(Vec<Tensor>),
            false => quote!(Tensor),
        });
        let name = ident(name);
        let outs = outs.iter().map(var).map(|name| quote!(#name));
        let (types, value) = (pattern(types), pattern(outs));
        let call = quote! {
            let #value = self.#name(#(#passed,)* #(#sizes,)* #(#caches,)* #probe)?;
        };
        let function = quote! {
            #allow
            fn #name(&self, #(#args),*) -> Result<#types> {
                #statements
                Ok(#value)
            }
        };
        (call, function)
    }
}
