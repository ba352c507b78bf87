//! Names of structs: the class, or, where that says too little, what a struct has or where it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::body::{Field, FieldKind, FieldPath};
use crate::dedup::Def;
use crate::graph::Graph;
use crate::names::{self, Unique};

/// The name of each struct; `root` is the last one's.
pub fn types(graph: &Graph, defs: &[Def], root: &str) -> Vec<String> {
    let places = places(defs);
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, def) in defs.iter().enumerate().take(defs.len() - 1) {
        classes.entry(&def.body.class).or_default().push(i);
    }
    let mut unique = Unique::new(&[root, &format!("{root}Output")]);
    // What the structs within it are named after, and its name.
    let mut named: Vec<(String, String)> = vec![Default::default(); defs.len()];
    // Names go to the outermost structs first, as they are written.
    for (i, def) in defs.iter().enumerate().rev() {
        let class = names::camel(&def.body.class);
        let same = classes.get(&*def.body.class).map_or(&[][..], Vec::as_slice);
        let (base, name) = if i + 1 == defs.len() {
            (root.to_owned(), root.to_owned())
        } else if is_library(graph, def) {
            let name = place(i, &places, &named).unwrap_or(class);
            (name.clone(), name)
        } else if let Some(field) = own_field(i, same, defs) {
            let name = format!("{class}With{}", names::camel(&field));
            (class, name)
        } else {
            let place = |i: usize| place(i, &places, &named);
            let others = same.iter().filter(|j| own_field(**j, same, defs).is_none());
            let others: Vec<usize> = others.copied().collect();
            let mut distinct = BTreeSet::new();
            match others
                .iter()
                .all(|j| place(*j).is_some_and(|n| distinct.insert(n)))
            {
                true if others.len() > 1 => {
                    let name = place(i).unwrap_or(class);
                    (name.clone(), name)
                }
                _ => (class.clone(), class),
            }
        };
        let name = if i + 1 == defs.len() {
            name
        } else {
            unique.take(&names::camel(&name))
        };
        named[i] = (base, name);
    }
    named.into_iter().map(|(_, name)| name).collect()
}

/// Whether the class is PyTorch's own, as a container is: it says nothing about this model.
fn is_library(graph: &Graph, def: &Def) -> bool {
    let call = &graph.m.calls[def.calls[0].0.0];
    graph.m.modules[call.module.0].library
}

/// The first field that none of the other structs of the class has.
fn own_field(def: usize, same: &[usize], defs: &[Def]) -> Option<String> {
    let fields = |i: usize| defs[i].body.fields.iter().filter_map(attribute);
    let others: BTreeSet<&str> = same
        .iter()
        .filter(|i| **i != def)
        .flat_map(|i| fields(*i))
        .collect();
    let mut own = fields(def).filter(|name| !same.is_empty() && !others.contains(name));
    own.next().filter(|_| same.len() > 1).map(str::to_owned)
}

/// The attribute of the module that a field is, or is in.
fn attribute(field: &Field) -> Option<&str> {
    match (&field.path, &field.kind) {
        (_, FieldKind::Number(_) | FieldKind::Const(_)) | (FieldPath::Root(_), _) => None,
        (FieldPath::Own(path), _) => path.split('.').next().filter(|s| !names::is_index(s)),
    }
}

/// A place that a struct is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The struct around it.
    parent: usize,
    /// The attribute, or one element of it when that is a list.
    attribute: Option<String>,
    /// The index, when it is one element.
    index: Option<String>,
}

/// The places of every struct.
fn places(defs: &[Def]) -> Vec<Vec<Place>> {
    let mut places: Vec<Vec<Place>> = vec![Vec::new(); defs.len()];
    for (parent, def) in defs.iter().enumerate() {
        for field in &def.body.fields {
            let (FieldPath::Own(path) | FieldPath::Root(path)) = &field.path;
            let mut segments: Vec<&str> = path.split('.').filter(|s| !s.is_empty()).collect();
            let (child, index, list) = match field.kind {
                FieldKind::Child(child, _) => {
                    let index = segments.pop_if(|s| names::is_index(s));
                    (child, index, index.is_some())
                }
                FieldKind::Children(child, ..) => (child, None, true),
                _ => continue,
            };
            let attribute = segments
                .iter()
                .rfind(|s| !names::is_index(s))
                .map(|s| match list {
                    true => names::singular(s).unwrap_or(s).to_owned(),
                    false => (*s).to_owned(),
                });
            places[child.0].push(Place {
                parent,
                attribute,
                index: index.map(str::to_owned),
            });
        }
    }
    places
}

/// A struct's place as a name: that of the struct around it, and the attribute.
fn place(def: usize, places: &[Vec<Place>], named: &[(String, String)]) -> Option<String> {
    let own = &places[def];
    let first = own.first()?;
    let (around, _) = &named[first.parent];
    let around = own
        .iter()
        .all(|p| named[p.parent].0 == *around)
        .then_some(around.as_str());
    let one = |of: fn(&Place) -> Option<&str>| {
        let value = of(first)?;
        own.iter().all(|p| of(p) == Some(value)).then_some(value)
    };
    let attribute = one(|p| p.attribute.as_deref()).or_else(|| {
        // `stage2` and `stage3` are stages.
        one(|p| {
            Some(
                p.attribute
                    .as_deref()?
                    .trim_end_matches(|c: char| c.is_ascii_digit()),
            )
        })
    });
    let index = one(|p| p.index.as_deref());
    let start = around.unwrap_or_default();
    match (attribute, index) {
        (Some(attribute), index) => {
            let here = |p: &Place| p.parent == first.parent && p.attribute == first.attribute;
            let alone = places.iter().flatten().filter(|p| here(p)).count() == own.len();
            let index = index.filter(|_| !alone).unwrap_or_default();
            Some(format!("{start}{}{index}", names::camel(attribute)))
        }
        (None, Some(index)) if around.is_some() => Some(format!("{start}{index}")),
        _ => None,
    }
}
