//! The attribute against the other front ends.

use super::*;

/// The three ways to a model give the same code: what the attribute puts into its module is what
/// `cargo pycandle codegen` and the builder of build scripts write.
#[test]
fn the_attribute_expands_to_the_source_of_the_other_front_ends() {
    let manifest = "../tests/models/llama_manifest.json";
    let args: Args = syn::parse_quote!(manifest = #manifest);
    let item: ItemStruct = syn::parse_quote!(
        pub struct Llama;
    );
    let expanded = syn::parse2::<syn::File>(expand(&args, &item)).expect("items");
    let Some(syn::Item::Mod(module)) = expanded.items.first() else {
        panic!("the first item is the module");
    };
    let mut file = syn::File {
        items: module.content.clone().expect("an inline module").1,
        ..expanded.clone()
    };
    // What follows the model's own items watches the manifest.
    file.items
        .retain(|item| !matches!(item, syn::Item::Const(_)));

    let config = Config::new(manifest)
        .root(env!("CARGO_MANIFEST_DIR"))
        .name("Llama");
    let source = pycandle_build::generate(&config).expect("a model").source;
    let written = syn::parse_str::<syn::File>(&source).expect("a file");
    assert_eq!(
        prettyplease::unparse(&file),
        prettyplease::unparse(&written)
    );
}
