//! What does not fit between a manifest and a checkpoint, all of it, as lines for a person.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Headers, Tensor, patterns, similar};
use crate::manifest::{Dtype, Manifest, Param};

/// Lines of one kind that are spelled out.
const SHOWN: usize = 12;
/// Names that are compared letter by letter with a missing one.
const CANDIDATES: usize = 4096;

/// Everything in which the checkpoint differs from what the trace needs; empty when it fits.
///
/// Tensors that the trace does not use are no finding: checkpoints often hold more than one model.
pub fn validate(manifest: &Manifest, headers: &Headers) -> Vec<String> {
    let found = Found::new(manifest, headers);
    if found.missing.is_empty() && found.shapes.is_empty() && found.dtypes.is_empty() {
        return Vec::new();
    }
    let mut lines = found.missing_lines(manifest, headers);
    lines.extend(limited(found.shapes.iter().map(
        |((place, file, trace), numbers)| {
            format!(
                "shape: {} is {file}, the trace has {trace}",
                place.show(numbers)
            )
        },
    )));
    lines.extend(limited(found.dtypes.iter().map(
        |((place, file, trace), numbers)| {
            format!(
                "dtype: {} is {file}, the trace has {trace}",
                place.show(numbers)
            )
        },
    )));
    lines
}

/// A key without its layer number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Layer(&'a str, &'a str),
    Key(&'a str),
}

impl<'a> Place<'a> {
    fn of(key: &'a str) -> (Self, Option<usize>) {
        match patterns::split(key) {
            Some((prefix, number, suffix)) => (Self::Layer(prefix, suffix), Some(number)),
            None => (Self::Key(key), None),
        }
    }

    fn show(self, numbers: &BTreeSet<usize>) -> String {
        match self {
            Self::Key(key) => key.to_owned(),
            Self::Layer(prefix, suffix) => {
                let numbers: Vec<_> = numbers.iter().copied().collect();
                patterns::key_of(prefix, &numbers, suffix)
            }
        }
    }
}

/// Differences of one kind: where, in the file, in the trace → layer numbers.
type Differences<'a> = BTreeMap<(Place<'a>, String, String), BTreeSet<usize>>;

#[derive(Default)]
struct Found<'a> {
    missing: Vec<&'a Param>,
    tied: Vec<(&'a str, &'a str)>,
    shapes: Differences<'a>,
    dtypes: Differences<'a>,
}

impl<'a> Found<'a> {
    fn new(manifest: &'a Manifest, headers: &'a Headers) -> Self {
        let mut found = Self::default();
        let held = held_twins(manifest, headers);
        for (id, param) in manifest.params.iter().enumerate() {
            let first = param.tied_to.map_or(id, |first| first.0);
            let own = headers
                .tensors
                .get(&param.name)
                .map(|tensor| (&param.name, tensor));
            match own.or_else(|| held.get(&first).copied()) {
                None => found.missing.push(param),
                Some((key, tensor)) => {
                    if *key != param.name {
                        found.tied.push((&param.name, key));
                    }
                    found.compare(key, tensor, param);
                }
            }
        }
        found
    }

    fn compare(&mut self, key: &'a str, tensor: &Tensor, param: &Param) {
        let (place, number) = Place::of(key);
        if tensor.shape != param.shape {
            let shapes = (
                place,
                format!("{:?}", tensor.shape),
                format!("{:?}", param.shape),
            );
            self.shapes.entry(shapes).or_default().extend(number);
        }
        if !tensor.converts_to(param.dtype) {
            let dtypes = (
                place,
                tensor.dtype.clone(),
                dtype_name(param.dtype).to_owned(),
            );
            self.dtypes.entry(dtypes).or_default().extend(number);
        }
    }

    fn missing_lines(&self, manifest: &Manifest, headers: &Headers) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.missing.is_empty() {
            let keys: Vec<_> = self.missing.iter().map(|param| &*param.name).collect();
            let all = manifest.params.iter().map(|param| &*param.name);
            let shown = patterns::summary(&keys, all);
            match &*shown {
                [only] if keys.len() == 1 => lines.push(format!("missing: {only}")),
                [only] => lines.push(format!("missing ({}): {only}", keys.len())),
                _ => {
                    lines.push(format!("missing ({}):", keys.len()));
                    lines.extend(limited(shown.into_iter().map(|line| format!("  {line}"))));
                }
            }
            lines.extend(self.meant(manifest, headers));
        }
        let tied = self.tied.iter();
        lines.extend(limited(tied.map(|(name, twin)| {
            format!("tied: {name} is absent; it is tied to {twin} in the trace: ok")
        })));
        lines
    }

    /// What was probably meant: one prefix for all, or the nearest name for each.
    fn meant(&self, manifest: &Manifest, headers: &Headers) -> Vec<String> {
        let traced: BTreeSet<_> = manifest.params.iter().map(|param| &*param.name).collect();
        let unused: Vec<_> = headers
            .tensors
            .iter()
            .filter(|(key, _)| !traced.contains(&***key))
            .collect();
        if let Some(line) = self.prefix(headers) {
            return vec![line];
        }
        let lines = self.missing.iter().take(SHOWN).filter_map(|param| {
            let mut same_shape: Vec<_> = unused
                .iter()
                .filter(|(_, tensor)| tensor.shape == param.shape)
                .map(|(key, _)| &***key)
                .collect();
            // Of many, those that end as the missing one and are about as long come first.
            if same_shape.len() > CANDIDATES {
                let end = last(&param.name);
                same_shape
                    .sort_by_key(|key| (last(key) != end, key.len().abs_diff(param.name.len())));
            }
            let candidates = same_shape.into_iter().take(CANDIDATES);
            let near = similar::nearest(&param.name, candidates)?;
            Some(format!(
                "the checkpoint has {near}, was it {} when the model was traced?",
                param.name
            ))
        });
        // One example is enough to see a renamed module.
        lines.take(3).collect()
    }

    /// The checkpoint holds what is missing under a longer or shorter name.
    fn prefix(&self, headers: &Headers) -> Option<String> {
        let first = &*self.missing.first()?.name;
        let all = |rename: &dyn Fn(&str) -> Option<String>| {
            let held = |param: &&Param| {
                rename(&param.name).is_some_and(|name| headers.tensors.contains_key(&name))
            };
            self.missing.iter().all(held)
        };
        let count = self.missing.len();
        let mend = "load the inner module in Python and record again, or rename the keys";
        let longer = headers
            .tensors
            .keys()
            .find_map(|key| key.strip_suffix(first));
        if let Some(prefix) = longer.filter(|prefix| prefix.ends_with('.'))
            && all(&|name| Some(format!("{prefix}{name}")))
        {
            return Some(format!(
                "prefix: the checkpoint has the missing {count} keys under `{prefix}`: {mend}"
            ));
        }
        let (head, _) = first.split_once('.')?;
        let head = format!("{head}.");
        all(&|name| name.strip_prefix(&head).map(str::to_owned)).then(|| {
            format!("prefix: the checkpoint has the missing {count} keys without `{head}`: {mend}")
        })
    }
}

/// For each tensor that several parameters share: a name under which the checkpoint has it.
fn held_twins<'a>(
    manifest: &'a Manifest,
    headers: &'a Headers,
) -> HashMap<usize, (&'a String, &'a Tensor)> {
    let mut held = HashMap::new();
    for (id, param) in manifest.params.iter().enumerate() {
        if let Some(tensor) = headers.tensors.get(&param.name) {
            held.entry(param.tied_to.map_or(id, |first| first.0))
                .or_insert((&param.name, tensor));
        }
    }
    held
}

/// The last part of a dotted name.
fn last(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}

fn limited(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    let rest = lines.len().saturating_sub(SHOWN);
    if rest > 0 {
        lines.truncate(SHOWN);
        lines.push(format!("  and {rest} more"));
    }
    lines
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "bool",
        Dtype::Uint8 => "uint8",
        Dtype::Int8 => "int8",
        Dtype::Int16 => "int16",
        Dtype::Int32 => "int32",
        Dtype::Int64 => "int64",
        Dtype::Float16 => "float16",
        Dtype::Bfloat16 => "bfloat16",
        Dtype::Float32 => "float32",
        Dtype::Float64 => "float64",
    }
}

#[cfg(test)]
mod tests;
