//! Identifiers: the only place that makes Rust names.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Span};

/// What the runtime has for generated code, in the order of its `use` line.
pub const RUNTIME: &[&str] = &[
    "BatchNorm",
    "Conv1d",
    "Conv1dConfig",
    "Conv2d",
    "Conv2dConfig",
    "DType",
    "Device",
    "Embedding",
    "FileDtype",
    "GroupNorm",
    "KvCache",
    "LayerCache",
    "LayerNorm",
    "Linear",
    "ModelCache",
    "NoProbe",
    "Param",
    "Path",
    "Probe",
    "Result",
    "RequiredKey",
    "RmsNorm",
    "Scope",
    "Tensor",
    "Weights",
    "ops",
];

/// What generated code always imports of `pycandle::parity`.
pub const PARITY: &[&str] = &["Named", "Names", "Traced"];

/// What generated code names without importing it.
const PRELUDE: &[&str] = &[
    "Clone", "Debug", "Default", "Option", "Self", "String", "Vec",
];

/// An identifier token.
pub fn ident(name: &str) -> Ident {
    Ident::new(name, Span::call_site())
}

/// `some.path-name` as a value identifier.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut previous = '_';
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c.is_ascii_uppercase() {
            if previous.is_ascii_lowercase() || previous.is_ascii_digit() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else if c != '_' || previous != '_' {
            out.push(c);
        }
        previous = c;
    }
    let out = out.trim_matches('_').to_owned();
    if out.is_empty() {
        return "x".to_owned();
    }
    valid(if out.starts_with(|c: char| c.is_ascii_digit()) {
        format!("x{out}")
    } else {
        out
    })
}

/// A class name as a type identifier; an acronym is a word like any other: `Lstm` for `LSTM`.
pub fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut upper = true;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            upper = true;
        } else if upper {
            out.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    if out.len() > 2 && out.chars().all(|c| c.is_ascii_uppercase()) {
        out[1..].make_ascii_lowercase();
    }
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'M');
    }
    if is_taken(&out) {
        out.push_str("Module");
    }
    out
}

/// Whether generated code means something else by a type's name.
fn is_taken(name: &str) -> bool {
    [RUNTIME, PARITY, PRELUDE]
        .iter()
        .any(|names| names.contains(&name))
}

/// What is wrong with a name that a user chose for the model's struct.
pub fn unfit(name: &str) -> Option<String> {
    if is_kept(name) || name.starts_with("r#") {
        return Some(format!(
            "`{name}` cannot be the name of a Rust struct: give one such as `{}`",
            camel(name)
        ));
    }
    is_taken(name).then(|| {
        format!(
            "a model cannot be named `{name}`: generated code uses another type of that name; give \
             one such as `My{name}`"
        )
    })
}

/// What one element of a list is called: a `layer` of `layers`.
pub fn element(list: &str) -> String {
    let list = list.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    valid(singular(list).unwrap_or("layer").to_owned())
}

/// `layers` as `layer`; `None` for what is no plural.
pub fn singular(list: &str) -> Option<&str> {
    let hissing = list.strip_suffix("es");
    let hissing =
        hissing.filter(|one| ["ch", "sh", "ss", "x"].iter().any(|end| one.ends_with(end)));
    let one = hissing.or_else(|| list.strip_suffix('s').filter(|one| !one.ends_with('s')));
    one.filter(|one| one.len() > 2)
}

/// Adds an underscore to what Rust keeps for itself.
pub fn valid(name: String) -> String {
    match is_kept(&name) {
        true => name + "_",
        false => name,
    }
}

/// Whether a text is no identifier in every edition.
fn is_kept(name: &str) -> bool {
    // `syn` takes what only Rust 2024 keeps.
    name == "gen" || syn::parse_str::<Ident>(name).is_err()
}

/// Names that are unique within one scope.
#[derive(Debug, Default)]
pub struct Unique(BTreeSet<String>);

impl Unique {
    /// A scope in which these names are taken.
    pub fn new(taken: &[&str]) -> Self {
        Self(taken.iter().map(|s| (*s).to_owned()).collect())
    }

    /// The name itself, or with the first free number behind it.
    pub fn take(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        let mut n = 2;
        while !self.0.insert(candidate.clone()) {
            let separator = if name.ends_with(|c: char| c.is_ascii_digit()) {
                "_"
            } else {
                ""
            };
            candidate = format!("{name}{separator}{n}");
            n += 1;
        }
        candidate
    }
}

/// Module paths as one pattern: index segments in which they differ become `*`.
pub fn pattern<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    let starred = |path: &str| {
        let segments = path.split('.');
        let star = |s: &str| {
            if is_index(s) {
                "*".to_owned()
            } else {
                s.to_owned()
            }
        };
        segments.map(star).collect::<Vec<_>>().join(".")
    };
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for path in paths {
        let key = starred(path);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, all)) => all.push(path),
            None => groups.push((key, vec![path])),
        }
    }
    for (key, all) in groups {
        patterns.push(if all.len() == 1 {
            all[0].to_owned()
        } else {
            key
        });
    }
    patterns
}

/// Whether a segment of a path is the index of a list's element.
pub fn is_index(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit())
}
