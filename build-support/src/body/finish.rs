//! The end of a body: what it returns, what it records, where its sizes come from.

use super::builder::Builder;
use super::{Body, Local, Stmt, SymBind};
use crate::ir::{Expr, Var};
use crate::manifest::{Dim, Source, SymbolId};
use crate::tree::Tree;

impl Builder<'_> {
    pub(super) fn finish(mut self, tree: &Tree) -> Local {
        let mut outputs = Vec::new();
        if self.call.0 == 0 {
            for (_, source) in self.graph.outputs() {
                let expr = self.tensor(source);
                outputs.push(match expr {
                    Expr::Var(_) | Expr::Element(..) => expr,
                    field => {
                        let var = Var(self.vars);
                        self.vars += 1;
                        self.stmts.push(Stmt::Let(var, field));
                        Expr::Var(var)
                    }
                });
            }
        } else {
            for value in &tree.outputs[self.call.0] {
                outputs.push(self.tensor(Source::Value(*value)));
            }
        }
        self.record(self.call, None);
        self.drop_unread(&outputs);
        let mut sizes = Vec::new();
        let syms = self.syms.clone();
        let syms = syms.iter().map(|s| self.bind(*s, &mut sizes)).collect();
        let class = &self.graph.m.modules[self.graph.m.calls[self.call.0].module.0].class;
        let body = Body {
            class: class.clone(),
            inputs: self.inputs.len(),
            vars: self.vars,
            syms,
            caches: self.parts,
            fields: self.fields,
            stmts: self.stmts,
            outputs,
            numbers: Vec::new(),
        };
        Local {
            body,
            symbols: self
                .syms
                .iter()
                .map(|s| self.graph.m.symbols[s.0].name.clone())
                .collect(),
            inputs: self.inputs,
            sizes,
            caches: self.caches,
            recorded: self.recorded,
        }
    }

    /// Drops statements whose value nobody reads: parts of a split that are not used.
    fn drop_unread(&mut self, outputs: &[Expr]) {
        let mut read = vec![false; self.vars];
        for var in outputs.iter().filter_map(Expr::var) {
            read[var.0] = true;
        }
        let mut kept = Vec::with_capacity(self.stmts.len());
        for mut stmt in self.stmts.drain(..).rev() {
            match &mut stmt {
                Stmt::Let(var, expr) if !read[var.0] => {
                    if !matches!(expr, Expr::Append { .. }) {
                        continue;
                    }
                    let expr = std::mem::replace(expr, Expr::None);
                    stmt = Stmt::Do(expr);
                }
                Stmt::LetTuple(vars, _) => {
                    for var in vars {
                        *var = var.filter(|v| read[v.0]);
                    }
                }
                _ => {}
            }
            stmt.reads(&mut |v| read[v.0] = true);
            kept.push(stmt);
        }
        kept.reverse();
        self.stmts = kept;
    }

    fn bind(&self, symbol: SymbolId, sizes: &mut Vec<Dim>) -> SymBind {
        for (i, input) in self.inputs.iter().enumerate() {
            let shape = self.graph.shape(*input);
            if !self.graph.has_traced_shape(*input) {
                continue;
            }
            if let Some(axis) = shape.iter().position(|d| *d == Dim::Sym(symbol)) {
                return SymBind::Axis(Var(i), axis);
            }
        }
        sizes.push(Dim::Sym(symbol));
        SymBind::Arg
    }
}
