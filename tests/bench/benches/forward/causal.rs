//! The causal model in two dtypes: a prompt, and one more token after it.

use candle_transformers::models::llama;
use pycandle::{DType, Device, ModelCache, RequiredKey, Result, Tensor, Weights};
use pycandle_bench::{llama as f32_llama, llama_bf16};

use super::measure::{Case, compare};
use super::{builder, ids, ones, weights};

/// Tokens of the prompt.
const PAST: usize = 128;
const HIDDEN: usize = 896;
const VOCABULARY: usize = 32000;

/// What both generated models have.
pub trait Causal: Sized {
    const MANIFEST: &str;
    const DTYPE: DType;
    /// Furthest that the outputs may lie apart, of the largest value: candle-transformers rounds
    /// between other operations, over 24 layers.
    const TOLERANCE: f64;
    fn required_keys() -> Result<Vec<RequiredKey>>;
    fn load(weights: &Weights, device: &Device) -> Result<Self>;
    fn cache(&self) -> ModelCache<Self>;
    fn run(&self, ids: &Tensor, mask: &Tensor, cache: &mut ModelCache<Self>) -> Result<Tensor>;
}

macro_rules! causal {
    ($module:ident, $dtype:expr, $tolerance:expr) => {
        impl Causal for $module::Llama {
            const MANIFEST: &str = $module::MANIFEST;
            const DTYPE: DType = $dtype;
            const TOLERANCE: f64 = $tolerance;
            fn required_keys() -> Result<Vec<RequiredKey>> {
                Self::required_keys()
            }
            fn load(weights: &Weights, device: &Device) -> Result<Self> {
                Self::load(weights, device)
            }
            fn cache(&self) -> ModelCache<Self> {
                self.cache()
            }
            fn run(
                &self,
                i: &Tensor,
                mask: &Tensor,
                cache: &mut ModelCache<Self>,
            ) -> Result<Tensor> {
                self.forward(i, mask, cache)?
                    .flatten_all()
                    .map_err(Into::into)
            }
        }
    };
}

causal!(f32_llama, DType::F32, 1e-4);
causal!(llama_bf16, DType::BF16, 4e-2);

/// The prompt up to the logits of its last token, and a decoding step.
pub fn cases<M: Causal>(wanted: &dyn Fn(&str) -> bool, cases: &mut Vec<Case>) -> Result<()> {
    let dtype = M::DTYPE;
    let prefill = format!("llama {} prefill 1x{PAST}", dtype.as_str());
    let decode = format!("llama {} decode 1 after {PAST}", dtype.as_str());
    if !wanted(&prefill) && !wanted(&decode) {
        return Ok(());
    }
    let file = weights::file(M::MANIFEST)?;
    let config = config();
    let ours = M::load(&Weights::open(&file)?, &Device::Cpu)?;
    let theirs = llama::Llama::load(builder(&file, dtype)?, &config)?;
    let (prompt, mask) = (ids(1, PAST, VOCABULARY as i64)?, ones(PAST)?);
    let empty = llama::Cache::new(true, dtype, &config, &Device::Cpu)?;
    let their = |ids: &Tensor, position: usize, cache: &mut llama::Cache| -> Result<Tensor> {
        Ok(theirs.forward(ids, position, cache)?.flatten_all()?)
    };
    if wanted(&prefill) {
        cases.push(compare(
            Case::new(&prefill, M::TOLERANCE),
            || ours.run(&prompt, &mask, &mut ours.cache()),
            || their(&prompt, 0, &mut empty.clone()),
        )?);
    }
    if wanted(&decode) {
        let (mut our_cache, mut cache) = (ours.cache(), empty.clone());
        ours.run(&prompt, &mask, &mut our_cache)?;
        their(&prompt, 0, &mut cache)?;
        let (token, mask) = (ids(1, 1, VOCABULARY as i64)?, ones(PAST + 1)?);
        // A step reads all weights but the embeddings, of which it takes one row.
        let embeddings = VOCABULARY * HIDDEN * dtype.size_in_bytes();
        let reads = weights::bytes(&file)? - embeddings as u64;
        cases.push(compare(
            Case::new(&decode, M::TOLERANCE).reads(reads),
            || {
                our_cache.truncate(PAST);
                ours.run(&token, &mask, &mut our_cache)
            },
            || their(&token, PAST, &mut cache.clone()),
        )?);
    }
    Ok(())
}

fn config() -> llama::Config {
    llama::Config {
        hidden_size: HIDDEN,
        intermediate_size: 4864,
        vocab_size: VOCABULARY,
        num_hidden_layers: 24,
        num_attention_heads: 14,
        num_key_value_heads: 2,
        rms_norm_eps: 1e-5,
        max_position_embeddings: 2048,
        ..llama::Config::config_7b_v2(false)
    }
}
