//! What generated code looks like, whatever the depth of the model.

use std::path::{Path, PathBuf};

use pycandle_build::{Config, generate};
use pycandle_deepen::deepen;
use syn::visit::Visit;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
const BENCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/manifests");

fn source(folder: &Path, manifest: &str, fuse: bool) -> String {
    let config = Config::new(manifest).root(folder).fuse(fuse);
    match generate(&config) {
        Ok(generated) => generated.source,
        Err(report) => panic!("{manifest}: {report}"),
    }
}

/// The source of a recorded Llama made this deep.
fn llama(layers: usize) -> String {
    let text = std::fs::read_to_string(Path::new(BENCH).join("llama_70b_manifest.json"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deep = deepen(&text.expect("a manifest"), layers).expect("a deeper manifest");
    std::fs::write(folder.path().join("llama_manifest.json"), deep).expect("a writable folder");
    source(folder.path(), "llama_manifest.json", true)
}

#[test]
fn depth_does_not_lengthen_the_source() {
    let (shallow, deep) = (llama(2), llama(80));
    let recorded = source(Path::new(BENCH), "llama_70b_manifest.json", true);
    assert_eq!(
        shallow.replace("llama_", "llama_70b_").lines().count(),
        recorded.lines().count()
    );
    assert_eq!(shallow.lines().count(), deep.lines().count());
    assert!(deep.lines().count() < 350, "{} lines", deep.lines().count());
    let stretched = shallow.replace("(0..2)", "(0..80)");
    assert_eq!(stretched.replace("2)], 2))", "2)], 80))"), deep);
}

#[test]
fn two_runs_give_the_same_bytes() {
    for manifest in manifests() {
        for fuse in [true, false] {
            let folder = Path::new(MODELS);
            assert_eq!(
                source(folder, &manifest, fuse),
                source(folder, &manifest, fuse)
            );
        }
    }
}

/// A hundred operators, and what surrounds them.
const MOST: usize = 120;

/// A function of 3000 tensor operations takes rustc minutes, thirty of 100 take seconds.
#[test]
fn no_function_is_long() {
    for manifest in manifests() {
        for fuse in [true, false] {
            let text = source(Path::new(MODELS), &manifest, fuse);
            let file = syn::parse_file(&text).expect("Rust");
            let mut longest = Longest::default();
            longest.visit_file(&file);
            assert!(
                longest.ops <= MOST,
                "{manifest}: {} operations",
                longest.ops
            );
        }
    }
}

/// Fallible operations (`?`) of the function that has the most.
#[derive(Default)]
struct Longest {
    ops: usize,
    current: usize,
}

impl<'a> Visit<'a> for Longest {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.current = 0;
        syn::visit::visit_item_fn(self, item);
        self.ops = self.ops.max(self.current);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.current = 0;
        syn::visit::visit_impl_item_fn(self, item);
        self.ops = self.ops.max(self.current);
    }

    fn visit_expr_try(&mut self, expr: &'a syn::ExprTry) {
        self.current += 1;
        syn::visit::visit_expr_try(self, expr);
    }
}

fn manifests() -> Vec<String> {
    let entries = std::fs::read_dir(PathBuf::from(MODELS)).expect("recorded models");
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with("_manifest.json")).collect();
    assert!(names.len() > 10);
    names.sort();
    names
}
