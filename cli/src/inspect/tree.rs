//! The module tree with what each module owns and holds.

use std::collections::HashMap;

use pycandle_build::manifest::{Dtype, Manifest, Param};

/// A module of the tree, in definition order.
pub struct Module<'a> {
    /// Dotted path; the root's is empty.
    pub path: &'a str,
    /// Python class.
    pub class: &'a str,
    /// Indices of its children.
    pub children: Vec<usize>,
    /// Its own parameters and buffers.
    pub own: Vec<&'a Param>,
    /// How often it is called.
    pub calls: usize,
    /// Elements of the parameters in it and below it, shared ones once.
    pub elements: u128,
    /// Their bytes, in the dtype of the trace.
    pub bytes: u128,
}

impl Module<'_> {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }
}

/// All modules of a manifest.
pub fn modules(manifest: &Manifest) -> Vec<Module<'_>> {
    let mut index = HashMap::new();
    let mut parents = Vec::new();
    let mut modules: Vec<Module> = Vec::new();
    for (i, module) in manifest.modules.iter().enumerate() {
        let parent = index.get(parent(&module.path)).copied().filter(|_| i > 0);
        if let Some(parent) = parent {
            let parent: &mut Module = &mut modules[parent];
            parent.children.push(i);
        }
        parents.push(parent);
        index.insert(&*module.path, i);
        modules.push(Module {
            path: &module.path,
            class: &module.class,
            children: Vec::new(),
            own: Vec::new(),
            calls: 0,
            elements: 0,
            bytes: 0,
        });
    }
    for call in &manifest.calls {
        modules[call.module.0].calls += 1;
    }
    for param in &manifest.params {
        let mut owner = parent(&param.name);
        while !index.contains_key(owner) && !owner.is_empty() {
            owner = parent(owner);
        }
        let mut next = index.get(owner).copied();
        if let Some(owner) = next {
            modules[owner].own.push(param);
        }
        let elements = elements(&param.shape);
        while let Some(module) = next.filter(|_| param.tied_to.is_none()) {
            modules[module].elements += elements;
            modules[module].bytes += elements * bytes_of(param.dtype);
            next = parents[module];
        }
    }
    modules
}

/// Number of elements of a tensor.
pub fn elements(shape: &[usize]) -> u128 {
    shape.iter().map(|&dim| dim as u128).product()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn bytes_of(dtype: Dtype) -> u128 {
    match dtype {
        Dtype::Bool | Dtype::Uint8 | Dtype::Int8 => 1,
        Dtype::Int16 | Dtype::Float16 | Dtype::Bfloat16 => 2,
        Dtype::Int32 | Dtype::Float32 => 4,
        Dtype::Int64 | Dtype::Float64 => 8,
    }
}
