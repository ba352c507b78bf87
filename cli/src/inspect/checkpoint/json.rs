//! A checkpoint as JSON: the same as the text, with every module and every name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Entry, Status, Sum, View};
use crate::outcome;

/// The whole checkpoint.
pub fn view(view: &View<'_>) -> Value {
    let total = view.total();
    let files = view.files.iter().map(|file| {
        json!({
            "name": file.name,
            "bytes": file.bytes,
            "tensors": file.tensors,
            "tensor_bytes": file.tensor_bytes,
        })
    });
    let formats = view.formats().into_iter();
    let formats = formats.map(|(dtype, of)| (dtype.to_string(), sum(of)));
    let mut value = json!({
        "place": view.place,
        "lock": view.lock,
        "from_lock": view.from_lock,
        "tensors": total.tensors,
        "bytes": total.bytes,
        "files": files.collect::<Vec<_>>(),
        "formats": formats.collect::<serde_json::Map<_, _>>(),
        "modules": modules(view),
    });
    if let (Value::Object(entries), true) = (&mut value, view.has_model) {
        entries.insert("needed".into(), sum(view.sum(Status::Needed)));
        let twins = of(view, Status::Tied);
        let twins = twins.map(|entry| json!({"name": entry.name, "twin": entry.key}));
        entries.insert("tied".into(), twins.collect());
        for status in [Status::Missing, Status::Unneeded] {
            let names = of(view, status).map(|entry| Value::from(&*entry.name));
            entries.insert(status.name().into(), names.collect());
        }
        let findings = view.mismatch.map_or_else(Vec::new, outcome::mismatch);
        entries.insert("findings".into(), findings.into());
        let report = view.mismatch.map(outcome::report);
        entries.insert("mismatch".into(), report.into());
    }
    value
}

fn of<'v>(view: &'v View<'_>, status: Status) -> impl Iterator<Item = &'v Entry<'v>> {
    view.entries
        .iter()
        .filter(move |entry| entry.status == status)
}

fn sum(sum: Sum) -> Value {
    json!({"tensors": sum.tensors, "bytes": sum.bytes})
}

/// Every module with what is in it and below it, and the numbers of the files that hold it.
fn modules(view: &View<'_>) -> Value {
    let mut modules: BTreeMap<&str, (Sum, BTreeSet<usize>)> = BTreeMap::new();
    for entry in &view.entries {
        let is_there = !matches!(entry.status, Status::Missing | Status::Tied);
        let mut path = &*entry.name;
        loop {
            path = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let (sum, files) = modules.entry(path).or_default();
            *sum = sum.add(u64::from(is_there), entry.bytes);
            files.extend(entry.place.as_ref().map(|place| place.0));
            if path.is_empty() {
                break;
            }
        }
    }
    let modules = modules.into_iter().map(|(path, (sum, files))| {
        json!({"path": path, "tensors": sum.tensors, "bytes": sum.bytes, "files": files})
    });
    modules.collect()
}
