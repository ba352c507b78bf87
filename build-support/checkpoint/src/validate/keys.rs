//! Some of a checkpoint's keys.

use crate::open::{Checkpoint, Tensor, TensorId};

/// A set of keys: of half a million, half a megabyte.
#[derive(Debug, Clone)]
pub(super) struct Keys<'c> {
    checkpoint: &'c Checkpoint,
    is_in: Vec<bool>,
}

impl<'c> Keys<'c> {
    /// None of them.
    pub fn none(checkpoint: &'c Checkpoint) -> Self {
        Self {
            checkpoint,
            is_in: vec![false; checkpoint.len()],
        }
    }

    /// All that are not in it.
    pub fn others(&self) -> Self {
        Self {
            checkpoint: self.checkpoint,
            is_in: self.is_in.iter().map(|is_in| !is_in).collect(),
        }
    }

    /// Adds a tensor of the checkpoint.
    pub fn insert(&mut self, id: TensorId) {
        if let Some(is_in) = self.is_in.get_mut(id.behind() as usize) {
            *is_in = true;
        }
    }

    /// Whether a tensor of the checkpoint is in it.
    pub fn has(&self, id: TensorId) -> bool {
        self.is_in[id.behind() as usize]
    }

    /// Adds a key, where there is one of this name.
    pub fn insert_named(&mut self, key: &str) {
        if let Some(tensor) = self.checkpoint.get(key) {
            self.insert(tensor.id());
        }
    }

    /// Whether it is a key, and in this set.
    pub fn contains(&self, key: &str) -> bool {
        let tensor = self.checkpoint.get(key);
        tensor.is_some_and(|tensor| self.has(tensor.id()))
    }

    /// All in it, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = Tensor<'c>> {
        let all = self.checkpoint.iter().zip(&self.is_in);
        all.filter_map(|(tensor, is_in)| is_in.then_some(tensor))
    }

    /// Takes out those of which this holds.
    pub fn take(&mut self, is_taken: impl Fn(&'c str) -> bool) -> Self {
        let mut taken = Self::none(self.checkpoint);
        for (tensor, is_in) in self.checkpoint.iter().zip(&mut self.is_in) {
            if *is_in && is_taken(tensor.name()) {
                *is_in = false;
                taken.insert(tensor.id());
            }
        }
        taken
    }

    /// Adds all of another set.
    pub fn extend(&mut self, others: &Self) {
        others.iter().for_each(|tensor| self.insert(tensor.id()));
    }

    pub fn is_empty(&self) -> bool {
        !self.is_in.contains(&true)
    }

    /// For each key of the checkpoint, whether it is in it.
    pub fn flags(&self) -> &[bool] {
        &self.is_in
    }
}
