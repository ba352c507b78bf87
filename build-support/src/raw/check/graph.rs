//! The module tree, its calls and the nodes.

use std::collections::{HashMap, HashSet};

use super::{Checker, last, plain};
use crate::manifest::{Call, CallId, Module, ModuleId, Node, ValueId};

impl Checker<'_, '_, '_> {
    pub(super) fn modules(&mut self) -> Vec<Module> {
        let mut modules = Vec::with_capacity(self.raw.modules.len());
        for (i, element) in self.raw.modules.iter().enumerate() {
            let path = &element.is.path;
            let field = |name: &str| format!("modules[{i}].{name}");
            if (i == 0) != path.is_empty() {
                let message = "the first module, and no other, is the root with the path \"\"";
                self.source.error(element.line, field("path"), message);
            } else if !path.is_empty() {
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                if path.split('.').any(str::is_empty) {
                    let message = format!("`{}` has an empty part", &**path);
                    self.source.error(element.line, field("path"), message);
                } else if !self.names.modules.contains_key(parent) {
                    let message = format!("its parent `{parent}` does not come before it");
                    self.source.error(element.line, field("path"), message);
                }
                self.checked_name(element.line, || field("path"), path);
            }
            self.checked_name(element.line, || field("class"), &element.is.class);
            if self
                .names
                .modules
                .insert(path.clone(), ModuleId(i))
                .is_some()
            {
                self.twice(element.line, field("path"), "module", path);
            }
            let class = last(&element.is.class).to_owned();
            modules.push(Module {
                path: (**path).to_owned(),
                class,
                library: element.is.class.starts_with("torch.nn."),
            });
        }
        if modules.is_empty() {
            self.source
                .error(1, "modules", "the root module is missing");
        }
        modules
    }

    /// Calls without their outputs, which name values of nodes.
    pub(super) fn calls(&mut self) -> Vec<Call> {
        let mut counts = HashMap::new();
        let mut calls = Vec::with_capacity(self.raw.calls.len());
        for (i, element) in self.raw.calls.iter().enumerate() {
            let call = &element.is;
            let field = |name: &str| format!("calls[{i}].{name}");
            let module = self.names.modules.get(&*call.module).copied();
            match module {
                None => {
                    let message = format!("no module has the path `{}`", &*call.module);
                    self.source.error(element.line, field("module"), message);
                }
                Some(ModuleId(module)) if (i == 0) != (module == 0) => {
                    let message = "the first call, and no other, is that of the root";
                    self.source.error(element.line, field("module"), message);
                }
                Some(_) => {}
            }
            let count: &mut usize = counts.entry(call.module.clone()).or_default();
            if call.index != *count {
                let message = format!(
                    "this is call {count} of `{}`, not {}",
                    &*call.module, call.index
                );
                self.source.error(element.line, field("index"), message);
            }
            *count += 1;
            match (i, call.parent) {
                (0, None) => {}
                (0, Some(_)) => {
                    self.source
                        .error(element.line, field("parent"), "the root call has no parent")
                }
                (_, Some(parent)) if parent < i => {}
                _ => self.source.error(
                    element.line,
                    field("parent"),
                    "the parent must be an earlier call",
                ),
            }
            calls.push(Call {
                module: module.unwrap_or(ModuleId(0)),
                index: call.index,
                parent: call.parent.filter(|&parent| parent < i).map(CallId),
                outputs: Vec::new(),
            });
        }
        if calls.is_empty() {
            self.source
                .error(1, "calls", "the call of the root module is missing");
        }
        calls
    }

    pub(super) fn nodes(&mut self) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(self.raw.nodes.len());
        for (i, element) in self.raw.nodes.iter().enumerate() {
            let node = &element.is;
            if node.op.is_empty()
                || node
                    .op
                    .contains(|c: char| c.is_whitespace() || c.is_control())
            {
                self.source.error(
                    element.line,
                    format!("nodes[{i}].op"),
                    "not the name of an operator",
                );
            }
            if node.call >= self.raw.calls.len() {
                let message = format!("there is no call {}", node.call);
                self.source
                    .error(element.line, format!("nodes[{i}].call"), message);
            }
            let mut seen = HashSet::new();
            let mut args = Vec::with_capacity(node.args.0.len());
            for (name, arg) in &node.args.0 {
                let field = || format!("nodes[{i}].args.{}", &**name);
                if !seen.insert(&**name) {
                    self.source
                        .error(element.line, field(), "the argument is given twice");
                }
                match self.arg(arg) {
                    Ok(arg) => args.push(((**name).to_owned(), arg)),
                    Err(message) => self.source.error(element.line, field(), message),
                }
            }
            let out = node.out.iter().enumerate().map(|(j, out)| {
                let field = || format!("nodes[{i}].out[{j}]");
                self.define(
                    element.line,
                    field,
                    &out.name,
                    out.dtype,
                    &out.shape,
                    Some(node.call),
                )
            });
            let out = out.collect();
            nodes.push(Node {
                op: (*node.op).to_owned(),
                args,
                out,
                call: CallId(node.call),
                at: node.at.as_ref().map(|at| plain(at)),
                line: element.line,
            });
        }
        nodes
    }

    pub(super) fn call_outputs(&mut self, mut calls: Vec<Call>) -> Vec<Call> {
        for (i, element) in self.raw.calls.iter().enumerate() {
            for (j, name) in element.is.outputs.iter().enumerate() {
                let id = self.names.values.get(&**name).copied();
                let problem = match id {
                    None => Some(format!("no value is named `{}`", &**name)),
                    Some(ValueId(value)) if !is_inside(&calls, self.made_in[value], i) => {
                        Some(format!("`{}` is not made inside this call", &**name))
                    }
                    Some(id) => {
                        calls[i].outputs.push(id);
                        None
                    }
                };
                if let Some(message) = problem {
                    self.source
                        .error(element.line, format!("calls[{i}].outputs[{j}]"), message);
                }
            }
        }
        calls
    }
}

/// Whether something made in `call` was made inside the call `outer`.
fn is_inside(calls: &[Call], call: Option<usize>, outer: usize) -> bool {
    if call.is_some_and(|call| call >= calls.len()) {
        // The node's call is reported already.
        return true;
    }
    let mut next = call;
    while let Some(call) = next.filter(|&call| call >= outer) {
        if call == outer {
            return true;
        }
        next = calls[call].parent.map(|CallId(parent)| parent);
    }
    false
}
