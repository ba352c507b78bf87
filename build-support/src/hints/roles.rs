//! What the variables and fields of a body are there for.

use crate::body::{Body, FieldPath, Stmt};
use crate::ir::{Expr, Var};
use crate::names;

/// Which variables end up, alone, as query, key or value of attention.
pub(super) fn roles(body: &Body) -> Vec<Option<&'static str>> {
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
        Expr::Op("rope", args) => worked_on(args.first()?),
        _ => None,
    }
}
