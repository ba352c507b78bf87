//! Where each need is in the checkpoint.

use super::names::Names;
use super::{Expected, Form, Rows, Source};
use crate::open::{Checkpoint, Tensor};

/// For each need, the tensor that is it.
pub(super) struct Found<'c> {
    pub tensors: Vec<Option<Hit<'c>>>,
}

/// A tensor that is a need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'c> {
    pub tensor: Tensor<'c>,
    /// It stands for a twin that the checkpoint does not have.
    pub tied: bool,
    pub rows: Rows,
    pub form: Form,
}

impl<'c> Found<'c> {
    pub fn new(expected: &Expected<'_>, checkpoint: &'c Checkpoint) -> Self {
        let names = Names::new(expected.renames);
        let find = |name: &str| {
            let renamed = names.key(name).and_then(|key| checkpoint.get(&key));
            renamed.or_else(|| checkpoint.get(name)).map(Hit::new)
        };
        let needs = expected.needs.iter();
        let mut tensors: Vec<_> = needs.map(|need| find(&need.name)).collect();
        twins(expected, &mut tensors);
        Self { tensors }
    }

    /// What [`Validated`](super::Validated) says of each need; all have been found.
    pub fn sources(&self, expected: &Expected<'_>) -> Vec<Source> {
        let pairs = expected.needs.iter().zip(&self.tensors);
        pairs
            .map(|(need, hit)| match hit {
                None => Source::default(),
                Some(hit) => Source {
                    key: (*need.name != *hit.tensor.name()).then(|| hit.tensor.name().into()),
                    rows: hit.rows,
                    form: hit.form,
                },
            })
            .collect()
    }
}

impl<'c> Hit<'c> {
    fn new(tensor: Tensor<'c>) -> Self {
        let form = match tensor.dtype().is_quantized() {
            true => Form::Blocks,
            false => Form::Plain,
        };
        Self {
            tensor,
            tied: false,
            rows: Rows::AsStored,
            form,
        }
    }
}

/// Of needs that are one tensor, those that are absent take what another has.
fn twins<'c>(expected: &Expected<'_>, tensors: &mut [Option<Hit<'c>>]) {
    let first_of = |id: usize| expected.needs[id].tied_to.filter(|&f| f < tensors.len());
    let firsts: Vec<Option<usize>> = (0..tensors.len()).map(first_of).collect();
    // The first of a group stands for it: it takes the tensor of the first twin that has one.
    for (id, first) in firsts.iter().enumerate() {
        if let (Some(first), Some(hit)) = (*first, tensors[id])
            && tensors[first].is_none()
        {
            tensors[first] = Some(Hit { tied: true, ..hit });
        }
    }
    for (id, first) in firsts.into_iter().enumerate() {
        if let (Some(first), None) = (first, tensors[id]) {
            tensors[id] = tensors[first].map(|hit| Hit { tied: true, ..hit });
        }
    }
}
