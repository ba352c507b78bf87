//! In: the manifest of a model whose output can be its input. Out: the manifest of that model
//! applied to its own output again and again, as one graph without module borders.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use crate::{Error, Json, field_mut, index, items, list, number, rename, set, text, texts};

/// The manifest of the model applied `times` times, once at least.
///
/// # Errors
/// When `manifest` is not a manifest of one input and one output.
///
/// ```
/// assert!(pycandle_deepen::iterate("{}", 4).is_err());
/// ```
pub fn iterate(manifest: &str, times: usize) -> Result<String, Error> {
    let mut root: IndexMap<String, Json> = serde_json::from_str(manifest)?;
    let [input] = items(&root, "inputs")? else {
        return Err("not one input".into());
    };
    let input = text(input, "name").ok_or("an input without a name")?;
    let input = input.to_owned();
    let [Json::Map(output)] = items(&root, "outputs")? else {
        return Err("not one output".into());
    };
    let output = output.get("value").and_then(|value| text(value, "v"));
    let output = output.ok_or("an output that is no value")?.to_owned();
    let (nodes, calls) = (
        items(&root, "nodes")?.to_vec(),
        items(&root, "calls")?.to_vec(),
    );

    let outs = nodes.iter().flat_map(|node| match node {
        Json::Map(fields) => fields.get("out").map_or(&[][..], Json::items),
        _ => &[],
    });
    let made: HashSet<&str> = outs.filter_map(|out| text(out, "name")).collect();
    // A value of the n-th application, and what takes the input's place in it.
    let value = |name: &str, n: usize| match n {
        0 => name.to_owned(),
        n if made.contains(name) => format!("{name}_again{n}"),
        n if name == input => match n {
            1 => output.clone(),
            n => format!("{output}_again{}", n - 1),
        },
        _ => name.to_owned(),
    };
    let call = |old: usize, n: usize| match old {
        0 => 0,
        old => old + n * (calls.len() - 1),
    };
    let mut of_module: HashMap<&str, usize> = HashMap::new();
    for call in &calls {
        *of_module
            .entry(text(call, "module").unwrap_or_default())
            .or_default() += 1;
    }

    for n in 1..times {
        let copies = calls.iter().skip(1).cloned().map(|mut copy| {
            let module = text(&copy, "module").unwrap_or_default();
            let later = index(&copy, "index") + n * of_module.get(module).copied().unwrap_or(0);
            let parent = call(index(&copy, "parent"), n);
            let outputs = texts(&copy, "outputs").into_iter();
            let outputs = outputs.map(|name| Json::Text(value(&name, n))).collect();
            set(&mut copy, "index", number(later));
            set(&mut copy, "parent", number(parent));
            set(&mut copy, "outputs", Json::List(outputs));
            copy
        });
        list(&mut root, "calls")?.extend(copies);
        let copies = nodes.iter().cloned().map(|mut node| {
            let place = call(index(&node, "call"), n);
            set(&mut node, "call", number(place));
            if let Some(args) = field_mut(&mut node, "args") {
                rename(args, &|name| value(name, n));
            }
            if let Some(Json::List(outs)) = field_mut(&mut node, "out") {
                for out in outs {
                    let name = value(text(out, "name").unwrap_or_default(), n);
                    set(out, "name", Json::Text(name));
                }
            }
            node
        });
        list(&mut root, "nodes")?.extend(copies);
    }
    let last = Json::Text(value(&output, times.max(1) - 1));
    if let Some(first) = list(&mut root, "calls")?.first_mut() {
        set(first, "outputs", Json::List(vec![last.clone()]));
    }
    if let Some(out) = list(&mut root, "outputs")?.first_mut()
        && let Some(value) = field_mut(out, "value")
    {
        set(value, "v", last);
    }
    Ok(serde_json::to_string(&root)?)
}
