//! Inlining: a value used once moves into the expression that uses it.
//!
//! In: a [`Body`]. Out: the same body with fewer, longer statements, so that code reads as a person
//! would write it: `self.o_proj.forward(&x.transpose(1, 2)?, p)?`.

use crate::body::{Body, LoopArg, Stmt};
use crate::ir::{Expr, Var};

/// How many operations one expression may hold.
const LONGEST: usize = 7;

/// How many operations an argument may hold.
const LONGEST_ARGUMENT: usize = 1;

/// Moves single-use values to where they are used.
pub fn inline(body: &mut Body) {
    let mut uses = vec![0; body.vars];
    for stmt in &body.stmts {
        stmt.reads(&mut |v| uses[v.0] += 1);
    }
    for out in &body.outputs {
        // An output keeps its statement.
        uses[out.0] += 2;
    }
    let mut i = 0;
    while i < body.stmts.len() {
        if !move_down(body, i, &uses) {
            i += 1;
        } else {
            i = i.saturating_sub(1);
        }
    }
}

/// Moves statement `i` into the one that reads its value; says whether it did.
fn move_down(body: &mut Body, i: usize, uses: &[usize]) -> bool {
    let Stmt::Let(var, expr) = &body.stmts[i] else {
        return false;
    };
    let (var, cost) = (*var, expr.cost());
    if uses[var.0] != 1 || matches!(expr, Expr::Append { .. }) {
        return false;
    }
    let reader = body.stmts[i + 1..].iter().position(|s| {
        let mut found = false;
        s.reads(&mut |v| found |= v == var);
        found
    });
    let Some(distance) = reader else {
        return false;
    };
    let at = i + 1 + distance;
    // A view costs nothing to write later, and a loop begins with what it carries; anything else
    // stays in its place in the order.
    let begins_loop = matches!(body.stmts[at], Stmt::Loop(..)) && cost == 1;
    if distance > 0 && !begins_loop && !(expr.is_view() && cost <= 2) {
        return false;
    }
    let total = cost + body.stmts[at].cost();
    let continues = body.stmts[at].continues(var);
    let longest = if continues { LONGEST } else { LONGEST_ARGUMENT };
    if cost > longest || total > LONGEST || !body.stmts[at].takes(var) {
        return false;
    }
    let Stmt::Let(_, expr) = body.stmts.remove(i) else {
        return false;
    };
    let mut expr = Some(expr);
    body.stmts[at - 1].replace(var, &mut expr);
    true
}

impl Expr {
    fn cost(&self) -> usize {
        let mut cost = 0;
        self.visit(&mut |e| {
            cost += usize::from(e.is_tensor() && !matches!(e, Expr::Var(_) | Expr::Field(_)));
        });
        cost
    }

    fn is_view(&self) -> bool {
        let mut view = true;
        self.visit(&mut |e| {
            let views = [
                "reshape",
                "transpose",
                "unsqueeze",
                "squeeze",
                "narrow",
                "t",
                "permute",
            ];
            view &= match e {
                Expr::Method(_, name, _) => views.contains(name),
                other => !other.is_tensor() || matches!(other, Expr::Var(_) | Expr::Field(_)),
            };
        });
        view
    }
}

impl Stmt {
    /// Calls `f` for every variable that the statement reads, once per place.
    pub fn reads(&self, f: &mut impl FnMut(Var)) {
        if let Stmt::Record(_, _, v) = self {
            f(*v);
        }
        self.visit(&mut |e| {
            if let Expr::Var(v) = e {
                f(*v);
            }
        });
    }

    /// Visits every expression, operands first.
    pub fn visit(&self, f: &mut impl FnMut(&Expr)) {
        let mut expr = |e: &Expr| e.visit(&mut |e| f(e));
        match self {
            Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => expr(e),
            Stmt::Call(_, args, _) => args.tensors.iter().for_each(expr),
            Stmt::Loop(_, args, inits, _) => {
                for arg in &args.tensors {
                    match arg {
                        LoopArg::Same(e) => expr(e),
                        LoopArg::Each(all) => all.iter().for_each(&mut expr),
                        LoopArg::Carried(_) => {}
                    }
                }
                inits.iter().for_each(expr);
            }
            Stmt::Record(..) => {}
        }
    }

    /// Whether it makes a tensor on the model's device.
    pub fn needs_device(&self) -> bool {
        let mut found = false;
        self.visit(&mut |e| found |= matches!(e, Expr::Device));
        found
    }

    /// Calls `f` for every variable that the statement defines.
    pub fn defines(&self, f: &mut impl FnMut(Var)) {
        match self {
            Stmt::Let(v, _) => f(*v),
            Stmt::LetTuple(vars, _) => vars.iter().flatten().for_each(|v| f(*v)),
            Stmt::Call(_, _, vars) | Stmt::Loop(_, _, _, vars) => vars.iter().for_each(|v| f(*v)),
            Stmt::Record(..) | Stmt::Do(_) => {}
        }
    }

    /// How many operations the statement holds.
    pub fn cost(&self) -> usize {
        match self {
            Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => e.cost(),
            Stmt::Call(_, args, _) => args.tensors.iter().map(Expr::cost).sum::<usize>() + 1,
            Stmt::Loop(_, _, inits, _) => inits.iter().map(Expr::cost).sum(),
            Stmt::Record(..) => 0,
        }
    }

    /// Whether the statement goes on from `var`: reads it as the receiver of a chain of methods.
    fn continues(&self, var: Var) -> bool {
        let (Stmt::Let(_, expr) | Stmt::LetTuple(_, expr)) = self else {
            return false;
        };
        let mut at = expr;
        while let Expr::Method(recv, _, _) = at {
            at = recv;
        }
        *at == Expr::Var(var)
    }

    /// Whether an expression may stand where the statement reads `var`.
    fn takes(&self, var: Var) -> bool {
        let is_var = |e: &Expr| *e == Expr::Var(var);
        match self {
            Stmt::Let(..) | Stmt::LetTuple(..) | Stmt::Do(_) => true,
            // A call with many arguments is long enough as it is.
            Stmt::Call(_, args, _) => args.tensors.len() <= 2,
            Stmt::Loop(_, args, inits, _) => {
                let in_args = args.tensors.iter().any(|arg| match arg {
                    LoopArg::Same(e) => is_var(e),
                    LoopArg::Each(all) => all.iter().any(is_var),
                    LoopArg::Carried(_) => false,
                });
                !in_args && inits.iter().any(is_var)
            }
            Stmt::Record(..) => false,
        }
    }

    fn replace(&mut self, var: Var, with: &mut Option<Expr>) {
        let mut put = |e: &mut Expr| {
            let old = std::mem::replace(e, Expr::None);
            *e = old.map(&mut |e| match e {
                Expr::Var(v) if v == var => with.take().unwrap_or(Expr::Var(v)),
                other => other,
            });
        };
        match self {
            Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => put(e),
            Stmt::Call(_, args, _) => args.tensors.iter_mut().for_each(put),
            Stmt::Loop(_, _, inits, _) => inits.iter_mut().for_each(put),
            Stmt::Record(..) => {}
        }
    }
}
