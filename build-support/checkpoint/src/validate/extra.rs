//! Keys that nothing needs: which of them are a mistake, or may be one.

use std::borrow::Cow;

use crate::hash::HashSet;

use super::config::Compared;
use super::found::Found;
use super::keys::Keys;
use super::mismatch::{Class, Finding};
use super::names::number;
use super::{Expected, adapter, forms, gguf, names};
use crate::dtype::Dtype;
use crate::header::PADDING;
use crate::open::{Checkpoint, TensorId};

/// Keys that nothing needs, but for those that belong to a quantized weight or hold a file's tables.
pub(super) fn unneeded<'c>(found: &Found<'c>) -> Keys<'c> {
    let mut known = found.used().clone();
    for hit in found.hits.iter().flatten().filter(|hit| hit.is_packed()) {
        let beside = forms::beside(hit.tensor.name(), hit.form);
        beside.into_iter().for_each(|key| known.insert_named(&key));
    }
    found.scales.iter().for_each(|key| known.insert_named(key));
    let checkpoint = found.hits.checkpoint;
    if checkpoint.is_gguf() {
        gguf::TABLES.iter().for_each(|key| known.insert_named(key));
    }
    let mut unknown = known.others();
    let is_padding = |key: &str| {
        let tensor = checkpoint.get(key);
        // As `extract` writes it.
        key.starts_with(PADDING) && tensor.is_some_and(|tensor| tensor.dtype() == Dtype::U8)
    };
    unknown.take(is_padding);
    unknown
}

/// Every key that nothing needs when that is asked for. Otherwise those without which the model
/// computes something else than the one that the checkpoint is of: biases of its own layers are a
/// mistake, further weights in its blocks may be one.
pub(super) fn findings(
    expected: &Expected<'_>,
    found: &Found<'_>,
    compared: &Compared,
) -> Vec<Finding> {
    let checkpoint = found.hits.checkpoint;
    // Names of needs are unique: where each is a key, and there are as many, nothing is left.
    let pairs = || expected.needs.iter().zip(found.hits.iter());
    let own = pairs().filter(|(need, hit)| hit.is_some_and(|hit| need.name == hit.tensor.name()));
    if own.count() == checkpoint.len() {
        return Vec::new();
    }
    let mut others = unneeded(found);
    let used = found.used();
    let adapter = others.take(adapter::is_part);
    let is_missing = missing_biases(expected, found);
    // A weight that a twin stands for has a bias as well.
    let tied = pairs().filter(|(_, hit)| hit.is_some_and(|hit| hit.tied));
    let tied: HashSet<Cow<'_, str>> = tied.map(|(need, _)| need.name).collect();
    let is_weight = |key: &str| used.contains(key) || tied.contains(key);
    let is_bias = |key: &str| is_bias(key, is_weight) && !is_missing(key, checkpoint);
    let mut biases = others.take(is_bias);
    let twins = biases.take(|key| is_above(key, used, checkpoint));
    if !expected.strict {
        // Of what is missing they may be the other names.
        others = match found.hits.iter().all(|hit| hit.is_some()) {
            true => more_of_blocks(others, used, checkpoint, compared),
            false => Keys::none(checkpoint),
        };
    }
    others.extend(&twins);
    let finding = |class: Class, keys: &Keys<'_>, advice: &str| {
        let name = |number| {
            let tensor = checkpoint.at(TensorId::new(number));
            tensor.map_or("", |tensor| tensor.name())
        };
        (!keys.is_empty()).then(|| Finding::listed(class, name, keys.flags()).with(advice))
    };
    let others = match expected.strict {
        true => finding(Class::Unexpected, &others, UNEXPECTED),
        false => finding(Class::Unused, &others, UNUSED),
    };
    let biases = finding(Class::Unexpected, &biases, BIASES);
    let advice = match checkpoint.shards().len() {
        1 => ADAPTER.to_owned(),
        _ => format!("{ADAPTER}; without the adapter, take its file out of the folder"),
    };
    // Of an adapter alone the conclusion says what it is.
    let is_beside = found.hits.iter().any(|hit| hit.is_some());
    let adapter = is_beside.then(|| finding(Class::Converted, &adapter, &advice));
    let adapter = adapter.flatten();
    adapter.into_iter().chain(biases).chain(others).collect()
}

/// Whether a key may be the bias that is missing by another name: of that shape, with those numbers.
fn missing_biases<'f>(
    expected: &'f Expected<'_>,
    found: &Found<'_>,
) -> impl Fn(&str, &Checkpoint) -> bool + 'f {
    let pairs = expected.needs.iter().zip(found.hits.iter());
    let missing = pairs.filter(|(need, hit)| hit.is_none() && need.name.ends_with(".bias"));
    let missing: HashSet<(Vec<u32>, &[usize])> = missing
        .map(|(need, _)| (names::split(&need.name).1, need.shape))
        .collect();
    move |key, checkpoint| {
        !missing.is_empty()
            && checkpoint
                .get(key)
                .is_some_and(|tensor| missing.contains(&(names::split(key).1, tensor.shape())))
    }
}

const ADAPTER: &str = "these are of a LoRA adapter, which loading does not add to the weights: load it on \
    the model with PEFT, call `merge_and_unload()` and save the model again";

const UNEXPECTED: &str = "nothing needs these: leave `strict` out, or write a checkpoint without them \
    with `cargo pycandle extract`";
const BIASES: &str = "the trace has the weights beside these without a bias and would compute something \
    else: record again with the code that this checkpoint is of";
const UNUSED: &str = "these lie among the weights that the trace has, but it does not use them: where \
    the model should, record again with the code that this checkpoint is of";

/// Whether it is the bias of a layer whose weight is one of these.
fn is_bias(key: &str, is_weight: impl Fn(&str) -> bool) -> bool {
    let module = key.strip_suffix(".bias");
    module.is_some_and(|module| is_weight(&format!("{module}.weight")))
}

/// Whether the module above has a bias of the same shape, which this then is under another name, if
/// the two are tied.
fn is_above(key: &str, used: &Keys<'_>, checkpoint: &Checkpoint) -> bool {
    let module = key.strip_suffix(".bias").and_then(|m| m.rsplit_once('.'));
    let above = format!("{}.bias", module.map_or("", |(above, _)| above));
    let shape = |key: &str| Some(checkpoint.get(key)?.shape());
    used.contains(&above) && shape(&above) == shape(key)
}

/// Those that are weights in blocks of which other weights are used, and in further blocks of the same
/// kind, unless the configs say that there are no further ones.
fn more_of_blocks<'c>(
    mut keys: Keys<'c>,
    used: &Keys<'c>,
    checkpoint: &Checkpoint,
    compared: &Compared,
) -> Keys<'c> {
    // Masks are called bias too.
    let is_vector = |key: &str| checkpoint.get(key).is_some_and(|t| t.shape().len() == 1);
    let mut weights =
        keys.take(|key| key.ends_with(".weight") || key.ends_with(".bias") && is_vector(key));
    if weights.is_empty() {
        return weights;
    }
    let blocks: HashSet<&str> = used.iter().filter_map(|key| block(key.name())).collect();
    let kinds: HashSet<String> = match compared.same_layers {
        true => HashSet::default(),
        false => blocks.iter().map(|block| names::split(block).0).collect(),
    };
    weights.take(|key| {
        block(key)
            .is_some_and(|block| blocks.contains(block) || kinds.contains(&names::split(block).0))
    })
}

/// The key up to its first number that has something below.
fn block(key: &str) -> Option<&str> {
    let mut start = 0;
    for segment in key.split('.') {
        let end = start + segment.len();
        if number(segment).is_some() {
            return key[end..].starts_with('.').then(|| &key[..end]);
        }
        start = end + 1;
    }
    None
}
