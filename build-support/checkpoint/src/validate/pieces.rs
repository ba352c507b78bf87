//! Missing tensors that may be in the checkpoint in other pieces: several in one, one in several, the
//! experts of a layer one by one, or beside the place, where the names do not say which is which.

use std::collections::BTreeMap;

use super::renamed::Search;
use super::{adapter, names};

/// Lines that are shown, and templates of needs and keys that are looked at.
const SHOWN: usize = 6;
const LOOKED_AT: (usize, usize) = (256, 4096);

/// Tensors of one template: the name of an example, and its shape.
struct Part<'a> {
    name: String,
    shape: &'a [usize],
}

/// What is missing below one place, and what nothing needs there.
#[derive(Default)]
struct Place<'a> {
    needs: Vec<Part<'a>>,
    keys: Vec<Part<'a>>,
}

/// One line for each place in which something may be in other pieces.
pub(super) fn lines(search: &Search<'_, '_, '_>) -> Vec<String> {
    // By what stands before the module, the tensor's name in it, and the sizes that are no rows.
    let mut places: BTreeMap<(String, String, Vec<usize>), Place<'_>> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut experts = BTreeMap::new();
    for (template, ids) in search.missing.iter().take(LOOKED_AT.0) {
        let Some(need) = ids.first().map(|&id| search.expected.needs.get(id)) else {
            continue;
        };
        let (_, numbers) = names::split(&need.name);
        let part = |shape| Part {
            name: need.name.to_string(),
            shape,
        };
        let keys = one_by_one(search, &numbers, need.shape);
        if !keys.is_empty() {
            lines.push(format!(
                "in place of {} there may be {}, which loading does not put together",
                need.name,
                keys.join(", ")
            ));
            continue;
        }
        let key = place(search, template);
        experts.insert(key.0.clone(), numbers);
        let key = (key.0, key.1, others(need.shape));
        places.entry(key).or_default().needs.push(part(need.shape));
    }
    let keys = search.unused().filter(|key| !adapter::is_part(key));
    for template in keys.take(LOOKED_AT.1) {
        let (start, leaf) = place(search, template);
        let Some(numbers) = experts.get(&start) else {
            continue;
        };
        let name = search.original(names::join(template, numbers));
        let Some(tensor) = search.finder.checkpoint.get(&name) else {
            continue;
        };
        if let Some(place) = places.get_mut(&(start, leaf, others(tensor.shape()))) {
            // A rule that is added sees what those given make of it.
            let ruled = search.finder.rules.name(&name);
            let name = match *ruled == *name {
                true => name.clone(),
                false => format!("{name} ({ruled} after the renames given)"),
            };
            place.keys.push(Part {
                name,
                shape: tensor.shape(),
            });
        }
    }
    for ((start, ..), place) in &places {
        lines.extend(place.line(start.contains('*')));
    }
    lines.truncate(SHOWN);
    lines
}

/// What stands before the module of a tensor, and its name in it. The blocks of a GGUF are one place.
fn place(search: &Search<'_, '_, '_>, template: &str) -> (String, String) {
    let (module, leaf) = match template.rsplit_once('.') {
        Some((module, leaf @ ("weight" | "bias"))) => (module, leaf),
        _ => (template, "weight"),
    };
    let start = module.rsplit_once('.').map_or("", |(start, _)| start);
    let is_block = search.finder.checkpoint.is_gguf() && template.matches('*').count() == 1;
    let start = if is_block { "blk.*" } else { start };
    (start.to_owned(), leaf.to_owned())
}

/// The axis along which matrices are put together.
fn axis(shape: &[usize]) -> usize {
    shape.len().saturating_sub(2)
}

/// The sizes without that of the rows.
fn others(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if !shape.is_empty() {
        shape.remove(axis(&shape));
    }
    shape
}

/// For a stack of matrices of experts, the keys that are the matrices of one of them.
fn one_by_one(search: &Search<'_, '_, '_>, numbers: &[u32], shape: &[usize]) -> Vec<String> {
    let [experts, matrix @ ..] = shape else {
        return Vec::new();
    };
    let (Ok(count), true) = (u32::try_from(*experts), matrix.len() > 1 && *experts > 1) else {
        return Vec::new();
    };
    let checkpoint = search.finder.checkpoint;
    let unused = search.unused().take(LOOKED_AT.1);
    let of_one = unused.filter(|key| key.matches('*').count() == numbers.len() + 1);
    let keys = of_one.filter_map(|key| {
        let name = |expert: u32| search.original(names::join(key, &[numbers, &[expert]].concat()));
        let first = checkpoint.get(&name(0))?;
        let whole =
            checkpoint.get(&name(count - 1)).is_some() && checkpoint.get(&name(count)).is_none();
        let rows = first.shape().get(axis(first.shape()))?;
        let fits = others(first.shape()) == others(matrix)
            && *rows > 0
            && matrix[axis(matrix)] % rows == 0;
        (whole && fits).then(|| {
            let (key, mut all) = names::split(&name(0));
            all.pop();
            let range = format!("{{0..{}}}", count - 1);
            let last = key.rfind('*').unwrap_or(0);
            let start = names::join(&key[..last], &all);
            (*rows, format!("{start}{range}{}", &key[last + 1..]))
        })
    });
    let keys: Vec<(usize, String)> = keys.collect();
    let rows = keys
        .iter()
        .try_fold(0usize, |sum, (rows, _)| sum.checked_add(*rows));
    match rows == Some(matrix[axis(matrix)]) {
        true => keys.into_iter().map(|(_, key)| key).collect(),
        false => Vec::new(),
    }
}

impl Place<'_> {
    /// What may be meant by what; parts outside of layers have nothing to do with one another.
    fn line(&self, in_layer: bool) -> Option<String> {
        let rows = |parts: &[Part<'_>]| -> Option<usize> {
            let mut sizes = parts.iter().map(|part| part.shape.get(axis(part.shape)));
            sizes.try_fold(0usize, |sum, rows| sum.checked_add(*rows?))
        };
        let list = |parts: &[Part<'_>], word: &str| {
            let names: Vec<&str> = parts.iter().map(|part| &*part.name).collect();
            match names.split_last() {
                Some((last, names)) if !names.is_empty() => {
                    format!("{}{word}{last}", names.join(", "))
                }
                _ => names.concat(),
            }
        };
        let (needs, keys) = (&self.needs, &self.keys);
        let is_same = needs
            .iter()
            .all(|need| keys.iter().all(|key| key.shape == need.shape));
        match (needs.len(), keys.len()) {
            (0, _) | (_, 0) => None,
            (2.., 1) if rows(needs) == rows(keys) => Some(format!(
                "in place of {} there may be {}, which loading does not take apart",
                list(needs, " and "),
                list(keys, " and ")
            )),
            (1, 2..) if rows(needs) == rows(keys) => Some(format!(
                "in place of {} there may be {}, which loading does not put together",
                list(needs, " and "),
                list(keys, " and ")
            )),
            _ if is_same && in_layer => Some(format!(
                "in place of {} there may be {}: if so, {}",
                list(needs, " or "),
                list(keys, " or "),
                match (needs.len(), keys.len()) {
                    (1, 1) => "a `rename` mends it",
                    _ => "add a `rename` for each",
                }
            )),
            _ => None,
        }
    }
}
