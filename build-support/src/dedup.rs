//! Struct definitions: equal bodies become one struct.
//!
//! In: the tree and the lowered nodes. Out: the [`Defs`], deepest first, the root last. Literals in
//! which equal bodies differ become arguments of `load`.

use std::collections::HashMap;

use crate::body::{self, Body, DefId, Instance, Local};
use crate::graph::Graph;
use crate::ir::{Lit, Lowered};
use crate::manifest::CallId;
use crate::tree::Tree;

/// A struct to be written.
#[derive(Debug)]
pub struct Def {
    /// Its body, with the literals that differ as holes.
    pub body: Body,
    /// Names of the holes.
    pub holes: Vec<(String, Lit)>,
    /// Names of its sizes, by local symbol; not unique.
    pub symbols: Vec<String>,
    /// The calls that it stands for, with their connections.
    pub calls: Vec<(CallId, Local)>,
}

/// All structs of a model.
#[derive(Debug)]
pub struct Defs {
    /// Deepest first; the root is the last.
    pub defs: Vec<Def>,
}

/// A call with its body and the literals taken out of it.
type Member = (CallId, Local, Vec<Lit>);

/// Finds the distinct structs of the tree.
pub fn dedup(graph: &Graph, tree: &Tree, lowered: &[Lowered]) -> Defs {
    let mut defs: Vec<Def> = Vec::new();
    let mut done: HashMap<CallId, Instance> = HashMap::new();
    for level in &tree.order {
        let mut groups: Vec<(Body, Vec<Member>)> = Vec::new();
        let mut index: HashMap<Body, usize> = HashMap::new();
        for &call in level {
            let mut local = body::body(graph, tree, lowered, &done, call);
            let mut values = Vec::new();
            local.body.take_numbers();
            local.body.lits(&defs, &mut |_, lit| {
                values.push(std::mem::replace(lit, Lit::Hole(0)));
            });
            let group = *index.entry(local.body.clone()).or_insert_with(|| {
                groups.push((local.body.clone(), Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push((call, local, values));
        }
        for (mut body, calls) in groups {
            let def = DefId(defs.len());
            let holes = fill(&mut body, &defs, &calls);
            let traced = body.syms.len();
            body.put_numbers(&holes);
            let mut symbols = calls[0].1.symbols.clone();
            symbols.extend((traced..body.syms.len()).map(|_| "size".to_owned()));
            for (call, local, values) in &calls {
                let load = holes.iter().map(|(_, at)| values[*at].clone());
                done.insert(
                    *call,
                    Instance {
                        def,
                        inputs: local.inputs.clone(),
                        outputs: tree.outputs[call.0].clone(),
                        sizes: local.sizes.clone(),
                        caches: local.caches.clone(),
                        parts: body.caches.clone(),
                        load: load.collect(),
                    },
                );
            }
            let holes = holes
                .into_iter()
                .map(|(name, at)| (name, calls[0].2[at].clone()));
            defs.push(Def {
                body,
                symbols,
                holes: holes.collect(),
                calls: calls.into_iter().map(|(c, l, _)| (c, l)).collect(),
            });
        }
    }
    Defs { defs }
}

/// Puts the literals back that all calls agree on; returns name and position of the others. Two
/// positions that agree in every call are one hole.
fn fill(body: &mut Body, defs: &[Def], calls: &[Member]) -> Vec<(String, usize)> {
    let mut holes: Vec<(String, usize)> = Vec::new();
    let mut at = 0;
    body.lits(defs, &mut |name, lit| {
        let column = |at: usize| calls.iter().map(move |(_, _, values)| &values[at]);
        let first = &calls[0].2[at];
        *lit = if column(at).all(|l| l == first) {
            first.clone()
        } else {
            let known = holes
                .iter()
                .position(|(_, other)| column(*other).eq(column(at)));
            Lit::Hole(known.unwrap_or_else(|| {
                holes.push((name.to_owned(), at));
                holes.len() - 1
            }))
        };
        at += 1;
    });
    holes
}
