//! The model itself: its public functions, its output and its caches.

use std::collections::BTreeSet;

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::expected::expected;
use super::expr::{Scope, dtype, int};
use super::forward::{Code, allow, statements};
use super::output::Output;
use super::{Root, Struct, conditions, idents, load};
use crate::graph::Graph;
use crate::hints;
use crate::lower::storage;
use crate::manifest::{Dim, Dtype, Input, Manifest, State, SymbolId};
use crate::names::ident;

/// The model's struct and its output's.
pub fn root(
    graph: &Graph,
    s: &Struct,
    all: &[Struct],
    output: &Output,
    model: &Root,
) -> TokenStream {
    let name = ident(&s.name);
    let doc = format!(" {}, traced from PyTorch.", graph.m.class);
    let fields = load::fields(s, all);
    let loading = loading(graph, s, all, model);
    let caches = caches(graph.m, s);
    let cache_functions = caches.iter().map(|c| &c.function);
    let running = running(graph, s, all, output, &caches);
    let output = output.item(&s.name);
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone)]
        pub struct #name { #fields }

        impl #name {
            #loading
            #(#cache_functions)*
            #running
        }

        #output
    }
}

/// How a model is made of a checkpoint.
fn loading(graph: &Graph, s: &Struct, all: &[Struct], model: &Root) -> TokenStream {
    let values = load::values(graph, s, all);
    let traced = dtype(graph.m.dtype);
    let expected = expected(graph, model.expects);
    let w = ident(if values.is_empty() { "_w" } else { "w" });
    quote! {
        #expected

        /// Binds the model to a checkpoint, from headers only; fails with all that does not fit.
        pub fn load(weights: &Weights, device: &Device) -> Result<Self> {
            Self::load_as(weights, #traced, device)
        }

        /// [`Self::load`] in another dtype. Fails also when the trace does not hold for it.
        pub fn load_as(weights: &Weights, dtype: DType, device: &Device) -> Result<Self> {
            bind::load(weights, dtype, device, &Self::EXPECTED, Self::from_scope)
        }

        /// The tensors that a checkpoint has to hold.
        pub fn required_keys() -> Result<Vec<RequiredKey>> {
            bind::required_keys(&Self::EXPECTED, Self::from_scope)
        }

        fn from_scope(#w: &Scope) -> Result<Self> {
            Ok(Self { #values })
        }

        /// The dtype that the model was loaded in.
        pub fn dtype(&self) -> DType {
            self.dtype
        }
    }
}

/// What Python was called with besides tensors, which the trace keeps.
fn fixed(m: &Manifest) -> Option<TokenStream> {
    let fixed = m.fixed_inputs.iter();
    let fixed = fixed.filter(|(_, value)| value.len() <= FIXED);
    let fixed: Vec<_> = fixed
        .map(|(name, value)| format!("`{name} = {value}`"))
        .collect();
    let doc = format!(" As traced with {}.", fixed.join(", "));
    (!fixed.is_empty()).then(|| quote!(#[doc = #doc]))
}

/// The longest value of an argument that is shown.
const FIXED: usize = 40;

/// How it is run.
fn running(
    graph: &Graph,
    s: &Struct,
    all: &[Struct],
    output: &Output,
    caches: &[Cache],
) -> TokenStream {
    let ty = output.ty();
    let args = args(graph.m, s, caches);
    let names = arg_names(graph.m, s);
    let allow = allow(args.len() + 1, 0);
    let fixed = fixed(graph.m);
    let unused_probe = (!s.probed).then(|| quote!(let _ = p;));
    let code = body(graph, s, all);
    let (body, parts) = (code.statements, code.parts);
    let outcome = output.returned(&code.outcome);
    quote! {
        /// Runs the model. Fails when an input does not have the shape or dtype of the trace.
        #fixed
        #allow
        pub fn forward(&self, #(#args),*) -> Result<#ty> {
            self.forward_probed(#(#names,)* &mut NoProbe)
        }

        /// [`Self::forward`] that shows every module's outputs to `p`.
        #allow
        pub fn forward_probed(&self, #(#args,)* p: &mut impl Probe) -> Result<#ty> {
            #unused_probe
            #body
            #outcome
        }

        #parts
    }
}

/// The inputs that are not caches.
fn inputs(m: &Manifest) -> impl Iterator<Item = &Input> {
    let is_state = |i: usize| m.states.iter().any(|s| s.input == i);
    m.inputs
        .iter()
        .enumerate()
        .filter(move |(i, _)| !is_state(*i))
        .map(|(_, input)| input)
}

struct Cache<'a> {
    states: Vec<&'a State>,
    argument: String,
    function: TokenStream,
}

fn caches<'a>(m: &'a Manifest, s: &Struct) -> Vec<Cache<'a>> {
    let caches = s.def.calls[0].1.caches.iter().zip(&s.names.caches);
    let cache = |((name, _), argument): (&(String, _), &String)| {
        let states = m.states.iter().filter(|st| st.name == *name);
        let mut states: Vec<&State> = states.collect();
        states.sort_by_key(|st| st.layer);
        let (function, new) = (ident(argument), new_cache(&states));
        let ty = cache_type(s, argument);
        Cache {
            argument: argument.clone(),
            function: quote! {
                /// A new, empty cache.
                pub fn #function(&self) -> #ty {
                    ModelCache::new(#new)
                }
            },
            states,
        }
    };
    caches.map(cache).collect()
}

fn new_cache(states: &[&State]) -> TokenStream {
    let layers = states.iter().map(|s| s.layer + 1).max().unwrap_or(0);
    let slots = |layer: usize| {
        let slots = states.iter().filter(move |s| s.layer == layer);
        let slots = slots.map(|s| {
            let (slot, dim) = (&s.slot, Literal::usize_unsuffixed(s.dim));
            quote!((#slot, #dim))
        });
        quote!(&[#(#slots),*])
    };
    let key = |layer: usize| {
        let slots = states.iter().filter(move |s| s.layer == layer);
        slots.map(|s| (s.slot.as_str(), s.dim)).collect::<Vec<_>>()
    };
    let first = slots(0);
    if (1..layers).all(|l| key(l) == key(0)) {
        let layers = Literal::usize_unsuffixed(layers);
        return quote!(KvCache::new(#first, #layers));
    }
    let each = (0..layers).map(|l| {
        let slots = slots(l);
        quote!(LayerCache::new(#slots))
    });
    quote!(KvCache::from_layers(vec![#(#each),*]))
}

fn args(m: &Manifest, s: &Struct, caches: &[Cache]) -> Vec<TokenStream> {
    let tensors = inputs(m).enumerate().map(|(i, _)| {
        let name = ident(&s.names.vars[i]);
        quote!(#name: &Tensor)
    });
    let caches = caches.iter().map(|c| model_cache(s, &c.argument));
    tensors.chain(caches).collect()
}

/// A cache of the model as an argument.
pub fn model_cache(s: &Struct, name: &str) -> TokenStream {
    let (ty, name) = (cache_type(s, name), ident(name));
    quote!(#name: &mut #ty)
}

/// The type of a cache of the model: where it has several, each has its own.
fn cache_type(s: &Struct, name: &str) -> TokenStream {
    match s.names.caches.iter().position(|n| n == name) {
        Some(i) if s.names.caches.len() > 1 => {
            let i = Literal::usize_unsuffixed(i);
            quote!(ModelCache<Self, #i>)
        }
        _ => quote!(ModelCache<Self>),
    }
}

fn arg_names(m: &Manifest, s: &Struct) -> Vec<proc_macro2::Ident> {
    let tensors = inputs(m).enumerate().map(|(i, _)| ident(&s.names.vars[i]));
    tensors
        .chain(s.names.caches.iter().map(|c| ident(c)))
        .collect()
}

/// Checks of the inputs, then what the model does.
fn body(graph: &Graph, s: &Struct, all: &[Struct]) -> Code {
    let m = graph.m;
    let sizes = m.symbols.iter().map(|sym| hints::size(graph, &sym.name));
    let scope = Scope {
        sizes: sizes.collect(),
        ..Scope::default()
    };
    // A check or two per input, one per size, and where a size comes from.
    let before = 3 * inputs(m).count() + 2 * m.symbols.len();
    let code = statements(s, all, before);
    let statements = code.statements;
    let outcome = code.outcome.tokens();
    let checks = checks(m, s, &scope, quote!(#statements #outcome));
    let (ranges, conditions) = (ranges(m, &scope), conditions::conditions(m, &scope));
    let mut used = BTreeSet::new();
    idents(quote!(#ranges #conditions #checks #statements), &mut used);
    let bind = bind_sizes(m, s, &scope.sizes, &used);
    Code {
        statements: quote!(#bind #ranges #conditions #checks #statements),
        ..code
    }
}

/// A check of each input, under whose name the code that reads it finds the tensor.
fn checks(m: &Manifest, s: &Struct, scope: &Scope, code: TokenStream) -> TokenStream {
    let mut read = BTreeSet::new();
    idents(code, &mut read);
    let checks = inputs(m).enumerate().map(|(i, input)| {
        let value = &m.values[input.value.0];
        let (name, text) = (ident(&s.names.vars[i]), &input.name);
        let shape = value.shape.iter().map(|d| scope.size(d));
        let ty = if value.dtype == m.dtype {
            quote!(self.dtype)
        } else {
            dtype(value.dtype)
        };
        let check = match value.dtype {
            Dtype::Bool => quote!(bind::mask(#text, #name, &[#(#shape),*])?),
            d if storage(d) == Dtype::Int64 => quote!(bind::int(#text, #name, &[#(#shape),*])?),
            _ => quote!(bind::input(#text, #name, &[#(#shape),*], #ty)?),
        };
        if read.contains(&s.names.vars[i]) {
            quote!(let #name = &#check;)
        } else {
            quote!(#check;)
        }
    });
    checks.collect()
}

/// A check of each size that has a range.
fn ranges(m: &Manifest, scope: &Scope) -> TokenStream {
    let symbols = m.symbols.iter().zip(&scope.sizes);
    let ranged = symbols.filter(|(sym, _)| sym.min > 0 || sym.max.is_some());
    let ranges = ranged.map(|(sym, size)| {
        let (size, text) = (ident(size), &sym.name);
        let min = int(i64::try_from(sym.min).unwrap_or(i64::MAX));
        let max = match sym.max {
            Some(max) => {
                let max = Literal::usize_unsuffixed(max);
                quote!(Some(#max))
            }
            None => quote!(None),
        };
        quote!(bind::size(#text, #size, #min, #max)?;)
    });
    ranges.collect()
}

/// `let [batch, sequence] = bind::dims("input_ids", input_ids)?;`
fn bind_sizes(m: &Manifest, s: &Struct, sizes: &[String], used: &BTreeSet<String>) -> TokenStream {
    let mut out = TokenStream::new();
    let mut bound = BTreeSet::new();
    for (i, input) in inputs(m).enumerate() {
        let shape = &m.values[input.value.0].shape;
        let mut any = false;
        let pattern: Vec<_> = shape
            .iter()
            .map(|dim| match dim {
                Dim::Sym(SymbolId(n)) if used.contains(&sizes[*n]) && bound.insert(*n) => {
                    any = true;
                    ident(&sizes[*n])
                }
                _ => ident("_"),
            })
            .collect();
        if any {
            let (name, text) = (ident(&s.names.vars[i]), &input.name);
            out.extend(quote!(let [#(#pattern),*] = bind::dims(#text, #name)?;));
        }
    }
    for state in &m.states {
        let value = &m.values[m.inputs[state.input].value.0];
        if let Dim::Sym(SymbolId(n)) = value.shape[state.dim]
            && used.contains(&sizes[n])
            && bound.insert(n)
        {
            let cache = s.def.calls[0]
                .1
                .caches
                .iter()
                .position(|(name, _)| *name == state.name);
            let cache = ident(&s.names.caches[cache.unwrap_or_default()]);
            let size = ident(&sizes[n]);
            out.extend(quote!(let #size = bind::past(#cache)?;));
        }
    }
    out
}

/// The implementation of `Traced`, for parity.
pub fn traced(graph: &Graph, s: &Struct, output: &Output, model: &Root) -> TokenStream {
    let m = graph.m;
    let name = ident(&s.name);
    let caches = caches(m, s);
    let inputs_const: Vec<_> = inputs(m)
        .map(|i| i.name.clone())
        .chain(
            caches
                .iter()
                .flat_map(|c| templates(c, |st| &m.inputs[st.input].name)),
        )
        .map(|name| name.replace("{layer}", "*").replace("{slot}", "*"))
        .collect();
    let (fused, hash) = (model.fused, model.hash);
    let tensors = inputs(m).map(|i| {
        let name = &i.name;
        quote!(bind::named(inputs, #name)?)
    });
    let cache_vars: Vec<_> = s.names.caches.iter().map(|c| ident(c)).collect();
    let make = cache_vars.iter().zip(&caches).map(|(var, cache)| {
        let all = templates(cache, |st| &m.inputs[st.input].name);
        quote! {
            let mut #var = self.#var();
            bind::fill_cache(&mut #var, inputs, &[#(#all),*])?;
        }
    });
    let collect = cache_vars.iter().zip(&caches).map(|(var, cache)| {
        let all = templates(cache, |st| &m.outputs[st.output].name);
        quote!(bind::cache_outputs(&#var, &[#(#all),*], &mut outputs);)
    });
    let pairs = output.pairs();
    let run = quote!(self.forward_probed(#(#tensors,)* #(&mut #cache_vars,)* probe)?);
    let run = output.bound(&run);
    let mutable = (!caches.is_empty()).then(|| quote!(mut));
    quote! {
        impl Traced for #name {
            const INPUTS: Names = &[#(#inputs_const),*];
            const FUSED: Names = &[#(#fused),*];
            const MANIFEST: &str = #hash;

            fn load(weights: &Weights, device: &Device) -> Result<Self> {
                Self::load(weights, device)
            }

            fn forward_named(&self, inputs: &Named, probe: &mut impl Probe) -> Result<Named> {
                #(#make)*
                #run
                let #mutable outputs = Named::from([#(#pairs),*]);
                #(#collect)*
                Ok(outputs)
            }
        }
    }
}

/// Names of a cache's tensors with `{layer}` and `{slot}` in place, when they are regular; else all.
fn templates<'a>(cache: &Cache, name: impl Fn(&State) -> &'a String) -> Vec<String> {
    let first = cache.states[0];
    let made = |template: &str, st: &State| {
        let layered = template.replace("{layer}", &st.layer.to_string());
        layered.replace("{slot}", &st.slot)
    };
    let template = replace_last(name(first), &first.slot, "{slot}")
        .and_then(|t| replace_last(&t, &first.layer.to_string(), "{layer}"));
    match template {
        Some(t) if cache.states.iter().all(|st| made(&t, st) == *name(st)) => vec![t],
        _ => cache.states.iter().map(|st| name(st).clone()).collect(),
    }
}

fn replace_last(text: &str, old: &str, new: &str) -> Option<String> {
    let (before, after) = text.rsplit_once(old)?;
    Some(format!("{before}{new}{after}"))
}
