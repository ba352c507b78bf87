//! What the model returns: one tensor, or a struct of several.

use proc_macro2::TokenStream;
use quote::quote;

use super::conditions::text;
use super::expr::candle_name;
use super::forward::Outcome;
use crate::graph::Graph;
use crate::manifest::Output as Traced;
use crate::names::{self, ident};

/// The model's outputs that are no caches.
pub struct Output<'m> {
    /// The type of several.
    ty: &'m str,
    /// Field name and manifest name of each.
    names: Vec<(String, &'m str)>,
    /// What each is, for its documentation.
    docs: Vec<String>,
}

impl<'m> Output<'m> {
    /// The outputs of a model; several make a struct of this name.
    pub fn new(graph: &Graph<'m>, ty: &'m str) -> Self {
        let m = graph.m;
        let mut unique = names::Unique::default();
        let outputs = m.outputs.iter().enumerate();
        let outputs = outputs.filter(|(i, _)| !m.states.iter().any(|s| s.output == *i));
        let outputs: Vec<_> = outputs.map(|(_, output)| output).collect();
        let names = outputs
            .iter()
            .map(|o| (unique.take(&names::snake(&o.name)), o.name.as_str()));
        Self {
            ty,
            names: names.collect(),
            docs: outputs.iter().map(|output| doc(graph, output)).collect(),
        }
    }

    /// The type that `forward` returns.
    pub fn ty(&self) -> TokenStream {
        match self.names.len() {
            0 => quote!(()),
            1 => quote!(Tensor),
            _ => {
                let ty = ident(self.ty);
                quote!(#ty)
            }
        }
    }

    /// The struct, for the model of this name.
    pub fn item(&self, model: &str) -> Option<TokenStream> {
        let ty = ident(self.ty);
        let fields = self.names.iter().zip(&self.docs).map(|((name, _), doc)| {
            let name = ident(name);
            quote!(#[doc = #doc] pub #name: Tensor,)
        });
        let doc = format!(" What [`{model}`] returns.");
        (self.names.len() > 1).then(|| {
            quote! {
                #[doc = #doc]
                #[derive(Debug, Clone)]
                pub struct #ty { #(#fields)* }
            }
        })
    }

    /// The end of `forward`, from what its body returns.
    pub fn returned(&self, outcome: &Outcome) -> TokenStream {
        let values = match outcome {
            Outcome::Values(values) if self.names.len() > 1 => values,
            other => return other.tokens(),
        };
        let ty = ident(self.ty);
        let fields = self.names.iter().zip(values).map(|((name, _), value)| {
            let name = ident(name);
            if name == value.to_string() {
                quote!(#name)
            } else {
                quote!(#name: #value)
            }
        });
        quote!(Ok(#ty { #(#fields),* }))
    }

    /// `let output = forward;`, unless that returns nothing.
    pub fn bound(&self, forward: &TokenStream) -> TokenStream {
        match self.names.is_empty() {
            true => quote!(#forward;),
            false => quote!(let output = #forward;),
        }
    }

    /// `(name, tensor)` of each, from `output`.
    pub fn pairs(&self) -> impl Iterator<Item = TokenStream> {
        self.names.iter().map(|(field, text)| {
            let field = ident(field);
            match self.names.len() {
                1 => quote!((#text.to_owned(), output)),
                _ => quote!((#text.to_owned(), output.#field)),
            }
        })
    }
}

/// Where the output is in what Python returns, its shape, and its dtype where that is not the model's.
fn doc(graph: &Graph, output: &Traced) -> String {
    let shape = graph.shape(output.value).into_iter();
    let shape = shape.map(|dim| text(graph.m, &dim.plain(), false));
    let shape = shape.collect::<Vec<_>>().join(", ");
    let dtype = match graph.dtype(output.value) {
        traced if traced == graph.m.dtype => String::new(),
        other => format!(" of {}", candle_name(other)),
    };
    format!(" `{}`: `[{shape}]`{dtype}", output.path)
}
