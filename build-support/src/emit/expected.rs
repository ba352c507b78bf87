//! What generated code holds a checkpoint against, beside the parameters that it asks for.

use proc_macro2::TokenStream;
use quote::quote;

use super::expr::dtype;
use crate::generate::Expects;
use crate::manifest::Manifest;

/// The constant `EXPECTED`; only what is not the default is said.
pub fn expected(m: &Manifest, expects: &Expects) -> TokenStream {
    let (trace, traced) = (&m.file, dtype(m.dtype));
    let tied = list(
        "tied",
        m.params.iter().filter_map(|p| {
            let twin = &m.params[p.tied_to?.0];
            Some((&*p.name, &*twin.name))
        }),
    );
    let renames = list(
        "renames",
        expects.renames.iter().map(|(need, key)| (&**need, &**key)),
    );
    let config = expects.config.as_ref().map(|facts| {
        let facts = raw(facts);
        quote!(config: Some(#facts),)
    });
    let strict = expects.strict.then(|| quote!(strict: true,));
    let all = [&tied, &renames, &config, &strict]
        .iter()
        .all(|field| field.is_some());
    let rest = (!all).then(|| quote!(..bind::Expected::DEFAULT));
    quote! {
        const EXPECTED: bind::Expected = bind::Expected {
            trace: #trace,
            dtype: #traced,
            #tied
            #renames
            #config
            #strict
            #rest
        };
    }
}

fn list<'a>(name: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<TokenStream> {
    let name = crate::names::ident(name);
    let pairs: Vec<_> = pairs.map(|(a, b)| quote!((#a, #b))).collect();
    (!pairs.is_empty()).then(|| quote!(#name: &[#(#pairs),*],))
}

/// The text without escapes, as far as it can do without.
fn raw(text: &str) -> TokenStream {
    match format!("r#\"{text}\"#").parse() {
        Ok(literal) if !text.contains("\"#") => literal,
        _ => quote!(#text),
    }
}
