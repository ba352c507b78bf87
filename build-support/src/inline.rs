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
    let mut stmts = Stmts::new(body);
    let mut at = stmts.next[0];
    while at < stmts.next.len() {
        at = match stmts.move_down(at) {
            // What was before it may now follow.
            true if stmts.previous[at] > 0 => stmts.previous[at],
            _ => stmts.next[at],
        };
    }
    body.stmts = stmts.all.into_iter().flatten().collect();
}

/// The statements of a body, from 1 on, and who reads what: finding a value's reader must not take
/// a search, because a body may have thousands of statements.
struct Stmts {
    /// `None` for what was moved away, and at 0.
    all: Vec<Option<Stmt>>,
    /// The statement after each that is still there.
    next: Vec<usize>,
    /// The statement before each that is still there; 0 before the first.
    previous: Vec<usize>,
    /// How often each variable is read.
    uses: Vec<usize>,
    /// The last statement that reads each variable.
    reader: Vec<usize>,
}

impl Stmts {
    fn new(body: &mut Body) -> Self {
        let all = std::mem::take(&mut body.stmts).into_iter().map(Some);
        let all: Vec<Option<Stmt>> = std::iter::once(None).chain(all).collect();
        let (mut uses, mut reader) = (vec![0; body.vars], vec![0; body.vars]);
        for (i, stmt) in all.iter().enumerate() {
            if let Some(stmt) = stmt {
                stmt.reads(&mut |v| {
                    uses[v.0] += 1;
                    reader[v.0] = i;
                });
            }
        }
        for out in body.outputs.iter().filter_map(Expr::var) {
            // An output keeps its statement.
            uses[out.0] += 2;
        }
        Self {
            next: (1..=all.len()).collect(),
            previous: (0..all.len()).map(|i: usize| i.saturating_sub(1)).collect(),
            all,
            uses,
            reader,
        }
    }

    /// Moves statement `i` into the one that reads its value; says whether it did.
    fn move_down(&mut self, i: usize) -> bool {
        let Some(Stmt::Let(var, expr)) = &self.all[i] else {
            return false;
        };
        let (var, cost) = (*var, expr.cost());
        if self.uses[var.0] != 1 || matches!(expr, Expr::Append { .. }) {
            return false;
        }
        let at = self.reader[var.0];
        let Some(reader) = &self.all[at] else {
            return false;
        };
        // A view costs nothing to write later, and a loop begins with what it carries; anything
        // else stays in its place in the order.
        let begins_loop = matches!(reader, Stmt::Loop(..)) && cost == 1;
        if self.next[i] != at && !begins_loop && !(expr.is_view() && cost <= 2) {
            return false;
        }
        let total = cost + reader.cost();
        let longest = if reader.continues(var) {
            LONGEST
        } else {
            LONGEST_ARGUMENT
        };
        if cost > longest || total > LONGEST || !reader.takes(var) {
            return false;
        }
        let Some(Stmt::Let(_, expr)) = self.all[i].take() else {
            return false;
        };
        expr.visit(&mut |e| {
            if let Expr::Var(v) = e {
                self.reader[v.0] = self.reader[v.0].max(at);
            }
        });
        if let Some(reader) = &mut self.all[at] {
            reader.replace(var, &mut Some(expr));
        }
        let (previous, next) = (self.previous[i], self.next[i]);
        self.next[previous] = next;
        self.previous[next] = previous;
        true
    }
}

impl Expr {
    fn cost(&self) -> usize {
        let mut cost = 0;
        self.visit(&mut |e| {
            cost += usize::from(e.is_tensor() && !e.is_place());
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
                other => !other.is_tensor() || other.is_place(),
            };
        });
        view
    }
}

impl Stmt {
    /// Calls `f` for every variable that the statement reads, once per place.
    pub fn reads(&self, f: &mut impl FnMut(Var)) {
        self.visit(&mut |e| e.var().into_iter().for_each(&mut *f));
    }

    /// Visits every expression, operands first.
    pub fn visit(&self, f: &mut impl FnMut(&Expr)) {
        let mut expr = |e: &Expr| e.visit(&mut |e| f(e));
        match self {
            Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => expr(e),
            Stmt::Call(_, args, _) => args.tensors.iter().for_each(expr),
            Stmt::Loop(l) => {
                for arg in &l.args.tensors {
                    match arg {
                        LoopArg::Same(e) => expr(e),
                        LoopArg::Each(all) => all.iter().for_each(&mut expr),
                        LoopArg::Carried(_) => {}
                    }
                }
                l.inits().for_each(expr);
            }
            Stmt::Record(_, _, e) => expr(e),
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
            Stmt::Call(_, _, vars) => vars.iter().for_each(|v| f(*v)),
            Stmt::Loop(l) => l.vars().for_each(f),
            Stmt::Record(..) | Stmt::Do(_) => {}
        }
    }

    /// How many operations the statement holds.
    pub fn cost(&self) -> usize {
        match self {
            Stmt::Let(_, e) | Stmt::LetTuple(_, e) | Stmt::Do(e) => e.cost(),
            Stmt::Call(_, args, _) => args.tensors.iter().map(Expr::cost).sum::<usize>() + 1,
            Stmt::Loop(l) => l.inits().map(Expr::cost).sum(),
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
            Stmt::Loop(l) => {
                let in_args = l.args.tensors.iter().any(|arg| match arg {
                    LoopArg::Same(e) => is_var(e),
                    LoopArg::Each(all) => all.iter().any(is_var),
                    LoopArg::Carried(_) => false,
                });
                !in_args && l.inits().any(is_var)
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
            Stmt::Loop(l) => l.inits_mut().for_each(put),
            Stmt::Record(..) => {}
        }
    }
}
