//! The attribute `#[pycandle_model]`; use it through the crate `pycandle`.
//!
//! In: the attribute's arguments and a unit struct. Out: what [`pycandle_build::expand`] makes of
//! them, or one error at the literal that is to blame.

use std::path::PathBuf;

use proc_macro2::{Span, TokenStream};
use pycandle_build::attribute::Args;
use pycandle_build::{Config, Expanded};
use quote::{format_ident, quote, quote_spanned};
use syn::{Error, Fields, ItemStruct};

/// What is watched, rustc reads: this much takes it 0.7 s and three times the memory.
const WATCHED_BYTES: u64 = 100 << 20;

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
/// A change of the manifest, of the lock, or of the checkpoint's files builds the crate again, of
/// files up to 100 MiB in all. Larger weights are looked at when the crate is built for another
/// reason, because rustc can only watch a file by reading all of it: lock them, and the lock is
/// watched, or let `pycandle_build::Builder` in `build.rs` watch files of any size.
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
    let config = Config::new(args.manifest.value())
        .root(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .name(item.ident.to_string())
        .strict(args.strict)
        .fuse(args.fuse);
    let weights = args.weights.iter().map(syn::LitStr::value);
    let config = weights.fold(config, |config, weights| config.weights(weights));
    let config = args.rules().iter().cloned().fold(config, Config::rename);
    let weights = args.weights.as_ref().unwrap_or(&args.manifest).span();
    let renames = args.rename.as_ref().map(|renames| renames.span);
    match pycandle_build::expand(&config) {
        Ok(expanded) => {
            let span = renames.unwrap_or(weights);
            let warnings = expanded.warnings.iter().map(|text| warning(text, span));
            // The code does not depend on the weights: with it there is only this one error.
            let problems = (!expanded.problems.is_empty()).then(|| {
                let rules = renames.filter(|_| expanded.problems.is_about_renames());
                Error::new(rules.unwrap_or(weights), &expanded.problems).into_compile_error()
            });
            let model = model(item, &expanded);
            quote!(#(#warnings)* #problems #model)
        }
        Err(report) => {
            let rules = renames.filter(|_| args.weights.is_none());
            let span = rules.unwrap_or(args.manifest.span());
            skeleton(item, &Error::new(span, report))
        }
    }
}

/// A warning of the compiler at this place; macros have no other way to one than the use of
/// something that is deprecated.
fn warning(text: &str, span: Span) -> TokenStream {
    quote_spanned! {span=>
        const _: () = {
            #[deprecated(note = #text)]
            const CHECKPOINT: () = ();
            CHECKPOINT
        };
    }
}

/// The model in a module of its own, so that its parts cannot clash with the user's names.
fn model(item: &ItemStruct, expanded: &Expanded) -> TokenStream {
    let (docs, visibility, name) = (&item.attrs, &item.vis, &item.ident);
    let module = format_ident!("pycandle_{}", item.ident.to_string().to_lowercase());
    let tokens = &expanded.tokens;
    let watched = watched(&expanded.tracked);
    quote! {
        #[doc(hidden)]
        mod #module {
            #tokens
            // In a function that nobody calls, the compiler reads the files and keeps nothing.
            const _: () = {
                #[allow(dead_code)]
                fn watched() {
                    #(let _ = ::core::include_bytes!(#watched);)*
                }
            };
        }
        #(#docs)*
        #visibility use #module::#name;
        #[allow(unused_imports)]
        #visibility use #module::*;
    }
}

/// The files by which a build is made again, as many as are read in good time, the first first.
fn watched(paths: &[PathBuf]) -> impl Iterator<Item = String> {
    let mut left = WATCHED_BYTES;
    paths.iter().filter_map(move |path| {
        let len = std::fs::metadata(path).ok()?.len();
        left = left.checked_sub(len)?;
        Some(path.to_string_lossy().into_owned())
    })
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
