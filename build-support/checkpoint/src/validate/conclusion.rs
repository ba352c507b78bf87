//! What all findings together look like.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Expected;
use super::config::Compared;
use super::found::Found;
use super::mismatch::{Class, Finding, path};
use super::names::number;
use crate::files::one_of_several;
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
        && let Some((number, count)) = one_of_several(shard.shown())
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
    let mut sizes = sizes(compared);
    if sizes.is_empty() {
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
    let nothing = found.hits.iter().all(Option::is_none);
    if nothing && classes.contains(&Class::Missing) && !classes.contains(&Class::Renamed) {
        return Some(format!(
            "nothing that the trace needs is in it, this looks like the checkpoint of another \
             model: {}",
            again(expected, checkpoint, compared)
        ));
    }
    if classes == [Class::Prefix] {
        return Some("everything else fits".to_owned());
    }
    if classes.contains(&Class::Renamed) {
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

/// How to trace the model that the checkpoint is of.
fn again(expected: &Expected<'_>, checkpoint: &Checkpoint, compared: &Compared) -> String {
    let shown = checkpoint.shown();
    let folder = match checkpoint.path().is_dir() {
        true => Some(shown),
        false => shown.parent(),
    };
    match folder.map(path).filter(|_| compared.has_config && !checkpoint.is_snapshot()) {
        Some(folder) if folder.is_empty() => "record again with `python -m pycandle record .`".into(),
        Some(folder) => format!(
            "record again with `python -m pycandle record {}/`",
            folder.trim_end_matches('/')
        ),
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
        Some((text(&difference.file, unit), text(&difference.trace, unit)))
    });
    all.take(2).collect()
}

/// Numbers of layers, where the last ones are absent altogether.
fn layers(expected: &Expected<'_>, found: &Found<'_>) -> Option<(String, String)> {
    // By what stands before the number: needs, the last number, the last that anything is there of.
    let mut all: BTreeMap<&str, (usize, u32, Option<u32>)> = BTreeMap::new();
    for (need, hit) in expected.needs.iter().zip(&found.hits) {
        let Some((before, number)) = first_number(&need.name) else {
            continue;
        };
        let (needs, last, there) = all.entry(before).or_default();
        *needs += 1;
        *last = number.max(*last);
        if hit.is_some() {
            *there = Some(there.unwrap_or(0).max(number));
        }
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
