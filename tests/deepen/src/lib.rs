//! Manifests that are too large to be kept, made from recorded ones.
//!
//! In: the manifest of a model of few layers. Out: the manifest that recording the same model with
//! more layers gives, up to the names of values.
//!
//! A manifest of 80 layers is a megabyte and a half and says nothing that one of two does not, so
//! only the latter is kept.

pub mod experts;
mod iterate;
pub mod memory;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use iterate::iterate;

/// JSON that keeps the order of its keys, which is the order of an operator's arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Json {
    Map(IndexMap<String, Json>),
    List(Vec<Json>),
    Text(String),
    Leaf(serde_json::Value),
}

impl Json {
    fn items(&self) -> &[Json] {
        match self {
            Json::List(items) => items,
            _ => &[],
        }
    }
}

/// Why a manifest cannot be made deeper.
pub type Error = Box<dyn std::error::Error>;

/// The manifest with `layers` layers, by repeating the last layer of its one list of layers.
///
/// # Errors
/// When `manifest` is not a manifest of at least two equal layers, or has more than `layers`.
///
/// ```
/// assert!(pycandle_deepen::deepen("{}", 4).is_err());
/// ```
pub fn deepen(manifest: &str, layers: usize) -> Result<String, Error> {
    let mut root: IndexMap<String, Json> = serde_json::from_str(manifest)?;
    let template = Template::find(&root)?;
    let more = template.last + 1..layers;
    if layers <= template.last {
        return Err(format!("the manifest has {} layers already", template.last + 1).into());
    }
    template.repeat_parameters(list(&mut root, "parameters")?, &more);
    template.repeat_modules(list(&mut root, "modules")?, &more);
    template.repeat_calls(list(&mut root, "calls")?, &more);
    template.repeat_nodes(list(&mut root, "nodes")?, &more);
    template.repeat_states(&mut root, &more)?;
    if let Some(Json::Map(config)) = root.get_mut("config") {
        config.insert("num_hidden_layers".to_owned(), number(layers));
    }
    Ok(serde_json::to_string(&root)?)
}

/// The last layer of a manifest, which the further ones repeat.
struct Template {
    /// Index of the layer.
    last: usize,
    /// `model.layers.`
    list: String,
    /// Its calls, which lie together.
    calls: Range<usize>,
    /// Values that its nodes make.
    made: HashSet<String>,
    /// What it reads of the layer before, and what stands there in its own outputs.
    before: HashMap<String, String>,
}

impl Template {
    fn find(root: &IndexMap<String, Json>) -> Result<Self, Error> {
        let modules = items(root, "modules")?;
        let path = modules.iter().filter_map(|m| text(m, "path"));
        let list = path.clone().find_map(|p| p.strip_suffix(".0"));
        let list = format!("{}.", list.ok_or("no list of modules")?);
        let last = path
            .filter_map(|p| p.strip_prefix(&list)?.parse::<usize>().ok())
            .max()
            .filter(|&last| last > 0)
            .ok_or("fewer than two layers")?;
        let mut template = Self {
            last,
            list,
            calls: 0..0,
            made: HashSet::new(),
            before: HashMap::new(),
        };
        let calls = items(root, "calls")?;
        let within = |layer: usize| {
            let inside = calls
                .iter()
                .map(|c| template.holds(layer, text(c, "module")));
            let inside: Vec<bool> = inside.collect();
            let first = inside.iter().position(|&i| i).unwrap_or_default();
            first..first + inside.iter().filter(|&&i| i).count()
        };
        let (before, own) = (within(last - 1), within(last));
        if before.len() != own.len() {
            return Err("the last two layers differ".into());
        }
        for (left, right) in calls[before].iter().zip(&calls[own.clone()]) {
            let (left, right) = (texts(left, "outputs"), texts(right, "outputs"));
            template.before.extend(left.into_iter().zip(right));
        }
        template.calls = own;
        for node in items(root, "nodes")? {
            if template.calls.contains(&index(node, "call")) {
                let Some(Json::List(out)) = field(node, "out") else {
                    continue;
                };
                let names = out.iter().filter_map(|o| text(o, "name"));
                template.made.extend(names.map(str::to_owned));
            }
        }
        Ok(template)
    }

    /// Whether a module belongs to a layer.
    fn holds(&self, layer: usize, module: Option<&str>) -> bool {
        let rest = module.and_then(|m| m.strip_prefix(&self.list));
        rest.is_some_and(|r| r.split('.').next() == Some(layer.to_string().as_str()))
    }

    /// The name, in a further layer, of a value that the last layer makes or reads.
    fn value(&self, name: &str, layer: usize) -> String {
        if layer == self.last {
            name.to_owned()
        } else if self.made.contains(name) {
            format!("{name}_layer{layer}")
        } else if let Some(own) = self.before.get(name) {
            self.value(own, layer - 1)
        } else {
            name.to_owned()
        }
    }

    /// A parameter, module or cache of the last layer, in a further one.
    fn place(&self, name: &str, layer: usize) -> String {
        let prefix = format!("{}{}", self.list, self.last);
        let rest = name.strip_prefix(&prefix).unwrap_or_default();
        format!("{}{layer}{rest}", self.list)
    }

    fn repeat_parameters(&self, parameters: &mut Vec<Json>, more: &Range<usize>) {
        self.repeat(parameters, "name", more);
    }

    fn repeat_modules(&self, modules: &mut Vec<Json>, more: &Range<usize>) {
        self.repeat(modules, "path", more);
    }

    /// Repeats the entries whose `key` lies in the last layer.
    fn repeat(&self, entries: &mut Vec<Json>, key: &str, more: &Range<usize>) {
        let inside = |e: &Json| self.holds(self.last, text(e, key));
        let own: Vec<Json> = entries.iter().filter(|e| inside(e)).cloned().collect();
        let end = entries.iter().rposition(inside).map_or(0, |i| i + 1);
        let copies = more.clone().flat_map(|layer| {
            own.iter().cloned().map(move |mut entry| {
                let name = self.place(text(&entry, key).unwrap_or_default(), layer);
                set(&mut entry, key, Json::Text(name));
                entry
            })
        });
        let copies: Vec<Json> = copies.collect();
        entries.splice(end..end, copies);
    }

    fn repeat_calls(&self, calls: &mut Vec<Json>, more: &Range<usize>) {
        let own = calls[self.calls.clone()].to_vec();
        let deepest = more.end - 1;
        for (i, call) in calls.iter_mut().enumerate() {
            if i >= self.calls.end {
                self.shift(call, "parent", deepest);
            }
            if !self.calls.contains(&i) {
                self.rename_outputs(call, deepest);
            }
        }
        let copies = more.clone().flat_map(|layer| {
            own.iter().cloned().map(move |mut call| {
                let module = self.place(text(&call, "module").unwrap_or_default(), layer);
                set(&mut call, "module", Json::Text(module));
                self.rename_outputs(&mut call, layer);
                self.shift(&mut call, "parent", layer);
                call
            })
        });
        let copies: Vec<Json> = copies.collect();
        calls.splice(self.calls.end..self.calls.end, copies);
    }

    fn rename_outputs(&self, call: &mut Json, layer: usize) {
        let outputs = texts(call, "outputs").into_iter();
        let outputs = outputs.map(|name| match self.made.contains(&name) {
            true => Json::Text(self.value(&name, layer)),
            false => Json::Text(name),
        });
        set(call, "outputs", Json::List(outputs.collect()));
    }

    /// Moves the index of a call behind the copies of the last layer, up to `layer`.
    fn shift(&self, entry: &mut Json, key: &str, layer: usize) {
        let old = index(entry, key);
        if old != usize::MAX && old >= self.calls.start {
            let by = self.calls.len() * (layer - self.last);
            set(entry, key, number(old + by));
        }
    }

    fn repeat_nodes(&self, nodes: &mut Vec<Json>, more: &Range<usize>) {
        let inside = |n: &Json| self.calls.contains(&index(n, "call"));
        let own: Vec<Json> = nodes.iter().filter(|n| inside(n)).cloned().collect();
        let end = nodes.iter().rposition(inside).map_or(0, |i| i + 1);
        let deepest = more.end - 1;
        for node in &mut nodes[end..] {
            if let Some(args) = field_mut(node, "args") {
                rename(args, &|name| match self.made.contains(name) {
                    true => self.value(name, deepest),
                    false => name.to_owned(),
                });
            }
            if index(node, "call") >= self.calls.end {
                self.shift(node, "call", deepest);
            }
        }
        let copies = more.clone().flat_map(|layer| {
            own.iter().cloned().map(move |mut node| {
                self.shift(&mut node, "call", layer);
                if let Some(args) = field_mut(&mut node, "args") {
                    let caches = format!("_{}_", self.last);
                    rename(args, &|name| {
                        if self.holds(self.last, Some(name)) {
                            self.place(name, layer)
                        } else if self.made.contains(name) || self.before.contains_key(name) {
                            self.value(name, layer)
                        } else {
                            name.replacen(&caches, &format!("_{layer}_"), 1)
                        }
                    });
                }
                if let Some(Json::List(out)) = field_mut(&mut node, "out") {
                    for value in out {
                        let name = self.value(text(value, "name").unwrap_or_default(), layer);
                        set(value, "name", Json::Text(name));
                    }
                }
                node
            })
        });
        let copies: Vec<Json> = copies.collect();
        nodes.splice(end..end, copies);
    }

    /// Caches: their inputs, outputs and states.
    fn repeat_states(
        &self,
        root: &mut IndexMap<String, Json>,
        more: &Range<usize>,
    ) -> Result<(), Error> {
        let states = items(root, "states")?.iter();
        let states = states.filter(|s| index(s, "layer") == self.last);
        let states: Vec<Json> = states.cloned().collect();
        for (section, key) in [("inputs", "input"), ("outputs", "output"), ("states", "")] {
            let entries = list(root, section)?;
            let mut copies = Vec::new();
            for layer in more.clone() {
                for state in &states {
                    let own = text(state, key);
                    let mut copy = match key {
                        "" => state.clone(),
                        _ => {
                            let found = entries.iter().find(|e| text(e, "name") == own);
                            found.ok_or("a state without its tensor")?.clone()
                        }
                    };
                    self.move_state(&mut copy, layer);
                    copies.push(copy);
                }
            }
            entries.extend(copies);
        }
        Ok(())
    }

    fn move_state(&self, entry: &mut Json, layer: usize) {
        let Json::Map(fields) = entry else { return };
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("layer", value) => *value = number(layer),
                ("path", Json::Text(path)) => {
                    *path = path.replacen(&format!("[{}]", self.last), &format!("[{layer}]"), 1);
                }
                ("input" | "output", Json::Text(name)) => {
                    *name = name.replacen(&format!("_{}_", self.last), &format!("_{layer}_"), 1);
                }
                ("name", Json::Text(name)) => {
                    *name = name.replacen(&format!("_{}_", self.last), &format!("_{layer}_"), 1);
                }
                ("value", value) => rename(value, &|name| self.value(name, layer)),
                _ => {}
            }
        }
    }
}

/// Renames the values and parameters that an argument refers to.
fn rename(json: &mut Json, f: &impl Fn(&str) -> String) {
    match json {
        Json::Map(fields) => {
            for (key, value) in fields {
                match value {
                    Json::Text(name) if matches!(key.as_str(), "v" | "param") => *name = f(name),
                    other => rename(other, f),
                }
            }
        }
        Json::List(items) => items.iter_mut().for_each(|item| rename(item, f)),
        _ => {}
    }
}

fn items<'a>(root: &'a IndexMap<String, Json>, key: &str) -> Result<&'a [Json], Error> {
    match root.get(key) {
        Some(Json::List(items)) => Ok(items),
        _ => Err(format!("no list `{key}`").into()),
    }
}

fn list<'a>(root: &'a mut IndexMap<String, Json>, key: &str) -> Result<&'a mut Vec<Json>, Error> {
    match root.get_mut(key) {
        Some(Json::List(items)) => Ok(items),
        _ => Err(format!("no list `{key}`").into()),
    }
}

fn field<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    match json {
        Json::Map(fields) => fields.get(key),
        _ => None,
    }
}

fn field_mut<'a>(json: &'a mut Json, key: &str) -> Option<&'a mut Json> {
    match json {
        Json::Map(fields) => fields.get_mut(key),
        _ => None,
    }
}

fn set(json: &mut Json, key: &str, value: Json) {
    if let Some(place) = field_mut(json, key) {
        *place = value;
    }
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    match field(json, key) {
        Some(Json::Text(text)) => Some(text),
        _ => None,
    }
}

fn texts(json: &Json, key: &str) -> Vec<String> {
    let Some(Json::List(items)) = field(json, key) else {
        return Vec::new();
    };
    let texts = items.iter().filter_map(|item| match item {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

/// A number, or one that no list is long enough for.
fn index(json: &Json, key: &str) -> usize {
    match field(json, key) {
        Some(Json::Leaf(value)) => value.as_u64().map_or(usize::MAX, |n| n as usize),
        _ => usize::MAX,
    }
}

fn number(n: usize) -> Json {
    Json::Leaf(n.into())
}
