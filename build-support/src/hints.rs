//! Names for values: what a reader would call them.
//!
//! In: a body and where its inputs come from. Out: a name for every variable and field. A name is
//! taken over from the value that is worked on (`q` stays `q` through a reshape), and used again
//! once its value is no longer needed.

mod roles;
mod sources;

use std::collections::HashMap;

use crate::body::{Body, FieldKind, FieldPath, Loop, LoopArg, Stmt};
use crate::dedup::Def;
use crate::graph::Graph;
use crate::ir::{Expr, FieldId, Var};
use crate::names::{self, Unique};
use roles::{BIAS, MASK, begins, is_residual, lone, roles, shown};
pub use sources::Sources;

/// Functions whose result has a name of its own.
const RESULTS: &[(&str, &str)] = &[
    ("amax", "max"),
    ("arange", "positions"),
    ("arange_int", "positions"),
    ("bool_and", "mask"),
    ("bool_not", "mask"),
    ("bool_or", "mask"),
    ("causal_mask", "mask"),
    ("cos", "cos"),
    ("cumsum", "sums"),
    ("eq", "mask"),
    ("eq_scalar_int", "mask"),
    ("full", "full"),
    ("ge", "mask"),
    ("ge_scalar_int", "mask"),
    ("gt", "mask"),
    ("gt_scalar_int", "mask"),
    ("le", "mask"),
    ("le_scalar_int", "mask"),
    ("lt", "mask"),
    ("lt_scalar_int", "mask"),
    ("masked_fill", "masked"),
    ("matmul", "product"),
    ("matmul_heads", "product"),
    ("mean", "mean"),
    ("ne", "mask"),
    ("ne_scalar_int", "mask"),
    ("range", "positions"),
    ("sdpa", "attn"),
    ("sin", "sin"),
    ("softmax", PROBABILITIES),
    ("var", "var"),
    ("where_", "chosen"),
];

/// Names of a struct's fields, in order.
pub fn fields(body: &Body, defs: &[Def]) -> Vec<String> {
    let mut unique = Unique::new(&["path", "dtype", "device"]);
    let name = |path: &FieldPath, kind: &FieldKind| {
        let (FieldPath::Own(path) | FieldPath::Root(path)) = path;
        let path = match kind {
            FieldKind::LayerOf { .. } => {
                let short = path.strip_suffix("weight").unwrap_or(path);
                short.trim_end_matches(['.', '_'])
            }
            _ => path,
        };
        let class = match kind {
            FieldKind::Layer { layer, .. } | FieldKind::LayerOf { layer, .. } => {
                layer.ty.to_owned()
            }
            FieldKind::Child(def, _) | FieldKind::Children(def, ..) => {
                defs[def.0].body.class.clone()
            }
            _ => "tensor".to_owned(),
        };
        let lone_index = path.starts_with(|c: char| c.is_ascii_digit()) || path.is_empty();
        if matches!(kind, FieldKind::Children(..)) && path.is_empty() {
            // The module is itself the list.
            names::snake(&class) + "s"
        } else if lone_index {
            names::snake(&format!("{class}_{path}"))
        } else {
            names::snake(path)
        }
    };
    let lists = |path: &FieldPath| {
        let same =
            |f: &&crate::body::Field| matches!(f.kind, FieldKind::Children(..)) && f.path == *path;
        body.fields.iter().filter(same).count()
    };
    let one = body.fields.iter().enumerate().map(|(i, field)| {
        let base = name(&field.path, &field.kind);
        let before = body.fields[..i].iter().filter(|f| f.path == field.path);
        unique.take(&match &field.kind {
            FieldKind::Children(_, first, _) if lists(&field.path) > 1 => format!("{base}_{first}"),
            // A module that does something else when it is called again.
            FieldKind::Child(..) => match before.count() {
                0 => base,
                1 => base + "_again",
                n => format!("{base}_call_{}", n + 1),
            },
            _ => base,
        })
    });
    one.collect()
}

/// Names of variables, sizes and caches of one struct.
#[derive(Debug)]
pub struct Names {
    /// By variable.
    pub vars: Vec<String>,
    /// By local symbol.
    pub sizes: Vec<String>,
    /// By cache.
    pub caches: Vec<String>,
    /// What each input is to attention.
    pub roles: Vec<Option<&'static str>>,
}

/// What a struct is to the one that holds it.
#[derive(Debug, Default)]
pub struct Child {
    /// What it takes each input as.
    pub inputs: Vec<Option<&'static str>>,
    /// What it calls its outputs.
    pub outputs: Vec<String>,
}

/// Chooses the names of a body whose values were moved where they are used, given the child in each
/// field.
pub fn choose(sources: &Sources, def: &Def, fields: &[String], children: Vec<Child>) -> Names {
    let body = &def.body;
    let (inside, outputs): (Vec<_>, Vec<_>) =
        children.into_iter().map(|c| (c.inputs, c.outputs)).unzip();
    let mut unique = Unique::new(&[]);
    let sizes = def
        .symbols
        .iter()
        .map(|s| unique.take(&size(sources.graph, s)));
    let sizes: Vec<String> = sizes.collect();
    let caches = cache_names(def);
    let mut reserved = RESERVED.to_vec();
    reserved.extend(sizes.iter().map(String::as_str));
    reserved.extend(caches.iter().map(String::as_str));

    let mut namer = Namer {
        fields,
        outputs: &outputs,
        inputs: body.inputs,
        roles: roles(body, &inside),
        begins: begins(body),
        reserved: reserved.iter().map(|s| (*s).to_owned()).collect(),
        last: last_reads(body),
        beside: vec![false; body.inputs],
        lone: lone(body),
        vars: vec![String::new(); body.vars],
        bases: vec![String::new(); body.vars],
        held: HashMap::new(),
    };
    namer.name_inputs(sources, def, Unique::new(&reserved));
    for (at, stmt) in body.stmts.iter().enumerate() {
        namer.stmt(at, stmt, body.stmts.get(at + 1));
    }
    let given = |i: usize| [MASK, BIAS].into_iter().find(|r| namer.bases[i] == *r);
    Names {
        roles: (0..body.inputs).map(given).collect(),
        vars: namer.vars,
        sizes,
        caches,
    }
}

/// The last statement that reads each variable; past the last one for what is returned.
fn last_reads(body: &Body) -> Vec<usize> {
    let mut last = vec![0; body.vars];
    for (i, stmt) in body.stmts.iter().enumerate() {
        stmt.reads(&mut |v| last[v.0] = i);
        if stmt.needs_device() && body.inputs > 0 {
            // The first input's device is asked for under its name.
            last[0] = i;
        }
    }
    for out in body.outputs.iter().filter_map(Expr::var) {
        last[out.0] = body.stmts.len();
    }
    last
}

/// The name of a size; a model input of the same name keeps it.
pub fn size(graph: &Graph, symbol: &str) -> String {
    let mut name = names::snake(symbol);
    let input = |name: &str| graph.m.inputs.iter().any(|i| names::snake(&i.name) == name);
    while input(&name) || RESERVED.contains(&&name[..]) {
        name.push_str("_size");
    }
    name
}

/// Names that generated functions use for something else.
const RESERVED: [&str; 2] = ["p", "ops"];

/// Caches are called after the model's, if there are several and every call works on the same.
fn cache_names(def: &Def) -> Vec<String> {
    let mut unique = Unique::new(&[]);
    let one = |i: usize| {
        let mut called = def.calls.iter().map(|(_, local)| &local.caches[i].0);
        let first = called.next()?;
        let several = def.body.caches.len() > 1;
        (several && called.all(|name| name == first)).then(|| format!("{first}_cache"))
    };
    let names = (0..def.body.caches.len()).map(|i| one(i).unwrap_or_else(|| "cache".to_owned()));
    names
        .map(|name| unique.take(&names::snake(&name)))
        .collect()
}

/// What a softmax gives.
const PROBABILITIES: &str = "probs";

/// The name of what goes from layer to layer.
const STREAM: &str = "hidden";

/// What the list of what a loop's children put out is called, behind the name of a child.
const KEPT: &str = "_outputs";

struct Namer<'a> {
    fields: &'a [String],
    /// Names that each child gives its own outputs, by field.
    outputs: &'a [Vec<String>],
    inputs: usize,
    /// What attention takes a variable as.
    roles: Vec<Option<&'static str>>,
    /// Whether a loop begins with a variable, and nothing else reads it.
    begins: Vec<bool>,
    reserved: Vec<String>,
    last: Vec<usize>,
    /// Whether an input is a second one beside the stream of hidden values.
    beside: Vec<bool>,
    /// Whether a field is known by its index alone.
    lone: Vec<bool>,
    vars: Vec<String>,
    /// The names without the numbers that make them unique.
    bases: Vec<String>,
    /// The variable that holds each name.
    held: HashMap<String, Var>,
}

impl Namer<'_> {
    /// Names the inputs by where they come from, and what would all be the stream of hidden values
    /// by what it is for.
    fn name_inputs(&mut self, sources: &Sources, def: &Def, mut unique: Unique) {
        let mut stream = None;
        for i in 0..self.inputs {
            let mut name = sources.input(def, i);
            if name == STREAM
                && let Some(role) = self.roles[i].filter(|r| [MASK, BIAS].contains(r))
            {
                name = role.to_owned();
            }
            if name == STREAM {
                let first = *stream.get_or_insert(i);
                if first < i {
                    self.beside[i] = true;
                    let maker = sources.maker(def, i);
                    let residual = || {
                        let like = sources.shape(def, i) == sources.shape(def, first);
                        (like && is_residual(&def.body, Var(i))).then(|| "residual".to_owned())
                    };
                    name = maker.or_else(residual).unwrap_or(name);
                }
            }
            let name = unique.take(&name);
            self.hold(Var(i), name);
        }
    }

    fn hold(&mut self, var: Var, name: String) {
        self.held.insert(name.clone(), var);
        self.bases[var.0].clone_from(&name);
        self.vars[var.0] = name;
    }

    fn stmt(&mut self, at: usize, stmt: &Stmt, next: Option<&Stmt>) {
        match stmt {
            Stmt::Let(var, expr) => {
                let wanted = match self.roles[var.0] {
                    Some(role) => role.to_owned(),
                    None if self.begins[var.0] => STREAM.to_owned(),
                    None => shown(*var, next).unwrap_or_else(|| self.of(expr)),
                };
                self.give(at, *var, &wanted, &[]);
            }
            Stmt::LetTuple(vars, expr) => {
                let wanted = self.of(expr);
                let mut taken = Vec::new();
                for var in vars.iter().flatten() {
                    self.give(at, *var, &wanted, &taken);
                    taken.push(self.name(*var));
                }
            }
            Stmt::Call(field, _, vars) => {
                // One output is named after the module, several after what the module calls them.
                for (i, var) in vars.iter().enumerate() {
                    let wanted = match vars.len() {
                        1 if self.begins[var.0] => STREAM.to_owned(),
                        1 => self.field(*field),
                        _ => self.outputs[field.0][i].clone(),
                    };
                    let taken: Vec<String> = vars[..i].iter().map(|v| self.name(*v)).collect();
                    self.give(at, *var, &wanted, &taken);
                }
            }
            Stmt::Loop(l) => self.repeat(at, l),
            Stmt::Record(..) | Stmt::Do(_) => {}
        }
    }

    fn repeat(&mut self, at: usize, l: &Loop) {
        let element = names::element(&self.fields[l.field.0]);
        let mut named: Vec<String> = Vec::new();
        for (i, out) in l.outs.iter().enumerate() {
            if let Some((init, var)) = &out.carried {
                let wanted = match init {
                    Expr::Var(v) if self.begins[v.0] => self.of(init),
                    Expr::Var(v) if v.0 < self.inputs && self.last[v.0] <= at => self.of(init),
                    _ => STREAM.to_owned(),
                };
                // A carried value may take the name of what it begins with, but not of anything
                // that the loop, or another beginning, still reads.
                let mut taken = named.clone();
                let others = l.outs.iter().enumerate().filter(|(j, _)| *j != i);
                let others = others.filter_map(|(_, o)| Some(&o.carried.as_ref()?.0));
                let inside = l.args.tensors.iter().flat_map(|a| match a {
                    LoopArg::Same(e) => std::slice::from_ref(e),
                    LoopArg::Each(all) => all.as_slice(),
                    LoopArg::Carried(_) => &[],
                });
                for expr in others.chain(inside) {
                    expr.visit(&mut |e| taken.extend(e.var().map(|v| self.name(v))));
                }
                self.give(at, *var, &wanted, &taken);
                named.push(self.name(*var));
            }
            if let Some(kept) = &out.kept {
                let wanted = match &l.outs[..] {
                    [_] => format!("{element}{KEPT}"),
                    _ => format!("{element}_{}s", self.outputs[l.field.0][i]),
                };
                self.give(at, kept.list, &wanted, &named);
                named.push(self.name(kept.list));
            }
        }
    }

    /// Gives a variable the wanted name, or one like it when that is still needed after `at`.
    fn give(&mut self, at: usize, var: Var, wanted: &str, taken: &[String]) {
        let free = |name: &String| !taken.contains(name) && !self.is_taken(at, name);
        // A name that has a number already does not get another.
        let wanted = names::valid(wanted.to_owned());
        let of = self.held.get(&wanted);
        let base = of.map_or(&wanted, |v| &self.bases[v.0]).to_owned();
        let numbered = (2..).map(|n| format!("{base}{n}"));
        let mut names = [wanted, base.clone()].into_iter().chain(numbered);
        let name = names.find(free).unwrap_or_default();
        self.hold(var, name);
        self.bases[var.0] = base;
    }

    fn is_taken(&self, at: usize, name: &str) -> bool {
        let held = self.held.get(name).is_some_and(|v| self.last[v.0] > at);
        held || self.reserved.iter().any(|r| r == name)
    }

    fn name(&self, var: Var) -> String {
        self.vars[var.0].clone()
    }

    fn is_stream(&self, var: Var) -> bool {
        (var.0 < self.inputs && !self.beside[var.0]) || self.vars[var.0] == STREAM
    }

    fn field(&self, field: FieldId) -> String {
        let name = &self.fields[field.0];
        match name.strip_suffix("_proj") {
            _ if self.lone[field.0] => STREAM.to_owned(),
            // A layer that is called after its weight, as in `weight_ih`.
            _ if name.split('_').any(|word| word == "weight") => STREAM.to_owned(),
            // What is left of `o_proj` says nothing.
            Some(short) if short.len() > 1 || "qkv".contains(short) => short.to_owned(),
            _ => name.clone(),
        }
    }

    /// The name for an expression's value.
    fn of(&self, expr: &Expr) -> String {
        match expr {
            Expr::Var(v) => self.bases[v.0].clone(),
            Expr::Element(v, _) => {
                let list = &self.vars[v.0];
                list.strip_suffix(KEPT).unwrap_or(list).to_owned()
            }
            Expr::Field(f) => self.fields[f.0].clone(),
            Expr::Forward(f, _) => self.field(*f),
            Expr::Append { new, .. } => self.of(new),
            Expr::Method(recv, _, _) => self.of(recv),
            Expr::Binary(_, a, b) => match (&**a, &**b) {
                // What is added to the stream of hidden values becomes the stream.
                (_, Expr::Var(v)) if self.is_stream(*v) => self.of(b),
                (_, Expr::Var(v)) | (Expr::Var(v), _)
                    if self.beside.get(v.0).copied().unwrap_or_default() =>
                {
                    STREAM.to_owned()
                }
                (Expr::Var(_), _) => self.of(a),
                (_, Expr::Var(_)) => self.of(b),
                _ => self.of(a),
            },
            Expr::Op(name, args) => {
                let is_product = matches!(*name, "matmul" | "matmul_heads");
                if is_product && args.first().is_some_and(|a| self.of(a) == PROBABILITIES) {
                    return "attn".to_owned();
                }
                if let Ok(i) = RESULTS.binary_search_by_key(name, |(n, _)| n) {
                    return RESULTS[i].1.to_owned();
                }
                let tensors = args.iter().flat_map(|a| match a {
                    Expr::Slice(items) => items.as_slice(),
                    e => std::slice::from_ref(e),
                });
                let mut tensors = tensors.filter(|e| e.is_tensor());
                // A value is named after what it is made of, not after the weight it is made with.
                let made_of = |e: &&Expr| {
                    let mut var = false;
                    e.visit(&mut |e| var |= matches!(e, Expr::Var(_)));
                    var
                };
                let first = tensors.clone().next();
                let named = tensors.find(made_of).or(first);
                named.map_or_else(|| "x".to_owned(), |x| self.of(x))
            }
            _ => "x".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_sorted() {
        assert!(super::RESULTS.is_sorted());
    }
}
