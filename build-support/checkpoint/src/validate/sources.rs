//! Where each need is, of those that are somewhere else or something else than the trace says.

use std::collections::BTreeMap;

use crate::open::{Checkpoint, TensorId};

/// Where one need is in the checkpoint, and in what form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// Which tensor it is; `None` when that is the one with the name of the need.
    pub id: Option<TensorId>,
    /// The order of its rows.
    pub rows: Rows,
    /// How its numbers are stored.
    pub form: Form,
}

impl Source {
    /// The key of the tensor in this checkpoint; `None` when that is the name of the need.
    pub fn key<'c>(&self, checkpoint: &'c Checkpoint) -> Option<&'c str> {
        Some(checkpoint.at(self.id?)?.name())
    }
}

/// The order of a tensor's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rows {
    /// As in the trace.
    #[default]
    AsStored,
    /// As llama.cpp writes q and k of models with interleaved rotary embedding: within each of the
    /// heads the rows are (d/2, 2), where the trace has (2, d/2).
    Interleaved {
        /// Number of heads that the rows consist of.
        heads: usize,
    },
}

/// How the numbers of a weight are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Form {
    /// One after another, in one of the plain dtypes.
    #[default]
    Plain,
    /// In blocks of GGUF, of the type that is the tensor's dtype.
    Blocks,
    /// bitsandbytes, 4-bit normal float.
    Nf4,
    /// bitsandbytes, 4-bit float.
    Fp4,
    /// bitsandbytes, 4 bits, and nothing says of which kind.
    Bits4,
    /// bitsandbytes, 8-bit integers.
    Int8,
    /// GPTQ: integers packed along the inputs.
    Gptq,
    /// AWQ: integers packed along the outputs.
    Awq,
    /// compressed-tensors, packed integers.
    Packed,
    /// Numbers of a few bits, such as FP8 or INT8, with scales beside them.
    Scaled,
    /// Pairs of 4-bit floats in blocks with scales, and one scale for all.
    Nvfp4,
    /// ExLlamaV3's trellis codes.
    Trellis,
    /// ExLlamaV2, packed integers of several widths.
    Exl2,
    /// HQQ.
    Hqq,
    /// Quanto.
    Quanto,
    /// AQLM's codebooks.
    Aqlm,
    /// MLX, packed integers.
    Mlx,
    /// Blocks of 4-bit floats that share an exponent.
    Mxfp4,
    /// Direction and length apart, as PyTorch's weight norm trains them.
    WeightNorm,
    /// Divided by its largest singular value when it is used.
    SpectralNorm,
    /// With a low-rank adapter beside it that has to be added.
    Adapter,
}

/// Where all needs are: 4 bytes for each where any has another key, and 1 where any has another form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// Empty where all have their names.
    ids: Vec<Option<TensorId>>,
    /// Empty where all are plain.
    forms: Vec<Form>,
    /// The order of rows, of those of which it is another, by their numbers.
    rows: BTreeMap<usize, Rows>,
}

impl Sources {
    /// Of needs in their order: what a tensor is whose name is another one, and its form.
    pub fn new(
        needs: impl Iterator<Item = (Option<TensorId>, Form)> + Clone,
        rows: BTreeMap<usize, Rows>,
    ) -> Self {
        let ids = needs.clone().map(|(id, _)| id);
        let forms = needs.map(|(_, form)| form);
        Self {
            ids: unless_default(ids),
            forms: unless_default(forms),
            rows,
        }
    }

    pub fn get(&self, need: usize) -> Source {
        Source {
            id: self.ids.get(need).copied().flatten(),
            form: self.forms.get(need).copied().unwrap_or_default(),
            rows: self.rows.get(&need).copied().unwrap_or_default(),
        }
    }

    /// Those that are not as they were traced.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Source)> {
        let rows = self.rows.last_key_value().map_or(0, |(last, _)| last + 1);
        let len = self.ids.len().max(self.forms.len()).max(rows);
        let all = (0..len).map(|need| (need, self.get(need)));
        all.filter(|(_, source)| *source != Source::default())
    }
}

/// All of them, or none where there is nothing to keep.
fn unless_default<T: Default + PartialEq>(all: impl Iterator<Item = T> + Clone) -> Vec<T> {
    match all.clone().all(|one| one == T::default()) {
        true => Vec::new(),
        false => all.collect(),
    }
}
