//! What stands in the parentheses of `#[pycandle_model(…)]`: for the attribute itself, and for
//! whoever looks for it in source.

use proc_macro2::{Span, TokenStream};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitBool, LitStr, Token};

use crate::checkpoint::RenameRule;

/// The arguments, as documented at the attribute.
pub struct Args {
    /// The manifest's path.
    pub manifest: LitStr,
    /// The checkpoint's.
    pub weights: Option<LitStr>,
    /// Rename rules.
    pub rename: Option<Renames>,
    /// Whether keys that nothing needs are an error.
    pub strict: bool,
    /// Whether fusions are made.
    pub fuse: bool,
}

/// `[("^model\\.", ""), …]`
pub struct Renames {
    /// Where it stands.
    pub span: Span,
    /// The rules, in order.
    pub rules: Vec<RenameRule>,
}

impl Args {
    /// Reads the tokens between the parentheses.
    ///
    /// # Errors
    /// What is wrong with them first, in a sentence.
    pub fn read(tokens: TokenStream) -> Result<Self, String> {
        syn::parse2(tokens).map_err(|error| error.to_string())
    }

    /// The rename rules, in order.
    pub fn rules(&self) -> &[RenameRule] {
        self.rename.as_ref().map_or(&[], |renames| &renames.rules)
    }
}

/// The text of a literal; `None` of anything else.
///
/// ```
/// let literal = "r\"a\"".parse().map(pycandle_build::attribute::text);
/// assert_eq!(literal.ok().flatten().as_deref(), Some("a"));
/// ```
pub fn text(tokens: TokenStream) -> Option<String> {
    syn::parse2::<LitStr>(tokens)
        .ok()
        .map(|literal| literal.value())
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
