//! `config.json` beside the weights, or a GGUF's metadata, held against the config of the trace.
//!
//! Only what changes the numbers that a model computes is compared, and only what both sides say.

mod gguf;
mod settings;

use serde_json::{Map, Value as Json, json};

use super::Expected;
use super::mismatch::{Class, Finding, path};
use crate::open::Checkpoint;
use settings::{NAMES, ROPE};

/// Configs of the language model within that of a larger one; they are what the larger one is.
const TEXT: &[&str] = &["text_config", "llm_config", "language_config"];
/// Configs that are about something else than a part of the model.
const OTHERS: &[&str] = &[
    "quantization_config",
    "generation_config",
    "compression_config",
];
/// Configs within configs deeper than this are none.
const DEPTH: usize = 4;

/// The facts of a `config.json` that are compared, as JSON on one line; `None` where it is no JSON
/// object. The facts of facts are the facts.
///
/// ```
/// let config = r#"{"n_layer": 12, "n_embd": 768, "use_cache": true}"#;
/// let facts = pycandle_checkpoint::config_facts(config);
/// assert_eq!(facts.as_deref(), Some(r#"{"hidden_size":768,"num_hidden_layers":12}"#));
/// ```
pub fn config_facts(config: &str) -> Option<String> {
    parse(config).map(|facts| Json::Object(facts).to_string())
}

fn parse(config: &str) -> Option<Map<String, Json>> {
    match serde_json::from_str(config) {
        Ok(Json::Object(config)) => Some(facts(&config, DEPTH)),
        _ => None,
    }
}

fn facts(config: &Map<String, Json>, depth: usize) -> Map<String, Json> {
    let mut facts = Map::new();
    for key in ["model_type", "architectures", "_commit_hash", "_repository"] {
        facts.extend(config.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    collect(config, NAMES, &mut facts);
    // A window that is switched off, or that is said to be none, are the same; one that is not
    // spoken of is not known.
    let off = config.get("use_sliding_window") == Some(&Json::Bool(false));
    if off || config.get("sliding_window") == Some(&Json::Null) {
        facts.insert("sliding_window".into(), Json::Null);
    }
    let rope = rope(config);
    if !rope.is_empty() {
        facts.insert("rope_parameters".into(), Json::Object(rope));
    }
    for (key, value) in config {
        let Some(inner) = value.as_object().filter(|_| depth > 0) else {
            continue;
        };
        let text = TEXT.contains(&&**key);
        let is_part = key.ends_with("_config") || inner.contains_key("model_type");
        if !is_part || OTHERS.contains(&&**key) {
            continue;
        }
        let mut inner = self::facts(inner, depth - 1);
        if text {
            let own = inner.remove("model_type");
            inner.remove("architectures");
            facts.extend(inner);
            inner = own
                .into_iter()
                .map(|own| ("model_type".to_owned(), own))
                .collect();
        }
        if !inner.is_empty() {
            facts.insert(key.clone(), Json::Object(inner));
        }
    }
    facts
}

/// What is there under one of its names, by its usual name. An empty list says as little as `null`:
/// a library puts in what it stands for.
fn collect(from: &Map<String, Json>, names: &[(&str, &[&str])], into: &mut Map<String, Json>) {
    for (name, others) in names {
        let mut all = [*name].into_iter().chain(others.iter().copied());
        let is_said =
            |value: &&Json| !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty());
        let value = all.find_map(|name| from.get(name).filter(is_said));
        into.extend(value.map(|value| ((*name).to_owned(), value.clone())));
    }
}

/// Rotary embedding; where layers differ in it, by the type of layer.
fn rope(config: &Map<String, Json>) -> Map<String, Json> {
    let mut rope = Map::new();
    collect(config, &ROPE[..settings::ROPE_OUTSIDE], &mut rope);
    let told = ["rope_parameters", "rope_scaling"];
    let objects = told.iter().filter_map(|key| config.get(*key)?.as_object());
    for object in objects {
        collect(object, ROPE, &mut rope);
        for (key, inner) in object {
            if let Some(inner) = inner.as_object() {
                let mut by_type = Map::new();
                collect(inner, ROPE, &mut by_type);
                rope.insert(key.clone(), Json::Object(by_type));
            }
        }
    }
    let by_type = rope.values().any(Json::is_object);
    if rope.contains_key("rope_theta") && !by_type {
        rope.entry("rope_type").or_insert_with(|| json!("default"));
    }
    rope
}

/// What the two sides say differently of one thing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub name: String,
    pub file: Json,
    pub trace: Json,
}

/// Longer values are not shown, only where lists begin to differ.
const LONGEST: usize = 80;

impl Difference {
    fn line(&self, place: &str) -> String {
        let Self { name, file, trace } = self;
        if let (Json::Array(a), Json::Array(b)) = (file, trace)
            && [file, trace]
                .iter()
                .any(|list| list.to_string().len() > LONGEST)
        {
            if a.len() != b.len() {
                let (a, b) = (a.len(), b.len());
                return format!("config: {name} has {a} entries in {place}, {b} in the trace");
            }
            let mut differ = (0..a.len()).filter(|&i| !is_same(&a[i], &b[i]));
            let first = differ.next().unwrap_or_default();
            let more = match differ.count() {
                0 => String::new(),
                more => format!(", and {more} more of its {} entries differ", a.len()),
            };
            return format!(
                "config: {name}[{first}] is {} in {place}, {} in the trace{more}",
                shown(&a[first]),
                shown(&b[first])
            );
        }
        let (file, trace) = (shown(file), shown(trace));
        format!("config: {name} is {file} in {place}, {trace} in the trace")
    }
}

/// A value as a report shows it.
fn shown(value: &Json) -> String {
    if gguf::is_per_layer(value) {
        return "not the same in every layer".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Where the config of the trace and that of the weights differ.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub differences: Vec<Difference>,
    pub findings: Vec<Finding>,
    /// Whether there is a `config.json` from which to record again.
    pub has_config: bool,
    /// Whether both sides say how many layers there are, and say the same.
    pub same_layers: bool,
}

/// Holds the config of the trace against what is beside, or in, the weights.
pub(super) fn compare(expected: &Expected<'_>, checkpoint: &Checkpoint) -> Compared {
    let mut compared = Compared::default();
    let Some(mut trace) = expected.config.and_then(parse) else {
        return compared;
    };
    let place = place(checkpoint);
    let file = beside(checkpoint, &place, &mut compared);
    if checkpoint.is_gguf() {
        trace = gguf::told(&trace);
    }
    // What a file says of itself comes before what lies beside it.
    let (mut file, place) = match gguf::facts(checkpoint, &trace) {
        Some(facts) => (facts, path(checkpoint.shown())),
        None => (file, place),
    };
    file = section_of(&trace, file);
    differences(&trace, &file, "", &mut compared.differences);
    if checkpoint.is_gguf() {
        let added = gguf::added(checkpoint, &trace, &file);
        compared.differences.extend(added);
    }
    let layers = |facts: &Map<String, Json>| facts.get(NAMES[0].0).cloned();
    compared.same_layers = layers(&trace).is_some() && layers(&trace) == layers(&file);
    if !compared.differences.is_empty() {
        let lines = compared.differences.iter().map(|d| d.line(&place));
        let finding = Finding::new(Class::Config, compared.differences.len(), lines);
        compared.findings.push(finding);
    }
    compared
        .findings
        .extend(revision(&trace, &file, checkpoint));
    if let (Some(trace), Some(file)) = (trace.get("architectures"), file.get("architectures"))
        && trace != file
    {
        let line = format!("origin: architectures are {file} in {place}, {trace} in the trace");
        compared
            .findings
            .push(Finding::new(Class::Origin, 1, [line]));
    }
    compared
}

/// What the config beside the weights says; where it cannot be read, that is a finding.
fn beside(checkpoint: &Checkpoint, place: &str, compared: &mut Compared) -> Map<String, Json> {
    let said = match checkpoint.config() {
        Ok(None) => return Map::new(),
        Ok(Some(text)) => parse(&text)
            .ok_or_else(|| format!("unread: {place} is no JSON object, and was not compared")),
        Err(error) => Err(format!("unread: no config was compared: {error}")),
    };
    match said {
        Ok(facts) => {
            compared.has_config = true;
            facts
        }
        Err(line) => {
            let finding = Finding::new(Class::Unread, 1, [line]);
            compared.findings.push(finding);
            Map::new()
        }
    }
}

/// `weights/config.json`, or the snapshot that holds what was in it.
fn place(checkpoint: &Checkpoint) -> String {
    match checkpoint.is_snapshot() {
        true => path(checkpoint.shown()),
        false => path(&checkpoint.config_path().1),
    }
}

/// The part of a config that the trace is of: of a model of several parts, one may have been traced.
/// Of several parts of its kind, the one that differs least.
fn section_of(trace: &Map<String, Json>, file: Map<String, Json>) -> Map<String, Json> {
    let Some(kind) = trace.get("model_type") else {
        return file;
    };
    if file.get("model_type") == Some(kind) {
        return file;
    }
    let mut sections = Vec::new();
    find_sections(kind, &file, &mut sections);
    let differing = |section: &Map<String, Json>| {
        let mut found = Vec::new();
        differences(trace, section, "", &mut found);
        found.len()
    };
    sections.into_iter().min_by_key(differing).unwrap_or(file)
}

fn find_sections(kind: &Json, file: &Map<String, Json>, found: &mut Vec<Map<String, Json>>) {
    for (key, config) in file {
        let Some(config) = config.as_object() else {
            continue;
        };
        match (
            config.get("model_type") == Some(kind),
            TEXT.contains(&&**key),
        ) {
            // A language model's facts are those of the whole.
            (true, true) => {
                let mut whole = file.clone();
                whole.remove("model_type");
                whole.remove("architectures");
                found.push(whole);
            }
            (true, false) => found.push(config.clone()),
            (false, _) => find_sections(kind, config, found),
        }
    }
}

fn differences(
    trace: &Map<String, Json>,
    file: &Map<String, Json>,
    within: &str,
    found: &mut Vec<Difference>,
) {
    let order = |key: &str| NAMES.iter().position(|(name, _)| *name == key);
    let mut keys: Vec<&String> = trace.keys().filter(|key| file.contains_key(*key)).collect();
    // The number of layers first: it says most.
    keys.sort_by_key(|key| (order(key).is_none() && *key != "model_type", order(key)));
    for key in keys {
        let (ours, theirs) = (&trace[key], &file[key]);
        let name = match (within, &**key) {
            ("", key) => key.to_owned(),
            ("rope_parameters", key) if key.starts_with("rope_") => key.to_owned(),
            (within, key) => format!("{within}.{key}"),
        };
        match (ours, theirs) {
            (Json::Object(ours), Json::Object(theirs)) => differences(ours, theirs, &name, found),
            _ if matches!(&**key, "architectures" | "_commit_hash" | "_repository") => {}
            _ if is_same(ours, theirs) => {}
            _ => found.push(Difference {
                name,
                file: theirs.clone(),
                trace: ours.clone(),
            }),
        }
    }
}

/// Whether a value of the trace and one of the file mean the same; a GGUF has its numbers in 32 bits.
fn is_same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()),
            _ => a == b,
        },
        (Json::String(a), Json::String(b)) => usual(a) == usual(b),
        (Json::Array(_), file) if gguf::is_per_layer(file) => true,
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        _ => a == b,
    }
}

/// The usual name of what has several: activations, kinds of rotary embedding.
fn usual(name: &str) -> &str {
    match name {
        "swish" => "silu",
        "gelu_new" | "gelu_fast" | "gelu_python_tanh" | "gelu_pytorch_tanh" => "gelu_tanh",
        "gelu_python" => "gelu",
        "su" => "longrope",
        name => name,
    }
}

/// Another commit of the same repository: `_commit_hash` on both sides, or a folder of the hub's
/// cache (`models--OWNER--NAME/snapshots/COMMIT`) against that of the trace. Versions of libraries
/// show nothing: files are written again without changing.
fn revision(
    trace: &Map<String, Json>,
    file: &Map<String, Json>,
    checkpoint: &Checkpoint,
) -> Option<Finding> {
    let traced = trace.get("_commit_hash")?.as_str()?;
    let own = file.get("_commit_hash").and_then(Json::as_str);
    let origin = checkpoint.origin();
    let traced_of = trace.get("_repository").and_then(Json::as_str);
    let stored_of = file.get("_repository").and_then(Json::as_str);
    let stored_of = stored_of
        .map(str::to_owned)
        .or_else(|| origin.as_ref()?.repository.clone());
    if traced_of.zip(stored_of).is_some_and(|(a, b)| a != b) {
        return None;
    }
    let stored = own.map(str::to_owned).or_else(|| Some(origin?.commit))?;
    (stored != traced).then(|| {
        let line = format!(
            "revision: the weights are of commit {stored}, the trace of {traced}: take both from one commit"
        );
        Finding::new(Class::Revision, 1, [line])
    })
}

#[cfg(test)]
mod tests;
