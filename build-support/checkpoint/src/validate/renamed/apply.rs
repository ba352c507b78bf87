//! What is left to be found once a proposal has been taken.

use std::collections::BTreeMap;

use super::norms::Norm;
use super::{Keyed, Proposal, Search, change, leaf};
use crate::hash::HashSet;
use crate::open::TensorId;

impl Search<'_, '_, '_> {
    /// The needs that a proposal finds, and the tensors that they are.
    pub(super) fn found(&self, proposal: &Proposal) -> Vec<(usize, TensorId)> {
        let ids = proposal.needs.iter().flat_map(|need| &self.missing[need]);
        let found = ids.filter_map(|&id| {
            let need = self.expected.needs.get(id);
            let name = proposal.edit.key_of(&need.name)?;
            Some((id, self.unused_tensor(&name, &need)?))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable();
        found
    }

    /// Goes on as if the keys had been renamed.
    pub(super) fn apply(&mut self, proposal: Proposal, rivals: Vec<Proposal>) {
        let mut found = proposal.found.clone();
        found.extend(rivals.iter().flat_map(|rival| self.found(rival)));
        self.take(&found);
        let edits = [&proposal].into_iter().chain(&rivals).map(|p| &p.edit);
        let edits: Vec<_> = edits.cloned().collect();
        let is_ruled = rivals.is_empty() && proposal.rule.is_some();
        self.rename(&found, |key| {
            let name = edits.iter().find_map(|edit| edit.need_of(key))?;
            Some(if is_ruled { name } else { key.to_owned() })
        });
        if is_ruled {
            self.edits.push(proposal.edit);
        }
    }

    /// Goes on as if the tensors of norms were called by the word that means the same.
    pub(super) fn apply_word(&mut self, norm: Norm) {
        self.take(&norm.found);
        let (own, word) = (norm.leaf, norm.word);
        self.rename(&norm.found, |key| {
            let module = key.strip_suffix(word)?;
            (leaf(key) == word).then(|| format!("{module}{own}"))
        });
        self.words.push((own, word));
    }

    /// These are no longer missing. Of a template, what then is left is a part.
    fn take(&mut self, found: &[(usize, TensorId)]) {
        let taken: HashSet<usize> = found.iter().map(|(need, _)| *need).collect();
        for (template, ids) in &mut self.missing {
            let before = ids.len();
            ids.retain(|id| !taken.contains(id));
            if ids.len() < before && !ids.is_empty() {
                self.partly.insert(template.clone());
            }
        }
        self.missing.retain(|_, ids| !ids.is_empty());
    }

    /// Gives keys other names, those that have been found as keys that are used. All at once: what is
    /// renamed to a name that is renamed itself stays there.
    fn rename(&mut self, found: &[(usize, TensorId)], name: impl Fn(&str) -> Option<String>) {
        let found: HashSet<TensorId> = found.iter().map(|(_, tensor)| *tensor).collect();
        let names = self.keys.keys();
        let names = names.filter_map(|key| Some((key.clone(), name(key)?)));
        let names: BTreeMap<String, String> = names.collect();
        let taken = names.into_iter().map(|(key, name)| {
            let keys = self.keys.remove(&key);
            (name != key, name, keys.unwrap_or_default())
        });
        for (is_other, name, keys) in taken.collect::<Vec<_>>() {
            let moved = is_other && !self.keys.contains_key(&name);
            let all = keys.unused.len();
            let unused = keys.unused.into_iter();
            let unused: Vec<_> = unused.filter(|id| !found.contains(id)).collect();
            change(&mut self.keys, &name, |of_name: &mut Keyed| {
                of_name.moved |= moved;
                of_name.used += keys.used + all - unused.len();
                of_name.unused.extend(unused);
            });
        }
    }
}
