//! Where each need is in the checkpoint.

use std::borrow::Cow;
use std::collections::HashSet;

use super::forms::{Forms, Scales};
use super::names::Names;
use super::{Expected, Form, Need, Rows, Source, gguf};
use crate::dtype::Dtype;
use crate::open::{Checkpoint, Tensor};

/// For each need, the tensor that is it.
pub(super) struct Found<'c> {
    pub hits: Vec<Option<Hit<'c>>>,
    /// What a converter did to values, where loading does not undo it: what, and to which key.
    pub converted: Vec<(String, &'c str)>,
    /// Scales of what was found.
    pub scales: Vec<&'c str>,
}

/// A tensor that is a need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'c> {
    pub tensor: Tensor<'c>,
    /// It stands for a twin that the checkpoint does not have.
    pub tied: bool,
    pub rows: Rows,
    pub form: Form,
    /// It is there by llama.cpp's name.
    pub mapped: bool,
}

impl<'c> Found<'c> {
    pub fn new(expected: &Expected<'_>, finder: &Finder<'c>) -> Self {
        let names = Names::new(expected.renames);
        let mut converted = Vec::new();
        let hits = expected.needs.iter().map(|need| {
            let renamed = names.key(&need.name);
            let renamed = renamed.and_then(|key| finder.locate(&key, need));
            let mut hit = renamed.or_else(|| finder.locate(&need.name, need))?;
            if hit.mapped {
                match gguf::rows(need, hit.tensor.name(), finder.checkpoint) {
                    Ok(rows) => hit.rows = rows,
                    Err(why) => converted.push((why, hit.tensor.name())),
                }
            }
            Some(hit)
        });
        let hits = hits.collect();
        Self {
            hits,
            converted,
            scales: Vec::new(),
        }
    }

    /// Numbers that have scales beside them, which the trace does not know of, are not what they seem.
    pub fn find_scales(&mut self, expected: &Expected<'_>, finder: &Finder<'c>) {
        let is_coded = |need: &Need<'_>, hit: &Hit<'_>| {
            need.dtype.is_float() && !hit.is_packed() && !is_plain(hit.tensor.dtype())
        };
        let pairs = expected.needs.iter().zip(&self.hits);
        let mut coded = pairs.filter_map(|(need, hit)| Some((need, hit.as_ref()?)));
        if !coded.any(|(need, hit)| is_coded(need, hit)) {
            return;
        }
        let (scales, used) = (Scales::new(finder.checkpoint), self.used());
        for (need, hit) in expected.needs.iter().zip(&mut self.hits) {
            let Some(hit) = hit.as_mut().filter(|hit| is_coded(need, hit)) else {
                continue;
            };
            let before = self.scales.len();
            let of = scales.of(hit.tensor.name());
            self.scales.extend(of.filter(|scale| !used.contains(scale)));
            if self.scales.len() > before {
                hit.form = Form::Scaled;
            }
        }
    }

    /// The keys that are a need.
    pub fn used(&self) -> HashSet<&'c str> {
        let hits = self.hits.iter().flatten();
        hits.map(|hit| hit.tensor.name()).collect()
    }

    /// Of needs that are one tensor, those that are absent take what another has.
    pub fn share(&mut self, expected: &Expected<'_>) {
        let hits = &mut self.hits;
        let tied = expected.needs.iter().enumerate();
        let tied =
            tied.filter_map(|(id, need)| Some((id, need.tied_to.filter(|&f| f < hits.len())?)));
        let tied: Vec<(usize, usize)> = tied.collect();
        // The first of a group stands for it: it takes the tensor of the first twin that has one.
        for &(id, first) in &tied {
            if hits[first].is_none() {
                hits[first] = hits[id].map(|hit| Hit { tied: true, ..hit });
            }
        }
        for (id, first) in tied {
            if hits[id].is_none() {
                hits[id] = hits[first].map(|hit| Hit { tied: true, ..hit });
            }
        }
    }

    /// What [`Validated`](super::Validated) says of each need; all have been found.
    pub fn sources(&self, expected: &Expected<'_>) -> Vec<Source> {
        let pairs = expected.needs.iter().zip(&self.hits);
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

    /// Needs that are not there, as their numbers.
    pub fn missing(&self) -> Vec<usize> {
        let hits = self.hits.iter().enumerate();
        hits.filter(|(_, hit)| hit.is_none())
            .map(|(id, _)| id)
            .collect()
    }
}

/// Looks for needs in a checkpoint.
pub(super) struct Finder<'c> {
    pub checkpoint: &'c Checkpoint,
    forms: Forms,
}

impl<'c> Finder<'c> {
    pub fn new(checkpoint: &'c Checkpoint) -> Self {
        Self {
            checkpoint,
            forms: Forms::new(checkpoint),
        }
    }

    /// The tensor of a need under this name: itself, in a quantized form, or by llama.cpp's name.
    pub fn locate(&self, name: &str, need: &Need<'_>) -> Option<Hit<'c>> {
        let own = self.checkpoint.get(name);
        if let Some(tensor) = own
            && *tensor.shape() == *need.shape
            && (tensor.dtype() == need.dtype || is_plain(tensor.dtype()))
        {
            return Some(Hit::new(tensor, Form::Plain));
        }
        // A trace that has integers is of the parts of a quantized weight, each for itself.
        let form = || self.forms.find(name, &need.shape, self.checkpoint);
        if let Some((tensor, form)) = need.dtype.is_float().then(form).flatten() {
            return Some(Hit::new(tensor, form));
        }
        if let Some(tensor) = own {
            return Some(Hit::new(tensor, form_of(&tensor)));
        }
        let is_gguf = self.checkpoint.is_gguf();
        let tensor = is_gguf.then(|| gguf::find(name, &need.shape, self.checkpoint))??;
        Some(Hit {
            mapped: true,
            ..Hit::new(tensor, form_of(&tensor))
        })
    }

    /// The name that a need has if this key is it.
    pub fn need_of<'k>(&self, key: &'k str) -> Cow<'k, str> {
        self.forms.need_of(key)
    }
}

impl<'c> Hit<'c> {
    fn new(tensor: Tensor<'c>, form: Form) -> Self {
        Self {
            tensor,
            tied: false,
            rows: Rows::AsStored,
            form,
            mapped: false,
        }
    }

    /// Whether it is a form whose shape is not that of the weight.
    pub fn is_packed(&self) -> bool {
        !matches!(self.form, Form::Plain | Form::Blocks)
    }
}

/// Whether the type alone says that nothing beside the tensor is needed to read it.
fn is_plain(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

fn form_of(tensor: &Tensor<'_>) -> Form {
    match tensor.dtype().is_quantized() {
        true => Form::Blocks,
        false => Form::Plain,
    }
}
