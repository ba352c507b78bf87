//! Sentences to vectors with all-MiniLM-L6-v2: texts that mean the same lie close together.
//!
//! In: texts, and a folder with `model.safetensors` and `tokenizer.json`. Out: one vector of length
//! one per text. The model is generated from `model/minilm_manifest.json`; the weights are given at
//! run time, so building needs neither Python nor the 90 MB of them.

use std::path::Path;

use pycandle::{DType, Device, Error, Probe, Result, Tensor, Weights};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

/// The encoder; its fields and functions are generated from the manifest.
#[pycandle::pycandle_model(manifest = "model/minilm_manifest.json")]
pub struct MiniLm;

/// Tokens of one text that are looked at; the model was trained on texts up to this length.
const MAX_TOKENS: usize = 256;
/// Texts that run through the model together.
const BATCH: usize = 8;

/// Tokens of some texts, padded to the longest; each tensor is `[texts, tokens]`, int64.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Token ids.
    pub input_ids: Tensor,
    /// 1 for a token, 0 for padding.
    pub attention_mask: Tensor,
    /// All zero: every text is one segment.
    pub token_type_ids: Tensor,
}

/// Model and tokenizer.
pub struct Embedder {
    model: MiniLm,
    tokenizer: Tokenizer,
    device: Device,
}

impl Embedder {
    /// Opens `model.safetensors` and `tokenizer.json` of a folder.
    ///
    /// # Errors
    /// When a file is absent, cannot be read, or does not fit the manifest.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let weights = Weights::open(folder.join("model.safetensors"))?;
        Ok(Self {
            model: MiniLm::load(&weights, device)?,
            tokenizer: tokenizer(&folder.join("tokenizer.json"))?,
            device: device.clone(),
        })
    }

    /// The texts' tokens, padded to the longest of them and cut at 256.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn tokenize(&self, texts: &[String]) -> Result<Batch> {
        let refused = |err| Error::msg(format!("the tokenizer refuses a text: {err}"));
        let encodings = self.tokenizer.encode_batch(texts.to_vec(), true);
        let encodings = encodings.map_err(refused)?;
        let length = encodings.first().map_or(0, |encoding| encoding.len());
        let tensor = |get: fn(&tokenizers::Encoding) -> &[u32]| {
            let values = encodings.iter().flat_map(get);
            let values: Vec<i64> = values.map(|&value| i64::from(value)).collect();
            Tensor::from_vec(values, (encodings.len(), length), &self.device)
        };
        Ok(Batch {
            input_ids: tensor(|encoding| encoding.get_ids())?,
            attention_mask: tensor(|encoding| encoding.get_attention_mask())?,
            token_type_ids: tensor(|encoding| encoding.get_type_ids())?,
        })
    }

    /// Embeds one padded batch and shows every module's output to `probe`: `[texts, 384]`.
    ///
    /// # Errors
    /// When the tensors do not have the shapes of [`Batch`].
    pub fn embed_batch(&self, batch: &Batch, probe: &mut impl Probe) -> Result<Tensor> {
        let output = self.model.forward_probed(
            &batch.input_ids,
            &batch.attention_mask,
            &batch.token_type_ids,
            probe,
        )?;
        normalise(&mean_pool(
            &output.last_hidden_state,
            &batch.attention_mask,
        )?)
    }

    /// Embeds texts, a few at a time: `[texts, 384]`, float32, every row of length one.
    ///
    /// # Errors
    /// When there are no texts, or the tokenizer refuses one.
    pub fn embed(&self, texts: &[String]) -> Result<Tensor> {
        if texts.is_empty() {
            return Err(Error::msg("there are no texts to embed"));
        }
        let batches = texts.chunks(BATCH).map(|texts| {
            let batch = self.tokenize(texts)?;
            self.embed_batch(&batch, &mut pycandle::NoProbe)
        });
        let batches = batches.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&batches, 0)?)
    }

    /// The model alone.
    pub fn model(&self) -> &MiniLm {
        &self.model
    }
}

/// Mean over the tokens that are no padding: `[texts, tokens, width]` to `[texts, width]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn mean_pool(hidden: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.to_dtype(hidden.dtype())?.unsqueeze(2)?;
    let sum = hidden.broadcast_mul(&mask)?.sum(1)?;
    let count = mask.sum(1)?.clamp(1e-9, f64::INFINITY)?;
    Ok(sum.broadcast_div(&count)?)
}

/// Rows of Euclidean length one, as `torch.nn.functional.normalize`.
///
/// # Errors
/// When `rows` is not a matrix of floats.
pub fn normalise(rows: &Tensor) -> Result<Tensor> {
    let length = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
    Ok(rows.broadcast_div(&length.clamp(1e-12, f64::INFINITY)?)?)
}

/// The texts closest to a query: index and cosine similarity, best first.
///
/// `texts` is `[texts, width]` and `query` `[1, width]`, rows of length one.
///
/// # Errors
/// When the shapes do not fit.
pub fn search(texts: &Tensor, query: &Tensor, best: usize) -> Result<Vec<(usize, f32)>> {
    let scores = texts.matmul(&query.t()?)?.flatten_all()?;
    let scores = scores.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(best);
    Ok(ranked)
}

/// The folder's tokenizer, padding to the longest text instead of a fixed length.
fn tokenizer(path: &Path) -> Result<Tokenizer> {
    let fail = |err| Error::msg(format!("{}: {err}", path.display()));
    let mut tokenizer = Tokenizer::from_file(path).map_err(fail)?;
    let padding = PaddingParams {
        strategy: PaddingStrategy::BatchLongest,
        ..tokenizer.get_padding().cloned().unwrap_or_default()
    };
    let truncation = TruncationParams {
        max_length: MAX_TOKENS,
        ..TruncationParams::default()
    };
    tokenizer.with_padding(Some(padding));
    tokenizer.with_truncation(Some(truncation)).map_err(fail)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_count() -> Result<()> {
        let hidden = Tensor::new(&[[[1f32, 2.], [3., 6.], [9., 9.]]], &Device::Cpu)?;
        let mask = Tensor::new(&[[1i64, 1, 0]], &Device::Cpu)?;
        assert_eq!(mean_pool(&hidden, &mask)?.to_vec2::<f32>()?, [[2., 4.]]);
        Ok(())
    }

    #[test]
    fn rows_have_length_one_and_zero_stays_zero() -> Result<()> {
        let rows = Tensor::new(&[[3f32, 4.], [0., 0.]], &Device::Cpu)?;
        let rows = normalise(&rows)?.to_vec2::<f32>()?;
        assert_eq!(rows, [[0.6, 0.8], [0., 0.]]);
        Ok(())
    }

    #[test]
    fn the_closest_text_comes_first() -> Result<()> {
        let texts = Tensor::new(&[[1f32, 0.], [0., 1.], [0.6, 0.8]], &Device::Cpu)?;
        let query = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?;
        let found = search(&texts, &query, 2)?;
        assert_eq!(found, [(1, 1.0), (2, 0.8)]);
        Ok(())
    }

    #[test]
    fn a_folder_without_weights_is_an_error_that_names_the_file() {
        let error = Embedder::open(Path::new("no/such/folder"), &Device::Cpu).err();
        let text = error.map(|err| err.to_string()).unwrap_or_default();
        assert!(text.contains("no/such/folder/model.safetensors"), "{text}");
    }
}
