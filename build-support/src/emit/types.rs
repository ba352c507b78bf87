//! Names of structs: the class, or, where that says too little, what a struct has or where it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::body::{Field, FieldKind, FieldPath};
use crate::dedup::Def;
use crate::graph::Graph;
use crate::names::{self, Unique};

/// What a model's types are called.
#[derive(Debug)]
pub struct Types {
    /// Each struct; the last one is the model.
    pub structs: Vec<String>,
    /// What the model returns, when that is a struct.
    pub output: String,
}

/// The name of each struct; `root` is the last one's.
pub fn types(graph: &Graph, defs: &[Def], root: &str) -> Types {
    let places = places(defs);
    let prefix = prefix(graph, defs).unwrap_or_else(|| root.to_owned());
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, def) in defs.iter().enumerate().take(defs.len() - 1) {
        classes.entry(&def.body.class).or_default().push(i);
    }
    let mut unique = Unique::new(&[root]);
    // What the structs within it are named after, and its name.
    let mut named: Vec<(String, String)> = vec![Default::default(); defs.len()];
    // Names go to the outermost structs first, as they are written.
    for (i, def) in defs.iter().enumerate().rev() {
        let class = names::camel(&def.body.class);
        let same = classes.get(&*def.body.class).map_or(&[][..], Vec::as_slice);
        let (base, name) = if i + 1 == defs.len() {
            (prefix.clone(), root.to_owned())
        } else if is_container(graph, def) {
            let name = place(i, &places, &named).unwrap_or(class);
            (name.clone(), name)
        } else if let Some(field) = own_field(i, same, defs) {
            let name = format!("{class}With{}", names::camel(&field));
            (class, name)
        } else {
            let place = |i: usize| place(i, &places, &named);
            let others = same.iter().filter(|j| own_field(**j, same, defs).is_none());
            let others: Vec<usize> = others.copied().collect();
            // One of them may have no place that says more than the class.
            let mut distinct = BTreeSet::new();
            let told = others.iter().all(|j| distinct.insert(place(*j)));
            let name = place(i)
                .filter(|_| told && others.len() > 1)
                .unwrap_or(class);
            (name.clone(), name)
        };
        let name = if i + 1 == defs.len() {
            name
        } else {
            unique.take(&names::camel(&name))
        };
        named[i] = (base, name);
    }
    let output = [format!("{root}Output"), format!("{root}ModelOutput")];
    let free = |name: &&String| named.iter().all(|(_, taken)| taken != *name);
    let output = match output.iter().find(free) {
        Some(output) => output.clone(),
        None => unique.take(&output[1]),
    };
    Types {
        structs: named.into_iter().map(|(_, name)| name).collect(),
        output,
    }
}

/// Whether the class is PyTorch's own and only holds others by number, as `Sequential` does: it says
/// nothing about this model.
fn is_container(graph: &Graph, def: &Def) -> bool {
    let call = &graph.m.calls[def.calls[0].0.0];
    let numbered = def.body.fields.iter().all(|f| attribute(f).is_none());
    graph.m.modules[call.module.0].library && numbered
}

/// The words that the names of all the model's own classes begin with, the model's among them.
fn prefix(graph: &Graph, defs: &[Def]) -> Option<String> {
    let library = |def: &&Def| graph.m.modules[graph.m.calls[def.calls[0].0.0].module.0].library;
    let own = defs.iter().filter(|def| !library(def));
    let classes: Vec<String> = own.map(|def| names::camel(&def.body.class)).collect();
    let (first, others) = classes.split_first()?;
    (!others.is_empty()).then_some(())?;
    let mut common = first.len();
    for other in others {
        let same = first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
        common = common.min(same.count());
    }
    // A word ends where each of them goes on with a capital, or is over.
    let ends = |at: usize| {
        let next = |class: &String| class.as_bytes().get(at).is_none_or(u8::is_ascii_uppercase);
        at > 1 && classes.iter().all(next)
    };
    let end = (1..=common).rev().find(|at| ends(*at))?;
    Some(first[..end].to_owned())
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
        (FieldPath::Own(path), _) => {
            let first = path.split('.').next();
            first.filter(|s| !s.is_empty() && !names::is_index(s))
        }
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
    // Places in different structs do not say which model they are of.
    let around = own
        .iter()
        .all(|p| named[p.parent].0 == *around)
        .then_some(around.as_str())?;
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
    match (attribute, index) {
        (Some(attribute), index) => {
            let here = |p: &Place| p.parent == first.parent && p.attribute == first.attribute;
            let alone = places.iter().flatten().filter(|p| here(p)).count() == own.len();
            let index = index.filter(|_| !alone).unwrap_or_default();
            Some(format!("{around}{}{index}", names::camel(attribute)))
        }
        (None, Some(index)) => Some(format!("{around}{index}")),
        (None, None) => None,
    }
}
