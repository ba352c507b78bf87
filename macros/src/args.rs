//! What stands in the attribute's parentheses.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitBool, LitStr, Token};

/// The arguments, as documented at the attribute.
pub(crate) struct Args {
    pub manifest: LitStr,
    pub weights: Option<LitStr>,
    pub fuse: bool,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let (mut manifest, mut weights, mut fuse) = (None, None, None);
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let twice = match &*key.to_string() {
                "manifest" => manifest.replace(input.parse()?).is_some(),
                "weights" => weights.replace(input.parse()?).is_some(),
                "fuse" => fuse.replace(input.parse::<LitBool>()?.value).is_some(),
                _ => {
                    let message =
                        format!("no argument `{key}`: expected `manifest`, `weights` or `fuse`");
                    return Err(Error::new(key.span(), message));
                }
            };
            if twice {
                return Err(Error::new(key.span(), format!("`{key}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let missing = "name the manifest: `manifest = \"pycandle_trace/my_model_manifest.json\"`";
        let manifest = manifest.ok_or_else(|| Error::new(Span::call_site(), missing))?;
        Ok(Self {
            manifest,
            weights,
            fuse: fuse.unwrap_or(true),
        })
    }
}
