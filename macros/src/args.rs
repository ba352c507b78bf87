//! What stands in the attribute's parentheses.

use proc_macro2::Span;
use pycandle_build::RenameRule;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitBool, LitStr, Token};

/// The arguments, as documented at the attribute.
pub(crate) struct Args {
    pub manifest: LitStr,
    pub weights: Option<LitStr>,
    pub rename: Option<Renames>,
    pub strict: bool,
    pub fuse: bool,
}

/// `[("^model\\.", ""), …]`
pub(crate) struct Renames {
    pub span: Span,
    pub rules: Vec<RenameRule>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let (mut manifest, mut weights, mut fuse) = (None, None, None);
        let (mut rename, mut strict) = (None, None);
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let twice = match &*key.to_string() {
                "manifest" => manifest.replace(input.parse()?).is_some(),
                "weights" => weights.replace(input.parse()?).is_some(),
                "rename" => rename.replace(Renames::parse(input, key.span())?).is_some(),
                "strict" => strict.replace(input.parse::<LitBool>()?.value).is_some(),
                "fuse" => fuse.replace(input.parse::<LitBool>()?.value).is_some(),
                _ => {
                    let message = format!(
                        "no argument `{key}`: expected `manifest`, `weights`, `rename`, `strict` \
                         or `fuse`"
                    );
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
            rename,
            strict: strict.unwrap_or(false),
            fuse: fuse.unwrap_or(true),
        })
    }
}

impl Renames {
    fn parse(input: ParseStream<'_>, span: Span) -> syn::Result<Self> {
        let list;
        syn::bracketed!(list in input);
        let rules = Punctuated::<Rule, Token![,]>::parse_terminated(&list)?;
        Ok(Self {
            span,
            rules: rules.into_iter().map(|rule| rule.0).collect(),
        })
    }
}

/// `("PATTERN", "REPLACEMENT")`
struct Rule(RenameRule);

impl Parse for Rule {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(syn::token::Paren) {
            return Err(input.error("expected a rule, `(\"PATTERN\", \"REPLACEMENT\")`"));
        }
        let pair;
        syn::parenthesized!(pair in input);
        let pattern: LitStr = pair.parse()?;
        pair.parse::<Token![,]>()?;
        let replacement: LitStr = pair.parse()?;
        pair.parse::<Option<Token![,]>>()?;
        RenameRule::new(&pattern.value(), &replacement.value())
            .map(Self)
            .map_err(|problem| Error::new(pattern.span(), problem))
    }
}
