//! The attribute `#[pycandle_model]`; use it through the crate `pycandle`.
//!
//! In: the attribute's arguments and a unit struct. Out: what [`pycandle_build::generate`] makes of
//! them, or one error at the literal that is to blame.

use proc_macro2::{Span, TokenStream};
use pycandle_build::attribute::Args;
use pycandle_build::{Config, Generated};
use quote::{format_ident, quote, quote_spanned};
use syn::{Error, Fields, ItemStruct};

/// Files up to this size are tracked by their content, which makes rustc read them.
const TRACKED_BYTES: u64 = 16 << 20;

/// Turns a unit struct into the model that was traced into a manifest.
///
/// ```text
/// #[pycandle::pycandle_model(manifest = "pycandle_trace/my_model_manifest.json", weights = "model.safetensors")]
/// pub struct MyModel;
/// ```
///
/// * `manifest`: the manifest's path.
/// * `weights`: optional; a checkpoint (safetensors or GGUF file, index or folder) whose headers have
///   to fit.
/// * `rename`: optional; rules that rename the checkpoint's keys, as `[("^model\\.", ""), …]`: regular
///   expressions of the crate `regex` and what stands for their matches, with `$1` or `${1}` for a
///   group. They apply in order, each to what the one before made of the key, and are resolved when
///   the crate is built.
/// * `strict`: optional; `true` makes keys that the model does not need an error.
/// * `fuse`: optional; `false` turns all fusions off.
///
/// Paths are relative to the package root. The model and the structs it consists of have the
/// visibility that is written on the struct.
///
/// Where the weights are absent, `<weights>.lock.json` beside them stands for them, which
/// `cargo pycandle lock` writes; where both are there they have to agree.
///
/// A change of the manifest, of the lock, or of a file of the checkpoint of at most 16 MiB (every
/// index is one), builds the crate again. Larger weight files are looked at when the crate is built
/// for another reason, because rustc can only watch a file by reading all of it: lock them, and the
/// lock is watched, or let `pycandle_build::Builder` in `build.rs` watch files of any size.
///
/// # Errors
/// A compile error at the literal to blame: a manifest that breaks its format, operators without a
/// lowering, a rename that is no rule, a checkpoint that does not fit, with everything in which it
/// does not, or a lock that does not describe it.
#[proc_macro_attribute]
pub fn pycandle_model(
    args: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let args = syn::parse::<Args>(args);
    let item = syn::parse::<ItemStruct>(item);
    match (args, item) {
        (Ok(args), Ok(item)) => expand(&args, &item),
        (Err(error), Ok(item)) => skeleton(&item, &error),
        (_, Err(error)) => {
            let message = format!("{error}: `#[pycandle_model]` goes on `pub struct MyModel;`");
            Error::new(error.span(), message).into_compile_error()
        }
    }
    .into()
}

fn expand(args: &Args, item: &ItemStruct) -> TokenStream {
    if !matches!(item.fields, Fields::Unit) || !item.generics.params.is_empty() {
        let message =
            "`#[pycandle_model]` writes the fields itself: it goes on `pub struct MyModel;`";
        return skeleton(item, &Error::new_spanned(&item.ident, message));
    }
    if let Some(other) = item.attrs.iter().find(|attr| !attr.path().is_ident("doc")) {
        let message = "only doc comments can stand beside `#[pycandle_model]`";
        return skeleton(item, &Error::new_spanned(other, message));
    }
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let config = Config::new(args.manifest.value())
        .root(root)
        .name(item.ident.to_string())
        .strict(args.strict)
        .fuse(args.fuse);
    let renames = args.rename.as_ref();
    let rules = args.rules();
    let Some(weights) = &args.weights else {
        let span = renames.map_or(args.manifest.span(), |renames| renames.span);
        let config = rules.iter().cloned().fold(config, Config::rename);
        return match pycandle_build::generate(&config) {
            Ok(generated) => model(item, &generated),
            Err(report) => skeleton(item, &Error::new(span, report)),
        };
    };
    let with_weights = config.clone().weights(weights.value());
    let with_weights = rules.iter().cloned().fold(with_weights, Config::rename);
    match pycandle_build::generate(&with_weights) {
        Ok(generated) => {
            let span = renames.map_or(weights.span(), |renames| renames.span);
            let warnings = generated.warnings.iter().map(|text| warning(text, span));
            let model = model(item, &generated);
            quote!(#(#warnings)* #model)
        }
        Err(report) if report.is_about_weights() => {
            // The code does not depend on the weights: with it there is only this one error.
            let error = Error::new(weights.span(), report);
            match pycandle_build::generate(&config) {
                Ok(generated) => {
                    let (model, error) = (model(item, &generated), error.into_compile_error());
                    quote!(#error #model)
                }
                Err(_) => skeleton(item, &error),
            }
        }
        Err(report) => skeleton(item, &Error::new(args.manifest.span(), report)),
    }
}

/// A warning of the compiler at this place; macros have no other way to one than the use of
/// something that is deprecated.
fn warning(text: &str, span: Span) -> TokenStream {
    quote_spanned! {span=>
        const _: () = {
            #[deprecated(note = #text)]
            const RENAME: () = ();
            RENAME
        };
    }
}

/// The model in a module of its own, so that its parts cannot clash with the user's names.
fn model(item: &ItemStruct, generated: &Generated) -> TokenStream {
    let (docs, visibility, name) = (&item.attrs, &item.vis, &item.ident);
    let module = format_ident!("pycandle_{}", item.ident.to_string().to_lowercase());
    let tokens = &generated.tokens;
    let tracked = generated.tracked.iter().filter_map(|path| {
        let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= TRACKED_BYTES);
        small.then(|| path.to_string_lossy().into_owned())
    });
    quote! {
        #[doc(hidden)]
        mod #module {
            #tokens
            #(const _: &[u8] = ::core::include_bytes!(#tracked);)*
        }
        #(#docs)*
        #visibility use #module::#name;
        #[allow(unused_imports)]
        #visibility use #module::*;
    }
}

/// A type that the compiler treats as erroneous, so that uses of the model are not errors as well.
///
/// A failed macro stands for a unit type where a type is due, but for an erroneous value where an
/// expression is; a type with such a value in it is erroneous.
fn skeleton(item: &ItemStruct, error: &Error) -> TokenStream {
    let (visibility, name) = (&item.vis, &item.ident);
    let error = error.to_compile_error();
    quote!(#visibility type #name = [(); { #error }];)
}

#[cfg(test)]
mod tests;
