//! What the model returns: one tensor, or a struct of several.

use proc_macro2::TokenStream;
use quote::quote;

use super::forward::Outcome;
use crate::manifest::Manifest;
use crate::names::{self, ident};

/// The model's outputs that are no caches.
pub struct Output<'m> {
    /// The type of several.
    ty: &'m str,
    /// Field name and manifest name of each.
    names: Vec<(String, &'m str)>,
}

impl<'m> Output<'m> {
    /// The outputs of a model; several make a struct of this name.
    pub fn new(m: &'m Manifest, ty: &'m str) -> Self {
        let mut unique = names::Unique::default();
        let outputs = m.outputs.iter().enumerate();
        let outputs = outputs.filter(|(i, _)| !m.states.iter().any(|s| s.output == *i));
        let names = outputs.map(|(_, o)| (unique.take(&names::snake(&o.name)), o.name.as_str()));
        Self {
            ty,
            names: names.collect(),
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
        let fields = self.names.iter().map(|(name, path)| {
            let (name, doc) = (ident(name), format!(" `{path}`"));
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
