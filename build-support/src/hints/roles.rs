//! What the variables and fields of a body are there for.

use crate::body::{Body, FieldKind, FieldPath, LoopArg, Stmt};
use crate::ir::{Expr, Var};
use crate::names;

/// What a child makes of each of its inputs, by field.
pub(super) type Children<'a> = &'a [Vec<Option<&'static str>>];

/// What is added to the scores of attention, or chosen by them.
pub const MASK: &str = "mask";

/// What is added to the scores of attention wherever they are allowed.
pub const BIAS: &str = "bias";

/// What an embedding is looked up by.
const INDEX: &str = "ids";

/// What attention, a cosine or an embedding takes each variable as.
pub(super) fn roles(body: &Body, children: Children) -> Vec<Option<&'static str>> {
    let mut found = Roles {
        roles: vec![None; body.vars],
        embeddings: embeddings(body),
        uses: vec![0; body.vars],
        made: vec![None; body.vars],
    };
    for stmt in &body.stmts {
        stmt.reads(&mut |v| found.uses[v.0] += 1);
        if let Stmt::Let(var, expr) = stmt {
            found.made[var.0] = Some(expr);
        }
    }
    // From the last statement on, so that what is made of a variable is known before it.
    for stmt in body.stmts.iter().rev() {
        match stmt {
            Stmt::Let(_, expr) | Stmt::LetTuple(_, expr) => expr.visit(&mut |e| found.read(e)),
            Stmt::Call(field, args, _) => {
                for (arg, role) in args.tensors.iter().zip(&children[field.0]) {
                    found.pass(arg, *role);
                }
            }
            Stmt::Loop(l) => {
                for (arg, role) in l.args.tensors.iter().zip(&children[l.field.0]) {
                    match arg {
                        LoopArg::Same(e) => found.pass(e, *role),
                        LoopArg::Each(all) => all.iter().for_each(|e| found.pass(e, *role)),
                        LoopArg::Carried(_) => {}
                    }
                }
            }
            Stmt::Record(..) | Stmt::Do(_) => {}
        }
        if let Stmt::Let(var, expr) = stmt
            && let Some(role) = found.roles[var.0]
        {
            found.follow(expr, role);
        }
    }
    found.roles
}

fn embeddings(body: &Body) -> Vec<bool> {
    let embeds = body.fields.iter().map(|field| match &field.kind {
        FieldKind::Layer { layer, .. } | FieldKind::LayerOf { layer, .. } => {
            layer.ty == "Embedding"
        }
        _ => false,
    });
    embeds.collect()
}

/// Roles in the making.
struct Roles<'a> {
    roles: Vec<Option<&'static str>>,
    /// Whether each field is an embedding.
    embeddings: Vec<bool>,
    uses: Vec<usize>,
    made: Vec<Option<&'a Expr>>,
}

impl Roles<'_> {
    fn mark(&mut self, expr: &Expr, role: &'static str) {
        if let Some(v) = worked_on(expr) {
            // A projection that attention is not alone to read keeps its name.
            let whole = self.uses[v.0] == 1 || !["q", "k", "v"].contains(&role);
            if whole && self.roles[v.0].is_none() {
                self.roles[v.0] = Some(role);
            }
        }
    }

    /// A value that a child takes for this.
    fn pass(&mut self, expr: &Expr, role: Option<&'static str>) {
        if let Some(role) = role {
            self.mark(expr, role);
        }
    }

    /// What an operation takes its operands for.
    fn read(&mut self, expr: &Expr) {
        match expr {
            Expr::Op("sdpa", args) => {
                for (arg, role) in args.iter().zip(["q", "k", "v", MASK]) {
                    match arg {
                        Expr::Some(mask) => self.mark(mask, role),
                        arg => self.mark(arg, role),
                    }
                }
            }
            Expr::Op("cos" | "sin", args) => args.iter().for_each(|a| self.mark(a, "angles")),
            Expr::Forward(field, x) if self.embeddings[field.0] => {
                // A position, or an input, is better known by what it is.
                let sum = worked_on(x).and_then(|v| self.made[v.0]);
                if matches!(sum, Some(Expr::Op("add", _))) {
                    self.mark(x, INDEX);
                }
            }
            Expr::Op("softmax", args) => args.iter().take(1).for_each(|a| self.scores(a)),
            _ => {}
        }
    }

    /// What a softmax is taken of: a product, and what is added to it.
    fn scores(&mut self, expr: &Expr) {
        let expr = match expr {
            Expr::Var(v) => match self.made[v.0] {
                Some(made) => made,
                None => return,
            },
            expr => expr,
        };
        match expr {
            Expr::Op("baddbmm", args) => args.iter().take(1).for_each(|a| self.mark(a, MASK)),
            Expr::Op("add", args) => {
                if let [a, b, ..] = &args[..] {
                    self.added(a, b);
                }
            }
            Expr::Binary('+', a, b) => self.added(a, b),
            _ => {}
        }
    }

    fn added(&mut self, a: &Expr, b: &Expr) {
        match (self.is_product(a, 8), self.is_product(b, 8)) {
            (true, false) => self.mark(b, MASK),
            (false, true) => self.mark(a, MASK),
            _ => {}
        }
    }

    /// Whether it is made of a matrix product, by operations on each element.
    fn is_product(&self, expr: &Expr, depth: usize) -> bool {
        let below = |e: &Expr| depth > 0 && self.is_product(e, depth - 1);
        match expr {
            Expr::Op("matmul" | "matmul_heads", _) => true,
            Expr::Op(_, args) => args.first().is_some_and(below),
            Expr::Method(recv, _, _) => below(recv),
            Expr::Binary(_, a, b) => below(a) || below(b),
            Expr::Var(v) => self.made[v.0].is_some_and(below),
            _ => false,
        }
    }

    /// Whether it is a tensor of one number.
    fn is_number(&self, expr: &Expr) -> bool {
        let made = expr.var().and_then(|v| self.made[v.0]);
        match made.unwrap_or(expr) {
            Expr::Op("full", args) => args.contains(&Expr::Shape(Vec::new())),
            _ => false,
        }
    }

    /// What a value with a role is made of has it too, or the one that goes with it.
    fn follow(&mut self, expr: &Expr, role: &'static str) {
        match (role, expr) {
            ("q" | "k" | "v", _) => {
                let alone = worked_on(expr).is_some_and(|v| self.uses[v.0] == 1);
                if alone && let Some(v) = worked_on(expr) {
                    self.roles[v.0] = Some(role);
                }
            }
            ("angles", Expr::Op("cat", args)) => {
                for arg in args {
                    if let Expr::Slice(parts) = arg {
                        parts.iter().for_each(|p| self.mark(p, role));
                    }
                }
            }
            (MASK, Expr::Op("where_", args)) => {
                for arg in args.iter().skip(1) {
                    if !self.is_number(arg) {
                        self.mark(arg, BIAS);
                    }
                }
            }
            (INDEX, Expr::Op("add" | "to_dtype" | "mul_scalar_int" | "add_scalar_int", args)) => {
                args.iter().take(1).for_each(|a| self.mark(a, role));
            }
            (MASK | BIAS | "angles", Expr::Method(..)) => self.mark(expr, role),
            (MASK | BIAS, Expr::Op("expand", args)) => {
                args.iter().take(1).for_each(|a| self.mark(a, role));
            }
            _ => {}
        }
    }
}

/// Which variables are nothing but what a loop begins with.
pub(super) fn begins(body: &Body) -> Vec<bool> {
    let (mut begins, mut uses) = (vec![false; body.vars], vec![0; body.vars]);
    for stmt in &body.stmts {
        stmt.reads(&mut |v| uses[v.0] += 1);
        if let Stmt::Loop(l) = stmt {
            for v in l.inits().filter_map(Expr::var) {
                begins[v.0] = true;
            }
        }
    }
    for v in body.outputs.iter().filter_map(Expr::var) {
        uses[v.0] += 1;
    }
    let once = begins.iter().zip(uses).map(|(b, uses)| *b && uses == 1);
    once.collect()
}

/// Which fields are elements of the module itself, as in a `Sequential`.
pub(super) fn lone(body: &Body) -> Vec<bool> {
    let lone = body.fields.iter().map(|field| match &field.path {
        FieldPath::Own(path) => path.split('.').all(names::is_index),
        FieldPath::Root(_) => false,
    });
    lone.collect()
}

/// Whether a variable is only added to others.
pub(super) fn is_residual(body: &Body, var: Var) -> bool {
    let (mut uses, mut added) = (0, 0);
    for stmt in &body.stmts {
        stmt.reads(&mut |v| uses += usize::from(v == var));
        stmt.visit(&mut |e| {
            let operands = match e {
                Expr::Binary('+', a, b) => [Some(&**a), Some(&**b)],
                Expr::Op("add", args) => [args.first(), args.get(1)],
                _ => [None, None],
            };
            let operands = operands.iter().flatten();
            added += operands.filter(|e| ***e == Expr::Var(var)).count();
        });
    }
    uses > 0 && uses == added
}

/// The module that a variable is the output of, when the probe is shown it next: an activation or a
/// pooling that is no struct.
pub(super) fn shown(var: Var, next: Option<&Stmt>) -> Option<String> {
    let Some(Stmt::Record(Some(FieldPath::Own(path)), 0, expr)) = next else {
        return None;
    };
    let name = path.rsplit('.').next().filter(|s| !names::is_index(s))?;
    let name = names::snake(name.strip_suffix("_fn").unwrap_or(name));
    (*expr == Expr::Var(var)).then_some(name)
}

/// The variable that a chain of views, rotations and appends starts from.
fn worked_on(expr: &Expr) -> Option<Var> {
    match expr {
        Expr::Var(v) => Some(*v),
        Expr::Method(recv, _, _) => worked_on(recv),
        Expr::Append { new, .. } => worked_on(new),
        Expr::Op("rope" | "expand", args) => worked_on(args.first()?),
        _ => None,
    }
}
