//! The literals of a body: what may differ between modules that are otherwise equal.

use super::{Body, DefId, Field, FieldKind, FieldPath, LoopArg, Stmt, SymBind};
use crate::dedup::Def;
use crate::ir::{Expr, FieldId, LayerArg, Lit};
use crate::manifest::{Dim, SymbolId};

impl Body {
    /// Calls `f` for every literal that may differ between instances, with its name; `defs` are the
    /// structs that the body holds.
    pub fn lits(&mut self, defs: &[Def], f: &mut impl FnMut(&str, &mut Lit)) {
        let hole = |def: &DefId, i: usize| defs[def.0].holes[i].0.as_str();
        for field in &mut self.fields {
            match &mut field.kind {
                FieldKind::Layer { layer, .. } => layer.args.iter_mut().for_each(|a| a.lits(f)),
                FieldKind::LayerOf { layer, params } => {
                    layer.args.iter_mut().for_each(|a| a.lits(f));
                    for held in params.iter_mut().flatten() {
                        sizes(&held.path, &mut held.shape, f);
                    }
                }
                FieldKind::Param(shape) => sizes(&field.path, shape, f),
                FieldKind::Child(def, load) => {
                    let lits = load.iter_mut().enumerate();
                    lits.for_each(|(i, l)| f(hole(def, i), l));
                }
                FieldKind::Children(def, _, loads) => {
                    for load in loads {
                        let lits = load.iter_mut().enumerate();
                        lits.for_each(|(i, l)| f(hole(def, i), l));
                    }
                }
                FieldKind::Number(lit) => f(number(lit), lit),
                FieldKind::Const(_) => {}
            }
        }
        self.numbers.iter_mut().for_each(|l| f(number(l), l));
    }

    /// Takes the sizes and floats out of the statements, so that they can be compared as literals.
    pub fn take_numbers(&mut self) {
        let mut numbers = std::mem::take(&mut self.numbers);
        let first = self.syms.len();
        self.expressions(&mut |e| match e {
            Expr::Float(f) => {
                numbers.push(Lit::Float(f));
                Expr::Setting(FieldId(numbers.len() - 1))
            }
            other => other.map_dims(&mut |dim| match dim {
                Dim::Size(n) => {
                    numbers.push(Lit::Int(n));
                    Dim::Sym(SymbolId(first + numbers.len() - 1))
                }
                other => other,
            }),
        });
        self.numbers = numbers;
    }

    /// Puts the numbers back; those that differ between instances become fields, which `holes` are
    /// the names of.
    pub fn put_numbers(&mut self, holes: &[(String, usize)]) {
        let numbers = std::mem::take(&mut self.numbers);
        let first = self.syms.len();
        let mut fields: Vec<(Lit, FieldId)> = Vec::new();
        for lit in &numbers {
            if let Lit::Hole(k) = lit
                && !fields.iter().any(|(l, _)| l == lit)
            {
                fields.push((lit.clone(), FieldId(self.fields.len())));
                self.fields.push(Field {
                    path: FieldPath::Own(holes[*k].0.clone()),
                    kind: FieldKind::Number(lit.clone()),
                    dtype: None,
                });
            }
        }
        let field = |lit: &Lit| {
            fields
                .iter()
                .find(|(l, _)| l == lit)
                .map_or(FieldId(0), |(_, f)| *f)
        };
        let mut syms = self.syms.clone();
        self.expressions(&mut |e| match e {
            Expr::Setting(FieldId(i)) => match &numbers[i] {
                Lit::Float(f) => Expr::Float(*f),
                hole => Expr::Setting(field(hole)),
            },
            other => other.map_dims(&mut |dim| match dim {
                Dim::Sym(SymbolId(s)) if s >= first => match &numbers[s - first] {
                    Lit::Int(n) => Dim::Size(*n),
                    hole => {
                        let bind = SymBind::Field(field(hole));
                        let known = syms.iter().position(|b| *b == bind);
                        Dim::Sym(SymbolId(known.unwrap_or_else(|| {
                            syms.push(bind);
                            syms.len() - 1
                        })))
                    }
                },
                other => other,
            }),
        });
        self.syms = syms;
    }

    /// Rebuilds every expression of the statements.
    fn expressions(&mut self, f: &mut impl FnMut(Expr) -> Expr) {
        let mut put = |e: &mut Expr| {
            let old = std::mem::replace(e, Expr::None);
            *e = old.map(f);
        };
        for stmt in &mut self.stmts {
            match stmt {
                Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => put(e),
                Stmt::Call(_, args, _) => args.tensors.iter_mut().for_each(&mut put),
                Stmt::Loop(l) => {
                    for arg in &mut l.args.tensors {
                        match arg {
                            LoopArg::Same(e) => put(e),
                            LoopArg::Each(all) => all.iter_mut().for_each(&mut put),
                            LoopArg::Carried(_) => {}
                        }
                    }
                    l.inits_mut().for_each(&mut put);
                }
                Stmt::Record(..) => {}
            }
        }
    }
}

/// The sizes of a parameter, named after it.
fn sizes(path: &FieldPath, shape: &mut [Lit], f: &mut impl FnMut(&str, &mut Lit)) {
    let (FieldPath::Own(path) | FieldPath::Root(path)) = path;
    let name = path.rsplit('.').next().unwrap_or(path);
    let many = shape.len() > 1;
    for (i, lit) in shape.iter_mut().enumerate() {
        match many {
            true => f(&format!("{name}_dim{i}"), lit),
            false => f(&format!("{name}_size"), lit),
        }
    }
}

fn number(lit: &Lit) -> &'static str {
    match lit {
        Lit::Float(_) => "value",
        _ => "size",
    }
}

impl Expr {
    /// Rebuilds the sizes of this expression, not of those below it.
    fn map_dims(self, f: &mut impl FnMut(Dim) -> Dim) -> Expr {
        let all = |dims: Vec<Dim>, f: &mut _| dims.into_iter().map(|d| d.rebuild(f)).collect();
        match self {
            Expr::Size(d) => Expr::Size(d.rebuild(f)),
            Expr::SizeAsInt(d) => Expr::SizeAsInt(d.rebuild(f)),
            Expr::SizeAsFloat(d) => Expr::SizeAsFloat(d.rebuild(f)),
            Expr::Shape(dims) => Expr::Shape(all(dims, f)),
            Expr::Dims(dims) => Expr::Dims(all(dims, f)),
            other => other,
        }
    }
}

impl Dim {
    /// Rebuilds the size bottom-up.
    pub fn rebuild(self, f: &mut impl FnMut(Dim) -> Dim) -> Dim {
        let all = |dims: Vec<Dim>, f: &mut _| dims.into_iter().map(|d| d.rebuild(f)).collect();
        let one = |dim: Box<Dim>, f: &mut _| Box::new(dim.rebuild(f));
        let rebuilt = match self {
            Dim::Add(d) => Dim::Add(all(d, f)),
            Dim::Mul(d) => Dim::Mul(all(d, f)),
            Dim::Max(d) => Dim::Max(all(d, f)),
            Dim::Min(d) => Dim::Min(all(d, f)),
            Dim::Sub(a, b) => Dim::Sub(one(a, f), one(b, f)),
            Dim::FloorDiv(a, b) => Dim::FloorDiv(one(a, f), one(b, f)),
            Dim::Mod(a, b) => Dim::Mod(one(a, f), one(b, f)),
            leaf => leaf,
        };
        f(rebuilt)
    }
}

impl LayerArg {
    fn lits(&mut self, f: &mut impl FnMut(&str, &mut Lit)) {
        match self {
            LayerArg::Lit(name, lit) => f(name, lit),
            LayerArg::Array(names, lits) | LayerArg::Tuple(names, lits) => {
                for (i, lit) in lits.iter_mut().enumerate() {
                    let name = names.get(i).or(names.last());
                    f(name.unwrap_or(&"size"), lit);
                }
            }
            LayerArg::Struct(_, fields) => fields.iter_mut().for_each(|(_, a)| a.lits(f)),
        }
    }
}
