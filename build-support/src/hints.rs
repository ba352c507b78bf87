//! Names for values: what a reader would call them.
//!
//! In: a body and where its inputs come from. Out: a name for every variable and field. A name is
//! taken over from the value that is worked on (`q` stays `q` through a reshape), and used again
//! once its value is no longer needed.

use std::collections::HashMap;

use crate::body::{Body, FieldKind, FieldPath, Loop, LoopArg, Stmt};
use crate::dedup::Def;
use crate::graph::Graph;
use crate::ir::{Expr, FieldId, Var};
use crate::manifest::{Dtype, Source, ValueId};
use crate::names::{self, Unique};

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
    ("full", "full"),
    ("ge", "mask"),
    ("gt", "mask"),
    ("le", "mask"),
    ("lt", "mask"),
    ("masked_fill", "masked"),
    ("matmul", "product"),
    ("mean", "mean"),
    ("range", "positions"),
    ("sdpa", "attn"),
    ("sin", "sin"),
    ("to_bool", "mask"),
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
    let one = body.fields.iter().map(|field| {
        let base = name(&field.path, &field.kind);
        unique.take(&match &field.kind {
            FieldKind::Children(_, first, _) if lists(&field.path) > 1 => format!("{base}_{first}"),
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
}

/// Chooses the names of a body whose values were moved where they are used; `outputs` are the names
/// that the child in each field gives its own outputs.
pub fn choose(sources: &Sources, def: &Def, fields: &[String], outputs: &[Vec<String>]) -> Names {
    let body = &def.body;
    let mut unique = Unique::new(&[]);
    let sizes = def
        .symbols
        .iter()
        .map(|s| unique.take(&size(sources.graph, s)));
    let sizes: Vec<String> = sizes.collect();
    let caches = cache_names(body);
    let mut reserved = RESERVED.to_vec();
    reserved.extend(sizes.iter().map(String::as_str));
    reserved.extend(caches.iter().map(String::as_str));

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

    let mut namer = Namer {
        fields,
        outputs,
        inputs: body.inputs,
        roles: roles(body),
        reserved: reserved.iter().map(|s| (*s).to_owned()).collect(),
        last,
        vars: vec![String::new(); body.vars],
        held: HashMap::new(),
    };
    let mut inputs = Unique::new(&reserved);
    for i in 0..body.inputs {
        let name = inputs.take(&sources.input(def, i));
        namer.hold(Var(i), name);
    }
    for (at, stmt) in body.stmts.iter().enumerate() {
        namer.stmt(at, stmt);
    }
    Names {
        vars: namer.vars,
        sizes,
        caches,
    }
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
const RESERVED: [&str; 6] = ["p", "w", "ops", "weights", "inputs", "outputs"];

fn cache_names(body: &Body) -> Vec<String> {
    match &body.caches[..] {
        [_] => vec!["cache".to_owned()],
        many => many
            .iter()
            .map(|(name, _)| names::snake(&format!("{name}_cache")))
            .collect(),
    }
}

/// Which variables end up, alone, as query, key or value of attention.
fn roles(body: &Body) -> Vec<Option<&'static str>> {
    let mut roles = vec![None; body.vars];
    let mut uses = vec![0; body.vars];
    for stmt in &body.stmts {
        stmt.reads(&mut |v| uses[v.0] += 1);
    }
    for stmt in body.stmts.iter().rev() {
        let (Stmt::Let(_, expr) | Stmt::LetTuple(_, expr)) = stmt else {
            continue;
        };
        let mut mark = |expr: &Expr, role| {
            if let Some(v) = worked_on(expr)
                && uses[v.0] == 1
            {
                roles[v.0] = Some(role);
            }
        };
        expr.visit(&mut |e| {
            if let Expr::Op("sdpa", args) = e {
                for (arg, role) in args.iter().zip(["q", "k", "v"]) {
                    mark(arg, role);
                }
            }
        });
        if let Stmt::Let(var, expr) = stmt
            && let Some(role) = roles[var.0]
            && let Some(from) = worked_on(expr)
            && uses[from.0] == 1
        {
            roles[from.0] = Some(role);
        }
    }
    roles
}

/// The variable that a chain of views, rotations and appends starts from.
fn worked_on(expr: &Expr) -> Option<Var> {
    match expr {
        Expr::Var(v) => Some(*v),
        Expr::Method(recv, _, _) => worked_on(recv),
        Expr::Append { new, .. } => worked_on(new),
        Expr::Op("rope", args) => worked_on(args.first()?),
        _ => None,
    }
}

/// A graph, and which node makes each value.
#[derive(Debug)]
pub struct Sources<'a> {
    graph: &'a Graph<'a>,
    made_by: HashMap<ValueId, usize>,
}

impl<'a> Sources<'a> {
    /// Looks at all nodes once.
    pub fn new(graph: &'a Graph<'a>) -> Self {
        let nodes = graph.nodes.iter().enumerate();
        let made_by = nodes.flat_map(|(i, n)| n.out.iter().map(move |v| (*v, i)));
        Self {
            made_by: made_by.collect(),
            graph,
        }
    }

    /// What all calls of a struct would call an input.
    fn input(&self, def: &Def, input: usize) -> String {
        let of = |i: usize| self.name(def.calls[i].1.inputs[input], 8);
        let same = |name: &String| (1..def.calls.len()).all(|i| of(i).as_ref() == Some(name));
        of(0).filter(same).unwrap_or_else(|| {
            let source = def.calls[0].1.inputs[input];
            let name = match self.graph.dtype(source) {
                Dtype::Bool => "mask",
                d if d.is_float() => STREAM,
                _ => "ids",
            };
            name.to_owned()
        })
    }

    /// A telling name for a graph value, if it has one.
    fn name(&self, source: Source, depth: usize) -> Option<String> {
        let Source::Value(value) = source else {
            return None;
        };
        let graph = self.graph;
        if let Some(input) = graph.m.inputs.iter().find(|i| i.value == value) {
            return Some(names::snake(&input.name));
        }
        if graph.dtype(source) == Dtype::Bool {
            return Some("mask".to_owned());
        }
        let node = &graph.nodes[*self.made_by.get(&value)?];
        let base = node
            .op
            .trim_start_matches("aten.")
            .trim_start_matches("pycandle.");
        let base = base.split('.').next().unwrap_or(base);
        match base {
            "cos" | "sin" => Some(base.to_owned()),
            "arange" => Some("positions".to_owned()),
            "add" | "_to_copy" | "unsqueeze" | "view" | "expand" | "slice" | "transpose"
                if depth > 0 && (base != "add" || !graph.dtype(source).is_float()) =>
            {
                let from = node.args.iter().find_map(|(_, a)| a.tensor())?;
                self.name(from, depth - 1)
            }
            _ => None,
        }
    }
}

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
    reserved: Vec<String>,
    last: Vec<usize>,
    vars: Vec<String>,
    /// The variable that holds each name.
    held: HashMap<String, Var>,
}

impl Namer<'_> {
    fn hold(&mut self, var: Var, name: String) {
        self.held.insert(name.clone(), var);
        self.vars[var.0] = name;
    }

    fn stmt(&mut self, at: usize, stmt: &Stmt) {
        match stmt {
            Stmt::Let(var, expr) => {
                let wanted = match self.roles[var.0] {
                    Some(role) => role.to_owned(),
                    None => self.of(expr),
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
        let mut name = wanted.to_owned();
        let mut n = 2;
        while taken.contains(&name) || self.is_taken(at, &name) {
            name = format!("{wanted}{n}");
            n += 1;
        }
        self.hold(var, name);
    }

    fn is_taken(&self, at: usize, name: &str) -> bool {
        let held = self.held.get(name).is_some_and(|v| self.last[v.0] > at);
        held || self.reserved.iter().any(|r| r == name)
    }

    fn name(&self, var: Var) -> String {
        self.vars[var.0].clone()
    }

    fn is_stream(&self, var: Var) -> bool {
        var.0 < self.inputs || self.vars[var.0] == STREAM
    }

    fn field(&self, field: FieldId) -> String {
        let name = &self.fields[field.0];
        name.strip_suffix("_proj").unwrap_or(name).to_owned()
    }

    /// The name for an expression's value.
    fn of(&self, expr: &Expr) -> String {
        match expr {
            Expr::Var(v) => self.vars[v.0].clone(),
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
                (Expr::Var(_), _) => self.of(a),
                (_, Expr::Var(_)) => self.of(b),
                _ => self.of(a),
            },
            Expr::Op(name, args) => {
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
