//! A prompt goes in, tokens come out one by one.

use pycandle::{DType, Device, Error, ModelCache, Result, Tensor};

use crate::Sampler;
use crate::model::Model;

/// One sequence that is being continued: an iterator over its new tokens, without an end.
///
/// The prompt is run at once; every later step runs the last token alone, since the cache holds
/// the keys and values of all before it.
pub struct Decoder<'a> {
    model: &'a Model,
    device: Device,
    cache: ModelCache<Model>,
    sampler: Sampler,
    /// Tokens that the model has not seen yet.
    pending: Vec<i64>,
}

impl<'a> Decoder<'a> {
    /// Continues `prompt`, token ids of the model's vocabulary.
    ///
    /// # Errors
    /// When the prompt is empty.
    pub fn new(
        model: &'a Model,
        device: &Device,
        prompt: Vec<i64>,
        sampler: Sampler,
    ) -> Result<Self> {
        if prompt.is_empty() {
            return Err(Error::msg("the prompt is empty"));
        }
        Ok(Self {
            model,
            device: device.clone(),
            cache: model.cache(),
            sampler,
            pending: prompt,
        })
    }

    /// Runs what is pending and chooses the next token.
    fn step(&mut self) -> Result<i64> {
        let new = self.pending.len();
        let total = self.cache.len() + new;
        let ids = Tensor::from_slice(&self.pending, (1, new), &self.device)?;
        let mask = Tensor::ones((1, total), DType::I64, &self.device)?;
        let logits = self.model.forward(&ids, &mask, &mut self.cache)?;
        let last = logits.get(0)?.get(logits.dim(1)? - 1)?;
        let token = self
            .sampler
            .choose(&last.to_dtype(DType::F32)?.to_vec1()?)?;
        self.pending = vec![token];
        Ok(token)
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<i64>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.step())
    }
}
