//! What generated code holds a checkpoint against, beside the parameters that it asks for.

use proc_macro2::{Literal, TokenStream};
use pycandle_checkpoint::{shorten, shorten_pairs};
use quote::quote;

use super::expr::{dtype, float};
use crate::checkpoint;
use crate::generate::Expects;
use crate::graph::Graph;
use crate::ir::Float;
use crate::manifest::{Arg, Data, Dtype, Manifest, Source};

/// The constant `EXPECTED`; only what is not the default is said.
pub fn expected(graph: &Graph, expects: &Expects) -> TokenStream {
    let m = graph.m;
    let (trace, traced) = (&m.file, dtype(m.dtype));
    let tied = m.params.iter().filter_map(|p| {
        let twin = &m.params[p.tied_to?.0];
        Some((&*p.name, &*twin.name))
    });
    let tied = list("tied", &shorten_pairs(tied));
    let renames = list("renames", &expects.renames);
    let config = expects.config.as_ref().map(|facts| {
        let facts = raw(facts);
        quote!(.config(#facts))
    });
    let unread = unread(graph);
    let dtypes = dtypes(m);
    let largest = largest(graph).map(|number| {
        let number = float(Float::new(number));
        quote!(.largest(#number))
    });
    let strict = expects.strict.then(|| quote!(.strict()));
    quote! {
        const EXPECTED: bind::Expected =
            bind::Expected::new(#trace, #traced) #tied #renames #unread #dtypes #config #largest #strict;
    }
}

/// The parameters that no operation reads, as counters of training.
fn unread(graph: &Graph) -> Option<TokenStream> {
    let m = graph.m;
    let mut read = vec![false; m.params.len()];
    let mut note = |source: Source| {
        if let Source::Param(p) = source {
            read[p.0] = true;
        }
    };
    for node in &graph.nodes {
        node.args.iter().for_each(|(_, arg)| arg.sources(&mut note));
    }
    m.outputs.iter().for_each(|output| note(output.value));
    let unread = m.params.iter().zip(read).filter(|(_, read)| !read);
    let unread = unread.map(|(p, _)| (&*p.name, (&*p.shape, p.dtype)));
    let unread: Vec<_> = shorten(unread)
        .into_iter()
        .map(|(pattern, (shape, ty))| {
            let shape = shape.iter().map(|&n| Literal::usize_unsuffixed(n));
            let ty = dtype(ty);
            quote!((#pattern, &[#(#shape),*], #ty))
        })
        .collect();
    (!unread.is_empty()).then(|| quote!(.unread(&[#(#unread),*])))
}

/// The parameters of whose dtype Candle has only a wider one, in which files may hold what the trace
/// cannot.
fn dtypes(m: &Manifest) -> Option<TokenStream> {
    let narrow = |dtype| {
        use Dtype::*;
        matches!(dtype, Bool | Int8 | Int16 | Int32)
    };
    let params = m.params.iter().filter(|p| narrow(p.dtype));
    let dtypes = shorten(params.map(|p| (&*p.name, p.dtype))).into_iter();
    let dtypes: Vec<_> = dtypes
        .map(|(pattern, dtype)| {
            let dtype = crate::names::ident(&format!("{:?}", checkpoint::dtype(dtype)));
            quote!((#pattern, FileDtype::#dtype))
        })
        .collect();
    (!dtypes.is_empty()).then(|| quote!(.dtypes(&[#(#dtypes),*])))
}

/// The largest finite number that stands in the trace itself for an operation in the model's dtype,
/// as an argument or a constant, where that dtype is BF16 and F16 does not hold it; every wider dtype
/// does. What is computed, or lies in a file of its own, is not looked at.
fn largest(graph: &Graph) -> Option<f64> {
    const F16_MAX: f64 = 65504.0;
    let m = graph.m;
    if m.dtype != Dtype::Bfloat16 {
        return None;
    }
    let in_model_dtype = |source| graph.dtype(source) == m.dtype;
    let mut numbers = Vec::new();
    for node in &graph.nodes {
        if node.out.iter().any(|&v| in_model_dtype(Source::Value(v))) {
            numbers.extend(
                node.args
                    .iter()
                    .filter_map(|(name, arg)| match (&**name, arg) {
                        (_, Arg::Float(x)) => Some(x.abs()),
                        // Other integers are sizes and axes.
                        (
                            "other" | "self" | "value" | "fill_value" | "s" | "min" | "max"
                            | "alpha" | "beta",
                            Arg::Int(x),
                        ) => Some(x.unsigned_abs() as f64),
                        _ => None,
                    }),
            );
        }
        let mut note = |source| {
            if let Source::Const(c) = source
                && in_model_dtype(source)
            {
                let elements = match &m.constants[c.0].data {
                    Data::Full(value) => std::slice::from_ref(value),
                    Data::List(values) => values,
                    Data::Arange { .. } | Data::File(_) => &[],
                };
                numbers.extend(elements.iter().map(|x| x.as_f64().abs()));
            }
        };
        node.args.iter().for_each(|(_, arg)| arg.sources(&mut note));
    }
    let beyond = numbers
        .into_iter()
        .filter(|n| n.is_finite() && *n > F16_MAX);
    beyond.reduce(f64::max)
}

fn list(name: &str, pairs: &[(String, String)]) -> Option<TokenStream> {
    let name = crate::names::ident(name);
    let pairs: Vec<_> = pairs.iter().map(|(a, b)| quote!((#a, #b))).collect();
    (!pairs.is_empty()).then(|| quote!(.#name(&[#(#pairs),*])))
}

/// The text without escapes, as far as it can do without.
fn raw(text: &str) -> TokenStream {
    match format!("r#\"{text}\"#").parse() {
        Ok(literal) if !text.contains("\"#") => literal,
        _ => quote!(#text),
    }
}
