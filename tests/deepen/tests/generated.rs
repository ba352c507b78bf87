//! What generated code looks like, whatever the depth of the model.

use std::path::{Path, PathBuf};

use pycandle_build::{Config, generate};
use pycandle_deepen::{deepen, iterate};
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
    let mut stretched = shallow;
    for (two, eighty) in [
        ("(0..2)", "(0..80)"),
        ("2)], 2))", "2)], 80))"),
        ("\"num_hidden_layers\":2,", "\"num_hidden_layers\":80,"),
    ] {
        assert_eq!(stretched.matches(two).count(), 1, "{two}");
        stretched = stretched.replace(two, eighty);
    }
    // The first line has a hash of the rest, one has that of the manifest.
    let is_no_hash = |l: &&str| !(l.contains("const MANIFEST: &str") || l.contains("sha256"));
    let of_no_file = |source: &str| -> Vec<String> {
        let lines = source.lines().filter(is_no_hash);
        lines.map(str::to_owned).collect()
    };
    assert_eq!(of_no_file(&stretched), of_no_file(&deep));
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

/// A function of 3000 tensor operations takes rustc minutes, thirty of 100 take seconds.
const MOST: usize = 100;

#[test]
fn no_function_is_long() {
    for manifest in manifests() {
        for fuse in [true, false] {
            let text = source(Path::new(MODELS), &manifest, fuse);
            let longest = longest(&text);
            assert!(longest <= MOST, "{manifest}: {longest} operations");
        }
    }
}

/// 3000 operations of one module, and so many that the calls of the parts are too many as well.
#[test]
fn a_long_module_is_cut_into_functions() {
    let text = std::fs::read_to_string(Path::new(MODELS).join("flat_manifest.json"));
    let text = text.expect("a manifest");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (times, parts) in [(12, 30..60), (40, 105..200)] {
        let long = iterate(&text, times).expect("a longer manifest");
        std::fs::write(folder.path().join("flat_manifest.json"), long).expect("a writable folder");
        let text = source(folder.path(), "flat_manifest.json", true);
        let longest = longest(&text);
        assert!((50..=MOST).contains(&longest), "{longest} operations");
        let n = text.matches("fn part_").count();
        assert!(parts.contains(&n), "{n} functions");
    }
}

/// Fallible operations (`?`) of the function of a file that has the most.
fn longest(source: &str) -> usize {
    let mut longest = Longest::default();
    longest.visit_file(&syn::parse_file(source).expect("Rust"));
    longest.ops
}

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
