//! Tensors of norms that are called by another word.

use crate::hash::HashSet;
use std::collections::BTreeSet;

use super::{Keyed, Search, leaf};
use crate::open::TensorId;

/// What the two tensors of a norm are called, and what else.
pub(super) const NORMS: &[(&str, &[&str])] = &[
    ("weight", &["gamma", "scale", "g"]),
    ("bias", &["beta", "offset", "shift", "b"]),
];

/// A tensor of norms by another word, wherever it is.
pub(super) struct Norm {
    pub leaf: &'static str,
    pub word: &'static str,
    /// The needs that it finds, and the tensors that they are.
    pub found: Vec<(usize, TensorId)>,
}

impl Search<'_, '_, '_> {
    /// Missing tensors of norms that are there by other words, where no key that is used has the word,
    /// and no key that has it would become another.
    pub(super) fn norms(&self) -> Vec<Norm> {
        let leaves = |is: fn(&Keyed) -> bool| -> BTreeSet<&str> {
            let keys = self.keys.iter().filter(|(_, keys)| is(keys));
            keys.map(|(key, _)| leaf(key)).collect()
        };
        let (unused, used) = (leaves(|k| !k.unused.is_empty()), leaves(|k| k.used > 0));
        let words = NORMS
            .iter()
            .flat_map(|(leaf, words)| words.iter().map(move |word| (*leaf, *word)));
        let norms = words.filter(|(_, word)| unused.contains(word) && !used.contains(word));
        let norms = norms.map(|(own, word)| {
            let missing = self.missing.iter().filter(|(name, _)| leaf(name) == own);
            let found = missing.flat_map(|(_, ids)| ids).filter_map(|&id| {
                let need = self.expected.needs.get(id);
                let key = format!("{}{word}", need.name.strip_suffix(own)?);
                let tensor = self.unused_tensor(&key, &need);
                Some((id, tensor.filter(|_| need.shape.len() == 1)?))
            });
            let mut found: Vec<_> = found.collect();
            found.sort_unstable();
            Norm {
                leaf: own,
                word,
                found,
            }
        });
        let mut names = HashSet::default();
        let is_free = |norm: &Norm| {
            let keys = self
                .keys
                .keys()
                .filter_map(|key| key.strip_suffix(norm.word));
            let keys = keys.filter(|module| module.ends_with('.'));
            let own: Vec<_> = keys
                .map(|module| format!("{module}{}", norm.leaf))
                .collect();
            let is_free = |name: &String| !self.keys.contains_key(name) && !names.contains(name);
            let all = own.iter().all(is_free);
            names.extend(own);
            all
        };
        let norms = norms.filter(|norm| !norm.found.is_empty());
        norms
            .collect::<Vec<_>>()
            .into_iter()
            .filter(is_free)
            .collect()
    }
}
