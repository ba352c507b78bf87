//! Every public item of the published libraries has an example.
//!
//! A function, constant, trait or macro has one in its own documentation. A type has one too, or is
//! named in an example of its methods or of a public module that it is in; a method, or it is called
//! in one of those or in that of its type. Variants, fields and implementations of traits need none.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, File, ImplItem, Item, ItemImpl, ItemMod, Meta, Type, UseTree, Visibility};

/// The public items of a library.
#[derive(Default)]
struct Library {
    items: Vec<Documented>,
    /// Methods of types, maybe of some that are not public.
    methods: Vec<(String, Documented)>,
}

/// An item and the examples that are to show it.
struct Documented {
    /// Its file and name.
    place: String,
    name: String,
    /// Whether examples elsewhere can show it.
    is_type: bool,
    own: String,
    /// Of the public modules that it is in.
    above: String,
}

/// A module on the way from the library's root.
struct Place<'a> {
    file: &'a Path,
    shown: Shown,
    /// Examples of the public modules up to this one.
    above: String,
}

/// What of a module can be named from outside.
#[derive(Clone)]
enum Shown {
    All,
    Names(BTreeSet<String>),
}

impl Shown {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(name),
        }
    }

    /// What of a private module can be, of which its parent exports this.
    fn of(&self, module: &str, exports: &[Vec<String>]) -> Self {
        let mut names = BTreeSet::new();
        for path in exports.iter().filter(|path| path[0] == module) {
            match (path.get(1).map(String::as_str), self) {
                (Some("*"), all @ Self::All) => return all.clone(),
                (Some("*"), Self::Names(shown)) => names.extend(shown.iter().cloned()),
                (Some(name), shown) if shown.has(name) => {
                    names.insert(name.to_owned());
                }
                _ => {}
            }
        }
        Self::Names(names)
    }
}

impl Library {
    fn read(root: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(root);
        let mut library = Self::default();
        library.root(&parse(&root), &root);
        library
    }

    fn root(&mut self, root: &File, file: &Path) {
        let place = Place {
            file,
            shown: Shown::All,
            above: examples(&documentation(&root.attrs)),
        };
        self.module(&root.items, &place);
    }

    fn module(&mut self, items: &[Item], place: &Place) {
        let mut exports = Vec::new();
        for item in items {
            if let Item::Use(item) = item
                && is_public(&item.vis)
                && !is(&item.attrs, "doc", "hidden")
            {
                leaves(&item.tree, &mut Vec::new(), &mut exports);
            }
        }
        for item in items {
            match item {
                Item::Mod(module) if !is(&module.attrs, "cfg", "test") => {
                    self.below(module, &exports, place);
                }
                Item::Impl(item) if item.trait_.is_none() => self.methods(item, place),
                item => self.item(item, place),
            }
        }
    }

    fn below(&mut self, module: &ItemMod, exports: &[Vec<String>], place: &Place) {
        let name = module.ident.to_string();
        let is_shown = is_public(&module.vis) && place.shown.has(&name);
        let is_shown = is_shown && !is(&module.attrs, "doc", "hidden");
        let shown = match is_shown {
            true => Shown::All,
            false => place.shown.of(&name, exports),
        };
        if matches!(&shown, Shown::Names(names) if names.is_empty()) {
            return;
        }
        let mut above = place.above.clone();
        let (file, content) = match &module.content {
            Some((_, items)) => (place.file.to_owned(), items.clone()),
            None => {
                let file = file_of(place.file, &name);
                let parsed = parse(&file);
                if is_shown {
                    above += &examples(&documentation(&parsed.attrs));
                }
                (file, parsed.items)
            }
        };
        let place = Place {
            file: &file,
            shown,
            above,
        };
        self.module(&content, &place);
    }

    fn item(&mut self, item: &Item, place: &Place) {
        let (name, attrs, public) = match item {
            Item::Fn(item) => (&item.sig.ident, &item.attrs, is_public(&item.vis)),
            Item::Struct(item) => (&item.ident, &item.attrs, is_public(&item.vis)),
            Item::Enum(item) => (&item.ident, &item.attrs, is_public(&item.vis)),
            Item::Trait(item) => (&item.ident, &item.attrs, is_public(&item.vis)),
            Item::Type(item) => (&item.ident, &item.attrs, is_public(&item.vis)),
            Item::Const(item) => (&item.ident, &item.attrs, is_public(&item.vis)),
            Item::Macro(item) => match &item.ident {
                Some(name) => {
                    let mut attrs = item.attrs.iter();
                    let exported = attrs.any(|attr| attr.path().is_ident("macro_export"));
                    (name, &item.attrs, exported)
                }
                None => return self.rows(item.mac.tokens.clone(), place),
            },
            _ => return,
        };
        let is_macro = matches!(item, Item::Macro(_));
        let is_shown = is_macro || place.shown.has(&name.to_string());
        if public && is_shown && !is(attrs, "doc", "hidden") {
            let is_type = matches!(item, Item::Struct(_) | Item::Enum(_));
            self.items.push(place.document(name, attrs, is_type));
        }
    }

    /// What a call of a macro declares: names with documentation before them.
    fn rows(&mut self, tokens: TokenStream, place: &Place) {
        let read = |input: ParseStream| {
            let mut rows = Vec::new();
            while !input.is_empty() {
                let attrs = input.call(Attribute::parse_outer)?;
                match input.parse::<TokenTree>()? {
                    TokenTree::Ident(name) if !attrs.is_empty() => rows.push((name, attrs)),
                    _ => {}
                }
            }
            Ok(rows)
        };
        for (name, attrs) in read.parse2(tokens).expect("rows of a macro") {
            let name = name.to_string();
            if place.shown.has(&name) {
                let is_type = name.starts_with(char::is_uppercase);
                self.items.push(place.document(&name, &attrs, is_type));
            }
        }
    }

    /// Methods of a type, which stand in its file.
    fn methods(&mut self, item: &ItemImpl, place: &Place) {
        let Type::Path(of) = &*item.self_ty else {
            return;
        };
        let Some(of) = of.path.segments.last() else {
            return;
        };
        for member in &item.items {
            if let ImplItem::Fn(method) = member
                && is_public(&method.vis)
                && !is(&method.attrs, "doc", "hidden")
            {
                let of = place.of(&of.ident);
                let method = place.document(&method.sig.ident, &method.attrs, false);
                self.methods.push((of, method));
            }
        }
    }

    /// What has no example.
    fn lacking(&self) -> Vec<String> {
        let of_methods = |of: &str| -> String {
            let methods = self.methods.iter().filter(|(other, _)| other == of);
            methods.map(|(_, method)| &*method.own).collect()
        };
        let items = self.items.iter().filter(|item| {
            let elsewhere = || item.above.clone() + &of_methods(&item.place);
            item.own.is_empty() && !(item.is_type && names(&elsewhere(), &item.name))
        });
        let mut lacking: Vec<_> = items.map(|item| item.place.clone()).collect();
        for (of, method) in &self.methods {
            // A type that is not public has no public methods.
            if let Some(item) = self.items.iter().find(|item| item.place == *of) {
                let shown = of_methods(of) + &item.own + &item.above;
                if method.own.is_empty() && !names(&shown, &method.name) {
                    lacking.push(format!("{of}::{}", method.name));
                }
            }
        }
        lacking
    }
}

impl Place<'_> {
    fn document(&self, name: &dyn Display, attrs: &[Attribute], is_type: bool) -> Documented {
        Documented {
            place: self.of(name),
            name: name.to_string(),
            is_type,
            own: examples(&documentation(attrs)),
            above: self.above.clone(),
        }
    }

    /// An item by its file.
    fn of(&self, name: &dyn Display) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let file = self.file.strip_prefix(root).unwrap_or(self.file);
        format!("{}: {name}", file.display())
    }
}

/// Whether a text has a name as a word.
fn names(text: &str, name: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !in_word(c)).any(|word| word == name)
}

fn parse(file: &Path) -> File {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| {
        panic!("{}: {error}", file.display());
    });
    syn::parse_file(&text).expect("Rust")
}

/// The file of a module that `file` declares.
fn file_of(file: &Path, name: &str) -> PathBuf {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let folder = match stem {
        Some("lib" | "mod") => file.with_file_name(name),
        _ => file.with_extension("").join(name),
    };
    let own = folder.with_extension("rs");
    match own.exists() {
        true => own,
        false => folder.join("mod.rs"),
    }
}

/// The paths that an import names; `*` for all of a module.
fn leaves(tree: &UseTree, at: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let name = match tree {
        UseTree::Path(path) => {
            at.push(path.ident.to_string());
            leaves(&path.tree, at, out);
            at.pop();
            return;
        }
        UseTree::Group(group) => return group.items.iter().for_each(|t| leaves(t, at, out)),
        UseTree::Name(name) => name.ident.to_string(),
        UseTree::Rename(name) => name.ident.to_string(),
        _ => "*".to_owned(),
    };
    out.push(at.iter().cloned().chain([name]).collect());
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether there is `#[name(word)]`.
fn is(attrs: &[Attribute], name: &str, word: &str) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::List(list) => list.path.is_ident(name) && list.tokens.to_string() == word,
        _ => false,
    })
}

fn documentation(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(text.value() + "\n"),
            _ => None,
        },
        _ => None,
    });
    lines.collect()
}

/// The blocks of Rust in a documentation; what only a build script could compile is `ignore`.
fn examples(text: &str) -> String {
    let blocks = text.split("```").skip(1).step_by(2).filter(|block| {
        let language = block.lines().next().unwrap_or_default().trim();
        matches!(language, "" | "no_run" | "ignore")
    });
    blocks.collect()
}

#[track_caller]
fn check(root: &str, at_least: usize) {
    let library = Library::read(root);
    let (found, lacking) = (library.items.len(), library.lacking());
    assert!(found >= at_least, "only {found} public items in {root}");
    assert!(
        lacking.is_empty(),
        "{} of {found} items and {} methods have no example:\n{}",
        lacking.len(),
        library.methods.len(),
        lacking.join("\n")
    );
}

#[test]
fn every_item_of_the_runtime_has_an_example() {
    check("runtime/src/lib.rs", 200);
}

#[test]
fn every_item_of_build_support_has_an_example() {
    check("build-support/src/lib.rs", 40);
}

#[test]
fn every_item_of_the_checkpoint_library_has_an_example() {
    check("build-support/checkpoint/src/lib.rs", 40);
}

#[test]
fn what_has_no_example_is_found() {
    let library = |text: &str| {
        let mut library = Library::default();
        library.root(&syn::parse_file(text).expect("Rust"), Path::new("lib.rs"));
        library.lacking()
    };
    let none: [&str; 0] = [];
    let with = "/// ```\n/// a(); S::new();\n/// ```\n";
    let above = "//! ```\n//! S::new();\n//! ```\n";
    assert_eq!(library("pub fn a() {}"), ["lib.rs: a"]);
    assert_eq!(library(&format!("{with}pub fn a() {{}}")), none);
    let text = "/// ```text\n/// a()\n/// ```\npub fn a() {}";
    assert_eq!(library(text), ["lib.rs: a"]);
    let hidden = "#[doc(hidden)] pub mod c { pub fn d() {} pub fn e() {} }";
    let private = format!("fn a() {{}} pub(crate) fn b() {{}} {hidden}");
    assert_eq!(library(&private), none);
    assert_eq!(library(&format!("{hidden} pub use c::e;")), ["lib.rs: e"]);
    let inner = "mod m { pub fn a() {} pub fn b() {} mod n { pub fn c() {} pub fn d() {} } \
                 pub use n::d; }";
    assert_eq!(library(inner), none);
    assert_eq!(library(&format!("{inner} pub use m::a;")), ["lib.rs: a"]);
    let all = ["lib.rs: a", "lib.rs: b", "lib.rs: d"];
    assert_eq!(library(&format!("{inner} pub use m::*;")), all);
    let rows = "rows! { /// With a name.\n a: 1; b: 2; }";
    assert_eq!(library(rows), ["lib.rs: a"]);
    let kind = "pub struct S; impl S { pub fn new() {} pub fn other() {} fn own() {} }";
    assert_eq!(library(&format!("{with}{kind}")), ["lib.rs: S::other"]);
    assert_eq!(library(&format!("{above}{kind}")), ["lib.rs: S::other"]);
    let two = ["lib.rs: S", "lib.rs: S::new", "lib.rs: S::other"];
    assert_eq!(library(kind), two);
}
