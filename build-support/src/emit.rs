//! Emission: the finished structs as tokens. Nothing here can fail.

mod conditions;
mod expected;
mod expr;
mod forward;
mod load;
mod output;
mod parts;
mod repeat;
mod root;
mod sizes;
mod types;

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;

use crate::body::{Body, CacheUse, DefId, FieldKind, Stmt};
use crate::dedup::{Def, Defs};
use crate::generate::Expects;
use crate::graph::Graph;
use crate::hints::{self, Child, Names};
use crate::inline::inline;
use crate::ir::{Expr, FieldId, Var};
use crate::manifest::{Constant, Data};
use crate::names::{self, Unique, ident};
use expr::Scope;
use output::Output;
use types::Types;

/// A struct with all its names.
#[derive(Debug)]
struct Struct {
    def: Def,
    /// Type name.
    name: String,
    /// Field names.
    fields: Vec<String>,
    /// Variable names.
    names: Names,
    /// Names of the arguments of `load`.
    holes: Vec<String>,
    /// Number of dimensions of each input.
    ranks: Vec<usize>,
    /// How often each variable is read.
    reads: Vec<usize>,
    /// Whether `forward` takes a probe.
    probed: bool,
    is_root: bool,
    /// Folder of the manifest, from the package root.
    folder: String,
}

/// How the model's own items are called and seen.
#[derive(Debug)]
pub struct Root<'a> {
    /// Name of the model's struct.
    pub name: &'a str,
    /// Golden keys that are not recorded, as patterns.
    pub fused: &'a [String],
    /// Folder of the manifest, from the package root; empty or with a slash behind it.
    pub folder: &'a str,
    /// What checkpoints are held against.
    pub expects: &'a Expects,
    /// SHA-256 of the manifest.
    pub hash: &'a str,
}

/// All items of a model.
pub fn emit(graph: &Graph, defs: Defs, model: &Root) -> TokenStream {
    let types = types::types(graph, &defs.defs, model.name);
    let output = Output::new(graph, &types.output);
    let structs = structs(graph, defs, model, &types);
    let root = structs.len() - 1;
    let items = outside_in(&structs).into_iter().map(|i| {
        let s = &structs[i];
        if s.is_root {
            root::root(graph, s, &structs, &output, model)
        } else {
            item(graph, s, &structs)
        }
    });
    let items: TokenStream = items.collect();
    let traced = root::traced(graph, &structs[root], &output, model);
    let body = quote!(#items #traced);
    let imports = imports(&body);
    quote!(#imports #body)
}

/// The root, then each struct after the first that holds it, as one would read them.
fn outside_in(structs: &[Struct]) -> Vec<usize> {
    let mut order = Vec::with_capacity(structs.len());
    let mut seen = vec![false; structs.len()];
    let mut next = vec![structs.len() - 1];
    while let Some(i) = next.pop() {
        if std::mem::replace(&mut seen[i], true) {
            continue;
        }
        order.push(i);
        let fields = structs[i].body().fields.iter().rev();
        next.extend(fields.filter_map(|f| match &f.kind {
            FieldKind::Child(def, _) | FieldKind::Children(def, ..) => Some(def.0),
            _ => None,
        }));
    }
    order
}

fn structs(graph: &Graph, defs: Defs, model: &Root, types: &Types) -> Vec<Struct> {
    let last = defs.defs.len() - 1;
    let fields: Vec<Vec<String>> = defs
        .defs
        .iter()
        .map(|d| hints::fields(&d.body, &defs.defs))
        .collect();
    let sources = hints::Sources::new(graph);
    let mut structs: Vec<Struct> = Vec::new();
    for (i, mut def) in defs.defs.into_iter().enumerate() {
        inline(&mut def.body);
        let fields = fields[i].clone();
        let children = def.body.fields.iter().map(|f| match &f.kind {
            FieldKind::Child(d, _) | FieldKind::Children(d, ..) => structs[d.0].as_child(),
            _ => Child::default(),
        });
        let names = hints::choose(&sources, &def, &fields, children.collect());
        let mut unique = Unique::new(&["w", "i"]);
        let holes = def
            .holes
            .iter()
            .map(|(name, _)| unique.take(&names::snake(name)));
        let ranks = def.calls[0].1.inputs.iter().map(|s| graph.shape(*s).len());
        let probed = forward::is_probed(&def.body, |f| match &def.body.fields[f.0].kind {
            FieldKind::Child(d, _) | FieldKind::Children(d, ..) => structs[d.0].probed,
            _ => false,
        });
        structs.push(Struct {
            name: types.structs[i].clone(),
            reads: reads(&def.body),
            holes: holes.collect(),
            ranks: ranks.collect(),
            fields,
            names,
            probed,
            is_root: i == last,
            folder: model.folder.to_owned(),
            def,
        });
    }
    structs
}

fn reads(body: &Body) -> Vec<usize> {
    let mut reads = vec![0; body.vars];
    for stmt in &body.stmts {
        stmt.reads(&mut |v| reads[v.0] += 1);
    }
    for var in body.outputs.iter().filter_map(Expr::var) {
        reads[var.0] += 1;
    }
    reads
}

impl Struct {
    fn body(&self) -> &Body {
        &self.def.body
    }

    fn output_names(&self) -> Vec<String> {
        let outputs = self.body().outputs.iter().filter_map(Expr::var);
        outputs.map(|v| self.names.vars[v.0].clone()).collect()
    }

    fn as_child(&self) -> Child {
        Child {
            inputs: self.names.roles.clone(),
            outputs: self.output_names(),
        }
    }

    fn child(&self, field: FieldId) -> DefId {
        match &self.body().fields[field.0].kind {
            FieldKind::Child(def, _) | FieldKind::Children(def, ..) => *def,
            _ => DefId(0),
        }
    }

    fn scope(&self) -> Scope {
        let inputs = self.body().inputs;
        let vars = self.names.vars.iter().enumerate();
        let fields = self.fields.iter().zip(&self.body().fields);
        let caches = self.body().caches.iter().enumerate();
        let slices = caches.filter(|(_, part)| **part == CacheUse::Layers);
        Scope {
            vars: vars.map(|(i, name)| (name.clone(), i < inputs)).collect(),
            fields: fields
                .map(|(name, f)| (name.clone(), matches!(f.kind, FieldKind::Param(_))))
                .collect(),
            sizes: self.names.sizes.clone(),
            caches: self.names.caches.clone(),
            slices: slices.map(|(i, _)| i).collect(),
            lists: self.body().lists().collect(),
            mutable: BTreeSet::new(),
            device: (inputs > 0).then_some(Var(0)),
        }
    }

    /// Path of a constant's side file, from the package root.
    fn side_file(&self, c: &Constant) -> String {
        match &c.data {
            Data::File(file) => format!("{}{file}", self.folder),
            _ => String::new(),
        }
    }

    /// Whether the struct needs its path, for the probe.
    fn needs_path(&self) -> bool {
        let own = |s: &Stmt| matches!(s, Stmt::Record(..));
        self.body().stmts.iter().any(own)
    }

    fn needs(&self, wanted: &Expr) -> bool {
        let mut found = false;
        for stmt in &self.body().stmts {
            stmt.visit(&mut |e| found |= e == wanted);
        }
        found
    }

    /// Whether the struct keeps the model's dtype.
    fn needs_dtype(&self) -> bool {
        self.needs(&Expr::ModelDtype) || self.is_root
    }

    /// Whether the struct keeps the model's device: it makes tensors and has none to ask.
    fn needs_device(&self) -> bool {
        self.body().inputs == 0 && self.needs(&Expr::Device)
    }

    /// Module paths and class, for the doc comment.
    fn doc(&self, graph: &Graph) -> String {
        let paths = self.def.calls.iter().map(|(c, _)| graph.path(*c));
        let paths = names::pattern(paths).join("`, `");
        let class = &self.body().class;
        if paths.is_empty() {
            format!(" `{class}`")
        } else {
            format!(" `{paths}` ({class})")
        }
    }
}

/// A struct that is not the root.
fn item(graph: &Graph, s: &Struct, all: &[Struct]) -> TokenStream {
    let name = ident(&s.name);
    let doc = s.doc(graph);
    let fields = load::fields(s, all);
    let load = load::load(graph, s, all);
    let forward = forward::forward(s, all);
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone)]
        struct #name { #fields }

        impl #name {
            #load
            #forward
        }
    }
}

/// `use` lines for what the code names.
fn imports(body: &TokenStream) -> TokenStream {
    let mut used = BTreeSet::new();
    idents(body.clone(), &mut used);
    let from = |names: &[&str]| {
        let names = names.iter().filter(|n| used.contains(**n));
        names.map(|n| ident(n)).collect::<Vec<_>>()
    };
    let (parity, runtime) = (from(names::PARITY), from(names::RUNTIME));
    let private = from(&["bind"]);
    let private = (!private.is_empty()).then(|| quote!(__private::#(#private)*,));
    quote! {
        use pycandle::{#private parity::{#(#parity),*}, #(#runtime),*};
    }
}

fn idents(tokens: TokenStream, into: &mut BTreeSet<String>) {
    for tree in tokens {
        match tree {
            proc_macro2::TokenTree::Ident(i) => {
                into.insert(i.to_string());
            }
            proc_macro2::TokenTree::Group(g) => idents(g.stream(), into),
            _ => {}
        }
    }
}
