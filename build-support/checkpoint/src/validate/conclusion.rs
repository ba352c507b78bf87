//! What all findings together look like.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::config::Compared;
use super::found::Found;
use super::mismatch::{Class, Finding, path};
use super::names::number;
use super::prefix::is_choice;
use super::renamed::change;
use super::{Expected, adapter, extra};
use crate::files::one_of_several;
use crate::header::Value;
use crate::open::Checkpoint;

/// The one thing that is probably the matter, and what to do about it.
pub(super) fn conclude(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
    findings: &[Finding],
    compared: &Compared,
) -> Option<String> {
    if findings.iter().any(|f| f.class == Class::Missing)
        && let [shard] = checkpoint.shards()
        && let Some((number, count)) = one_of_several(shard.shown()).or_else(|| split(checkpoint))
    {
        let folder = shard.shown().parent().map(path).unwrap_or_default();
        let folder = match folder.trim_end_matches('/') {
            "" => ".",
            folder => folder,
        };
        return Some(format!(
            "this is shard {number} of {count}: open the folder of all of them, `{folder}`"
        ));
    }
    if let Some(what) = no_model(checkpoint, found) {
        return Some(what);
    }
    let count = |class: Class| {
        findings
            .iter()
            .filter(|f| f.class == class)
            .map(|f| f.count)
            .sum()
    };
    let (missing, renamed): (usize, usize) = (count(Class::Missing), count(Class::Renamed));
    let mut sizes = sizes(compared);
    if sizes.is_empty() && missing > renamed && !has_room(expected, checkpoint, found, true) {
        sizes.extend(layers(expected, found));
    }
    if !sizes.is_empty() {
        let side = |side: fn(&(String, String)) -> &String| {
            let all: Vec<_> = sizes.iter().map(|pair| &**side(pair)).collect();
            article(&all.join(", "))
        };
        let (file, trace) = (side(|pair| &pair.0), side(|pair| &pair.1));
        return Some(format!(
            "this looks like {file} checkpoint and {trace} trace: {}",
            again(expected, checkpoint, compared)
        ));
    }
    let classes: Vec<Class> = findings
        .iter()
        .filter(|f| !f.is_note() && !f.is_warning())
        .map(|f| f.class)
        .collect();
    // The model of another class may have other parts.
    let is_other = findings
        .iter()
        .any(|finding| finding.class == Class::Origin);
    if missing > renamed
        && !is_other
        && let Some(stored) = as_stored(expected, checkpoint, found, compared)
    {
        return Some(stored);
    }
    let nothing = found.hits.iter().all(|hit| hit.is_none());
    if nothing && classes.contains(&Class::Missing) && !classes.contains(&Class::Renamed) {
        return Some(format!(
            "nothing that the trace needs is in it, this looks like the checkpoint of another \
             model: {}",
            again(expected, checkpoint, compared)
        ));
    }
    if classes == [Class::Prefix] {
        let lines = || findings.iter().flat_map(|finding| &finding.lines);
        let is_choice = findings.iter().any(|finding| is_choice(&finding.lines));
        let is_mended = lines().any(|line| !line.renames.is_empty());
        return (is_mended && !is_choice).then(|| "everything else fits".to_owned());
    }
    if classes.contains(&Class::Renamed) && 2 * renamed > missing {
        return None;
    }
    // What the others say of themselves is all that there is to do.
    let other = [Class::Missing, Class::Shape, Class::Config];
    classes.iter().any(|class| other.contains(class)).then(|| {
        format!(
            "take the checkpoint that was traced, or {}",
            again(expected, checkpoint, compared)
        )
    })
}

/// Number and count of a GGUF that is one of several, by what it says of itself.
fn split(checkpoint: &Checkpoint) -> Option<(u64, u64)> {
    let value = |key: &str| checkpoint.metadata(key)?.as_usize();
    let (number, count) = (value("split.no")?, value("split.count")?);
    let several = count > 1 && number < count;
    several.then_some((number as u64 + 1, count as u64))
}

/// What the checkpoint is, where it is no model's weights.
fn no_model(checkpoint: &Checkpoint, found: &Found<'_>) -> Option<String> {
    if found.hits.iter().any(|hit| hit.is_some()) {
        return None;
    }
    let kind = checkpoint
        .metadata("general.type")
        .and_then(Value::as_text)
        .filter(|kind| *kind != "model");
    let parts = checkpoint.iter().filter(|t| adapter::is_part(t.name()));
    if kind == Some("adapter") || 2 * parts.count() > checkpoint.len() {
        return Some(format!(
            "this is a LoRA adapter, not the model that it is for: {}, and take that",
            adapter::MERGE
        ));
    }
    let kind = kind?;
    Some(format!(
        "this file is no model, its `general.type` is `{kind}`: take the file of the model"
    ))
}

/// The config is the traced one, so what is missing is likely there by the names of files that the
/// library renames when it loads them.
fn as_stored(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
    compared: &Compared,
) -> Option<String> {
    let whole = compared.has_config && compared.differences.is_empty();
    if !whole || checkpoint.is_gguf() {
        return None;
    }
    if !has_room(expected, checkpoint, found, false) {
        return None;
    }
    let folder = folder(checkpoint, compared).unwrap_or_else(|| "FOLDER".to_owned());
    Some(format!(
        "the config is that of the trace, so these may be the names as they are stored, which the \
         library renames when it loads them: record again with `python -m pycandle record {folder}`, \
         without `--no-goldens`, and take the safetensors file with the model's names that it writes \
         beside the manifest"
    ))
}

/// Whether what nothing needs is enough for what is missing, where asked of layers alone.
fn has_room(
    expected: &Expected<'_>,
    checkpoint: &Checkpoint,
    found: &Found<'_>,
    of_layers: bool,
) -> bool {
    let size = |shape: &[usize]| {
        shape
            .iter()
            .fold(1, |size: u128, n| size.saturating_mul(*n as u128))
    };
    if checkpoint.is_gguf() {
        return false;
    }
    let unneeded = extra::unneeded(found);
    let weights = unneeded
        .iter()
        .filter(|tensor| !is_table(tensor.name(), tensor.shape()))
        .filter(|tensor| !of_layers || first_number(tensor.name()).is_some());
    let there: u128 = weights.map(|tensor| size(tensor.shape())).sum();
    let missing = found.missing().into_iter().map(|id| expected.needs.get(id));
    let missing = missing.filter(|need| need.tied_to.is_none());
    there >= missing.map(|need| size(need.shape)).sum()
}

/// Whether it is computed and no weight: positions, frequencies of them, a mask.
fn is_table(name: &str, shape: &[usize]) -> bool {
    let leaf = name.rsplit_once('.').map_or(name, |(_, leaf)| leaf);
    matches!(leaf, "inv_freq" | "position_ids" | "masked_bias") || leaf == "bias" && shape.len() > 2
}

/// The folder of the checkpoint, where its config is, as an argument of the recorder.
fn folder(checkpoint: &Checkpoint, compared: &Compared) -> Option<String> {
    let is_read = !checkpoint.is_snapshot() && !checkpoint.is_gguf();
    if !compared.has_config || !is_read {
        return None;
    }
    let (_, config) = checkpoint.config_path();
    match config.parent().map(path)?.trim_end_matches('/') {
        "" => Some(".".to_owned()),
        folder => Some(format!("{folder}/")),
    }
}

/// How to trace the model that the checkpoint is of.
fn again(expected: &Expected<'_>, checkpoint: &Checkpoint, compared: &Compared) -> String {
    match folder(checkpoint, compared) {
        Some(folder) => format!("record again with `python -m pycandle record {folder}`"),
        None if expected.config.is_some() => {
            "record again with `python -m pycandle record FOLDER`, where FOLDER holds this model and \
             its config.json"
                .into()
        }
        None => "record again with the model that this checkpoint is of".into(),
    }
}

/// What the configs say of the two sizes, as `16-layer` and `32-layer`.
fn sizes(compared: &Compared) -> Vec<(String, String)> {
    let kinds = [
        ("model_type", ""),
        ("num_hidden_layers", "-layer"),
        ("num_experts", "-expert"),
        ("hidden_size", "-wide"),
        ("vocab_size", "-token"),
    ];
    let text = |value: &Json, unit: &str| match value {
        Json::String(text) => format!("`{text}`"),
        value => format!("{value}{unit}"),
    };
    let all = kinds.iter().filter_map(|(name, unit)| {
        let difference = compared.differences.iter().find(|d| d.name == *name)?;
        let is_size = |value: &Json| unit.is_empty() || value.is_number();
        if !is_size(&difference.file) || !is_size(&difference.trace) {
            return None;
        }
        Some((text(&difference.file, unit), text(&difference.trace, unit)))
    });
    all.take(2).collect()
}

/// How many needs have a number, the last number, the last that anything is there of.
type Numbers = (usize, u32, Option<u32>);

/// Numbers of layers, where the last ones are absent altogether.
fn layers(expected: &Expected<'_>, found: &Found<'_>) -> Option<(String, String)> {
    // By what stands before the number.
    let mut all: BTreeMap<String, Numbers> = BTreeMap::new();
    for (need, hit) in expected.needs.iter().zip(found.hits.iter()) {
        let Some((before, number)) = first_number(&need.name) else {
            continue;
        };
        change(&mut all, before, |(needs, last, there)| {
            *needs += 1;
            *last = number.max(*last);
            if hit.is_some() {
                *there = Some(there.unwrap_or(0).max(number));
            }
        });
    }
    let (_, &(_, last, there)) = all.iter().max_by_key(|(_, (needs, ..))| needs)?;
    let there = there.filter(|there| *there < last)?;
    let text = |last: u32| format!("{}-layer", u64::from(last) + 1);
    Some((text(there), text(last)))
}

/// What stands before the first number in a name, and that number.
fn first_number(name: &str) -> Option<(&str, u32)> {
    let mut start = 0;
    for segment in name.split('.') {
        if let Some(number) = number(segment) {
            return Some((&name[..start], number));
        }
        start += segment.len() + 1;
    }
    None
}

/// The text after `a` or `an`.
fn article(text: &str) -> String {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let first = text.trim_start_matches('`').bytes().next();
    let vowel = match first {
        Some(b'8') => true,
        // "Eleven thousand", but "one thousand eight hundred".
        Some(b'1') => digits % 3 == 2 && ["11", "18"].iter().any(|n| text.starts_with(n)),
        Some(b) => b"aeio".contains(&b.to_ascii_lowercase()),
        None => false,
    };
    format!("{} {text}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::article;

    #[test]
    fn articles_are_those_that_are_spoken() {
        for (text, expected) in [
            ("16-layer", "a 16-layer"),
            ("8-layer", "an 8-layer"),
            ("18-layer", "an 18-layer"),
            ("1800-wide", "a 1800-wide"),
            ("11008-wide", "an 11008-wide"),
            ("`olmo`", "an `olmo`"),
        ] {
            assert_eq!(article(text), expected);
        }
    }
}
