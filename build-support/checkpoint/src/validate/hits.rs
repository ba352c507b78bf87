//! For each need, the tensor that is it.

use super::Form;
use crate::open::{Checkpoint, Tensor, TensorId};

/// A tensor that is a need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'c> {
    pub tensor: Tensor<'c>,
    /// It stands for a twin that the checkpoint does not have.
    pub tied: bool,
    pub form: Form,
    /// It is there by llama.cpp's name.
    pub mapped: bool,
}

/// What there is of each need, by its number: of half a million, a few megabytes.
#[derive(Debug)]
pub(super) struct Hits<'c> {
    pub checkpoint: &'c Checkpoint,
    kept: Vec<Option<Kept>>,
}

/// A [`Hit`] in 8 bytes.
#[derive(Debug, Clone, Copy)]
struct Kept {
    id: TensorId,
    form: Form,
    tied: bool,
    mapped: bool,
}

const _: () = assert!(size_of::<Option<Kept>>() == 8);

impl<'c> Hit<'c> {
    pub fn new(tensor: Tensor<'c>, form: Form) -> Self {
        Self {
            tensor,
            tied: false,
            form,
            mapped: false,
        }
    }

    /// Whether it is a form whose shape is not that of the weight.
    pub fn is_packed(&self) -> bool {
        !matches!(self.form, Form::Plain | Form::Blocks)
    }
}

impl<'c> Hits<'c> {
    pub fn new(checkpoint: &'c Checkpoint, hits: impl Iterator<Item = Option<Hit<'c>>>) -> Self {
        let kept = hits.map(|hit| hit.as_ref().map(Kept::from)).collect();
        Self { checkpoint, kept }
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn get(&self, need: usize) -> Option<Hit<'c>> {
        self.hit((*self.kept.get(need)?)?)
    }

    pub fn set(&mut self, need: usize, hit: Hit<'c>) {
        if let Some(kept) = self.kept.get_mut(need) {
            *kept = Some(Kept::from(&hit));
        }
    }

    /// Looks once more for what is not there.
    pub fn fill(&mut self, mut find: impl FnMut(usize) -> Option<Hit<'c>>) {
        for (need, kept) in self.kept.iter_mut().enumerate() {
            *kept = kept.or_else(|| find(need).as_ref().map(Kept::from));
        }
    }

    /// Of all needs.
    pub fn iter(&self) -> impl Iterator<Item = Option<Hit<'c>>> + Clone {
        self.kept.iter().map(|kept| self.hit((*kept)?))
    }

    fn hit(&self, kept: Kept) -> Option<Hit<'c>> {
        Some(Hit {
            tensor: self.checkpoint.at(kept.id)?,
            tied: kept.tied,
            form: kept.form,
            mapped: kept.mapped,
        })
    }
}

impl From<&Hit<'_>> for Kept {
    fn from(hit: &Hit<'_>) -> Self {
        Self {
            id: hit.tensor.id(),
            form: hit.form,
            tied: hit.tied,
            mapped: hit.mapped,
        }
    }
}
