//! The attribute against the other front ends.

use super::*;

/// The three ways to a model give the same code: what the attribute puts into its module is what
/// `generate` gives, and that is what `cargo pycandle codegen` and the builder of build scripts
/// write, by tests of theirs.
#[test]
fn the_attribute_expands_to_the_source_of_the_other_front_ends() {
    let manifest = "../tests/models/llama_manifest.json";
    let config = Config::new(manifest)
        .root(env!("CARGO_MANIFEST_DIR"))
        .name("Llama");
    let plain: Args = syn::parse_quote!(manifest = #manifest);
    let fused: Args = syn::parse_quote!(manifest = #manifest, fuse = true);
    let unfused: Args = syn::parse_quote!(manifest = #manifest, fuse = false);
    assert_eq!(written(&plain), generated(&config));
    assert_eq!(written(&fused), generated(&config));
    let expected = generated(&config.clone().fuse(false));
    assert_eq!(written(&unfused), expected);
    assert_ne!(expected, generated(&config));
}

/// The model that the attribute puts into its module.
fn written(args: &Args) -> String {
    let item: ItemStruct = syn::parse_quote!(
        pub struct Llama;
    );
    let expanded = syn::parse2::<syn::File>(expand(args, &item)).expect("items");
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
    prettyplease::unparse(&file)
}

fn generated(config: &Config) -> String {
    let source = pycandle_build::generate(config).expect("a model").source;
    prettyplease::unparse(&syn::parse_str(&source).expect("a file"))
}

/// With a lock and without weights the attribute gives the same code, and rustc watches the lock.
#[test]
fn a_lock_stands_for_weights_that_are_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cases = pycandle_test_checkpoints::cases().into_iter();
    let case = cases
        .find(|case| case.report.is_empty())
        .expect("a case that fits");
    case.write(folder.path()).expect("files");
    let weights = folder.path().join(case.weights);
    let lock = pycandle_build::lock::path_of(&weights).expect("a path");
    let text = pycandle_build::lock::text(&weights, &weights).expect("a lock");
    let expand_here = || {
        let manifest = folder.path().join("llama_manifest.json");
        let manifest = manifest.to_str().expect("text");
        let weights = weights.to_str().expect("text");
        let args: Args = syn::parse_quote!(manifest = #manifest, weights = #weights);
        let item: ItemStruct = syn::parse_quote!(
            pub struct Llama;
        );
        expand(&args, &item).to_string()
    };
    let with_files = expand_here();
    std::fs::write(&lock, text).expect("written");
    std::fs::remove_file(&weights).expect("removed");
    let with_lock = expand_here();
    let watches = |tokens: &str, path: &std::path::Path| tokens.contains(&format!("{path:?}"));
    assert!(watches(&with_files, &weights) && !watches(&with_files, &lock));
    assert!(watches(&with_lock, &lock) && !watches(&with_lock, &weights));
    let model = |tokens: &str| tokens.split("include_bytes").next().map(str::to_owned);
    assert_eq!(model(&with_lock), model(&with_files));
}

#[test]
fn what_is_watched_is_read_in_good_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, len: u64| {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).expect("a file");
        file.set_len(len).expect("a sparse file");
        path
    };
    let large = [WATCHED_BYTES - 10, 11].map(|len| file(&len.to_string(), len));
    let paths = [
        &large[..],
        &[file("small", 10), folder.path().join("absent")],
    ]
    .concat();
    let watched: Vec<_> = watched(&paths).map(PathBuf::from).collect();
    assert_eq!(watched, [paths[0].clone(), paths[2].clone()]);
}
