//! A model as JSON: the same as the text, with every module in full.

use serde_json::{Value, json};

use super::{Model, text};

/// The whole model.
pub fn model(model: &Model<'_>) -> Value {
    let manifest = model.manifest;
    let tensor = |name: &str, value: &pycandle_build::manifest::Value| {
        let shape = shape(text::shape(manifest, value));
        json!({"name": name, "dtype": text::dtype(value.dtype), "shape": shape})
    };
    let modules = model.modules.iter().map(|module| {
        let own = module.own.iter().map(|param| {
            json!({
                "name": param.name,
                "dtype": text::dtype(param.dtype),
                "shape": param.shape,
                "buffer": param.buffer,
                "tied_to": param.tied_to.map(|id| &manifest.params[id.0].name),
            })
        });
        json!({
            "path": module.path,
            "class": module.class,
            "calls": module.calls,
            "own": own.collect::<Vec<_>>(),
            "parameters": number(module.elements),
            "bytes": number(module.bytes),
        })
    });
    let inputs = manifest
        .inputs
        .iter()
        .map(|i| tensor(&i.name, &manifest.values[i.value.0]));
    let outputs = manifest.outputs.iter().map(|output| match output.value {
        pycandle_build::manifest::Source::Value(id) => tensor(&output.name, &manifest.values[id.0]),
        _ => json!({"name": output.name}),
    });
    let symbols = manifest
        .symbols
        .iter()
        .map(|s| json!({"name": s.name, "min": s.min, "max": s.max}));
    let conditions = manifest
        .conditions
        .iter()
        .map(|c| json!({"holds": text::holds(manifest, c), "at": c.at}));
    let unsupported = model
        .problems
        .as_ref()
        .map(|r| r.unsupported_ops())
        .unwrap_or_default();
    let unsupported = unsupported
        .iter()
        .map(|(op, times)| json!({"op": op, "calls": times}));
    json!({
        "name": manifest.name,
        "class": manifest.class,
        "dtype": text::dtype(manifest.dtype),
        "symbols": symbols.collect::<Vec<_>>(),
        "conditions": conditions.collect::<Vec<_>>(),
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
        "modules": modules.collect::<Vec<_>>(),
        "ops": model.ops,
        "unsupported": unsupported.collect::<Vec<_>>(),
        "problems": model.problems.as_ref().map(ToString::to_string),
    })
}

/// JSON numbers end at 64 bits here; nothing that fits in memory is larger.
fn number(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Known sizes as numbers, others as text.
fn shape(sizes: Vec<String>) -> Vec<Value> {
    let value = |size: String| size.parse::<u64>().map_or(Value::from(size), Value::from);
    sizes.into_iter().map(value).collect()
}
