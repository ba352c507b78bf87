//! Names and row order of GGUF files, as llama.cpp's converters write them.
//!
//! Source: the tensor names of the Python package `gguf`, and what each converter does to values.

use super::names::number;
use super::{Need, Rows};
use crate::header::Value;
use crate::open::{Checkpoint, Tensor};

/// Tensors of a block: the GGUF's name behind `blk.*.`, and what models call it behind the number of
/// their layer. Where a model's name stands twice, the file has one or the other; the first that it
/// has counts.
const BLOCK: &[(&str, &[&str])] = &[
    (
        "attn_norm",
        &[
            "input_layernorm",
            "ln_1",
            "attention_norm",
            "attn_norm",
            "norm1",
        ],
    ),
    (
        "attn_q",
        &[
            "self_attn.q_proj",
            "attention.self.query",
            "attention.wq",
            "attn.q_proj",
            "attention.q_lin",
            "attn.attention.q_proj",
        ],
    ),
    (
        "attn_k",
        &[
            "self_attn.k_proj",
            "attention.self.key",
            "attention.wk",
            "attn.k_proj",
            "attention.k_lin",
            "attn.attention.k_proj",
        ],
    ),
    (
        "attn_v",
        &[
            "self_attn.v_proj",
            "attention.self.value",
            "attention.wv",
            "attn.v_proj",
            "attention.v_lin",
            "attn.attention.v_proj",
        ],
    ),
    (
        "attn_qkv",
        &[
            "self_attn.qkv_proj",
            "attn.c_attn",
            "attn.Wqkv",
            "self_attn.query_key_value",
            "self_attention.query_key_value",
            "mixer.Wqkv",
        ],
    ),
    (
        "attn_output",
        &[
            "self_attn.o_proj",
            "self_attn.dense",
            "self_attn.out_proj",
            "attention.output.dense",
            "attn.c_proj",
            "attention.wo",
            "attn.out_proj",
            "attention.out_lin",
            "self_attention.dense",
            "attn.attention.out_proj",
        ],
    ),
    (
        "attn_q_norm",
        &["self_attn.q_norm", "self_attn.q_layernorm"],
    ),
    (
        "attn_k_norm",
        &["self_attn.k_norm", "self_attn.k_layernorm"],
    ),
    ("attn_sinks", &["self_attn.sinks"]),
    (
        "attn_output_norm",
        &["attention.output.LayerNorm", "sa_layer_norm", "norm1"],
    ),
    ("post_attention_norm", &["post_attention_layernorm"]),
    (
        "ffn_norm",
        &[
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "ln_2",
            "ffn_norm",
            "norm_2",
        ],
    ),
    ("post_ffw_norm", &["post_feedforward_layernorm"]),
    (
        "ffn_gate",
        &["mlp.gate_proj", "feed_forward.w1", "mlp.fc12"],
    ),
    (
        "ffn_up",
        &[
            "mlp.up_proj",
            "mlp.gate_up_proj",
            "mlp.fc1",
            "mlp.c_fc",
            "intermediate.dense",
            "feed_forward.w3",
            "ffn.lin1",
            "mlp.fc11",
            "mlp.dense_h_to_4h",
        ],
    ),
    (
        "ffn_down",
        &[
            "mlp.down_proj",
            "mlp.fc2",
            "mlp.c_proj",
            "output.dense",
            "feed_forward.w2",
            "ffn.lin2",
            "mlp.dense_4h_to_h",
        ],
    ),
    (
        "layer_output_norm",
        &["output.LayerNorm", "output_layer_norm", "norm2"],
    ),
    (
        "ffn_gate_inp",
        &["mlp.gate", "block_sparse_moe.gate", "mlp.router"],
    ),
    ("ffn_gate_inp_shexp", &["mlp.shared_expert_gate"]),
    ("ffn_gate_exps", &["mlp.experts.gate_proj"]),
    ("ffn_up_exps", &["mlp.experts.up_proj"]),
    ("ffn_down_exps", &["mlp.experts.down_proj"]),
    ("ffn_gate_up_exps", &["mlp.experts.gate_up_proj"]),
    (
        "ffn_gate_shexp",
        &[
            "mlp.shared_expert.gate_proj",
            "mlp.shared_experts.gate_proj",
        ],
    ),
    (
        "ffn_up_shexp",
        &["mlp.shared_expert.up_proj", "mlp.shared_experts.up_proj"],
    ),
    (
        "ffn_down_shexp",
        &[
            "mlp.shared_expert.down_proj",
            "mlp.shared_experts.down_proj",
        ],
    ),
];

/// Tensors outside of the blocks, by the end of a model's name.
const WHOLE: &[(&str, &[&str])] = &[
    (
        "token_embd",
        &[
            "embed_tokens",
            "wte",
            "word_embeddings",
            "tok_embeddings",
            "embed_in",
        ],
    ),
    ("token_types", &["token_type_embeddings"]),
    (
        "position_embd",
        &["position_embeddings", "wpe", "embed_positions"],
    ),
    (
        "token_embd_norm",
        &[
            "embeddings.LayerNorm",
            "emb_ln",
            "word_embeddings_layernorm",
        ],
    ),
    ("output", &["lm_head", "embed_out"]),
    (
        "output_norm",
        &["norm", "ln_f", "final_layernorm", "final_layer_norm"],
    ),
];

/// Tensors of a GGUF that carry no weight of a model: tables for rotary embedding.
pub(super) const TABLES: &[&str] = &[
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

/// What a converter does beside giving names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    /// Nothing, or a transpose that the shape shows.
    None,
    /// The rows of q and k are put in another order.
    Interleaved,
    /// 1 is added to the weights of norms.
    ShiftedNorms,
}

/// By `general.architecture`, and with the `model_type` of the models that are converted to it. Of an
/// architecture that is not here, neither is known.
const ARCHITECTURES: &[(&str, Conversion, &[&str])] = &[
    ("arcee", Conversion::Interleaved, &["arcee"]),
    (
        "bert",
        Conversion::None,
        &["bert", "camembert", "distilbert", "roberta", "xlm-roberta"],
    ),
    ("cohere2", Conversion::None, &["cohere2"]),
    ("command-r", Conversion::None, &["cohere"]),
    ("exaone", Conversion::None, &["exaone"]),
    ("gemma", Conversion::ShiftedNorms, &["gemma"]),
    ("gemma2", Conversion::ShiftedNorms, &["gemma2"]),
    (
        "gemma3",
        Conversion::ShiftedNorms,
        &["gemma3_text", "gemma3"],
    ),
    ("gpt2", Conversion::None, &["gpt2"]),
    (
        "granite",
        Conversion::Interleaved,
        &["granite", "granitemoehybrid"],
    ),
    (
        "llama",
        Conversion::Interleaved,
        &[
            "llama",
            "mistral",
            "mixtral",
            "internlm3",
            "iquestcoder",
            "vllama3",
        ],
    ),
    ("minicpm", Conversion::Interleaved, &["minicpm"]),
    (
        "mistral3",
        Conversion::Interleaved,
        &["ministral3", "mistral3", "mistral"],
    ),
    ("nemotron", Conversion::ShiftedNorms, &["nemotron"]),
    ("nomic-bert", Conversion::None, &["nomic_bert"]),
    ("olmo", Conversion::Interleaved, &["olmo", "hf_olmo"]),
    ("olmo2", Conversion::None, &["olmo2", "olmo3"]),
    ("phi2", Conversion::None, &["phi"]),
    ("phi3", Conversion::None, &["phi3", "phi4-siglip"]),
    (
        "qwen2",
        Conversion::None,
        &["qwen2", "qwen2_audio", "kormo", "dots_ocr"],
    ),
    ("qwen2moe", Conversion::None, &["qwen2_moe"]),
    ("qwen3", Conversion::None, &["qwen3"]),
    ("qwen3moe", Conversion::None, &["qwen3_moe"]),
    ("seed_oss", Conversion::None, &["seed_oss"]),
    ("smollm3", Conversion::Interleaved, &["smollm3"]),
    ("starcoder2", Conversion::None, &["starcoder2"]),
];

/// The tensor that a need is in a GGUF, by llama.cpp's names; of several that may be meant, one of
/// the same shape.
pub(super) fn find<'c>(name: &str, shape: &[usize], from: &'c Checkpoint) -> Option<Tensor<'c>> {
    let keys = keys(name);
    let found = || keys.iter().filter_map(|key| from.get(key));
    found()
        .find(|t| *t.shape() == *shape)
        .or_else(|| found().next())
}

/// llama.cpp's names for a model's name, the likeliest first.
fn keys(name: &str) -> Vec<String> {
    // A parameter of a module, or one that is no module's weight and gets the ending in the file.
    let (module, leaf) = match name.rsplit_once('.') {
        Some((module, leaf @ ("weight" | "bias"))) => (module, leaf),
        _ => (name, "weight"),
    };
    match after_number(module) {
        Some((number, rest)) => {
            let rows = BLOCK.iter().filter(|(_, names)| names.contains(&rest));
            rows.map(|(key, _)| format!("blk.{number}.{key}.{leaf}"))
                .collect()
        }
        None => {
            let ends = |end: &&str| {
                let head = module.strip_suffix(*end);
                head.is_some_and(|head| head.is_empty() || head.ends_with('.'))
            };
            let rows = WHOLE.iter().filter(|(_, names)| names.iter().any(ends));
            rows.map(|(key, _)| format!("{key}.{leaf}")).collect()
        }
    }
}

/// The first number among the segments of a name, and what follows it.
fn after_number(name: &str) -> Option<(u32, &str)> {
    let mut start = 0;
    for segment in name.split('.') {
        let end = start + segment.len();
        if let Some(number) = number(segment) {
            return Some((number, name.get(end + 1..).unwrap_or("")));
        }
        start = end + 1;
    }
    None
}

/// Whether a file has llama.cpp's names, so that its converter wrote it.
pub(super) fn is_llama_cpp(file: &Checkpoint) -> bool {
    let is_block = |name: &str| {
        let segments = || name.split('.');
        let mut pairs = segments().zip(segments().skip(1));
        pairs.any(|(block, n)| block == "blk" && number(n).is_some())
    };
    file.is_gguf() && file.iter().any(|tensor| is_block(tensor.name()))
}

/// The order of the rows of a need whose tensor llama.cpp's converter wrote.
///
/// # Errors
/// A sentence when the converter changed values in a way that is not undone, or is not known.
pub(super) fn rows(need: &Need<'_>, key: &str, from: &Checkpoint) -> Result<Rows, String> {
    let Some(architecture) = architecture(from) else {
        return Err("its metadata names no `general.architecture`".into());
    };
    let known = ARCHITECTURES
        .iter()
        .find(|(name, ..)| *name == architecture);
    match known.map(|(_, conversion, _)| conversion) {
        Some(Conversion::None) => Ok(Rows::AsStored),
        Some(Conversion::ShiftedNorms) => Err(format!(
            "files of the architecture `{architecture}` have 1 added to the weights of their norms, \
             which loading does not undo"
        )),
        Some(Conversion::Interleaved) => {
            let (name, part) = (key, key.split('.').nth(2));
            let key = match part {
                _ if is_interleaved(&need.name) => return Ok(Rows::AsStored),
                Some("attn_q") => "head_count",
                Some("attn_k") => "head_count_kv",
                _ => return Ok(Rows::AsStored),
            };
            // Without a count of its own, k has as many heads as q. A count that differs from layer to
            // layer is an array, and none.
            let of_q = metadata(from, "attention.head_count");
            let heads = metadata(from, &format!("attention.{key}")).or(of_q);
            let heads = heads.and_then(Value::as_usize);
            let first = |shape: &[usize]| shape.first().copied().unwrap_or(0);
            let rows = first(need.shape);
            // Heads of k are as wide as those of q.
            let q = from.get(&name.replacen("attn_k", "attn_q", 1));
            let as_wide = |heads: usize| {
                let of_q = of_q.and_then(Value::as_usize);
                let both = q.zip(of_q);
                let product = |rows: usize, heads: usize| rows as u128 * heads as u128;
                both.is_none_or(|(q, of_q)| product(first(q.shape()), heads) == product(rows, of_q))
            };
            match heads {
                Some(heads) if is_divided(rows, heads) && as_wide(heads) => {
                    Ok(Rows::Interleaved { heads })
                }
                _ => Err(format!(
                    "llama.cpp puts the rows of q and k in another order, head by head, and by \
                     `{architecture}.attention.{key}` there is no number of heads that holds for \
                     every layer and divides the rows"
                )),
            }
        }
        None => Err(format!(
            "it is not known what llama.cpp changed in the values of the architecture \
             `{architecture}`"
        )),
    }
}

/// Whether so many heads have an even number of rows each.
fn is_divided(rows: usize, heads: usize) -> bool {
    let pairs = heads.checked_mul(2).filter(|pairs| *pairs > 0);
    pairs.is_some_and(|pairs| rows.is_multiple_of(pairs))
}

/// Whether models that call their weights so have the rows of q and k in llama.cpp's order to begin
/// with: these are the names of Llama's first release, whose files are converted without moving rows.
fn is_interleaved(need: &str) -> bool {
    let module = need.rsplit_once('.').map_or(need, |(module, _)| module);
    module.ends_with(".attention.wq") || module.ends_with(".attention.wk")
}

/// The `model_type` of models that llama.cpp's converter makes files of this architecture of, the
/// usual one first; none where that is not known.
pub(super) fn model_types(architecture: &str) -> &'static [&'static str] {
    let mut known = ARCHITECTURES.iter();
    let known = known.find(|(name, ..)| *name == architecture);
    known.map_or(&[], |(_, _, types)| types)
}

/// The architecture that a GGUF names.
pub(super) fn architecture(from: &Checkpoint) -> Option<&str> {
    from.metadata("general.architecture")?.as_text()
}

/// A value in the metadata of the file's architecture.
pub(super) fn metadata<'c>(from: &'c Checkpoint, key: &str) -> Option<&'c Value> {
    let architecture = architecture(from)?;
    from.metadata(&format!("{architecture}.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_sorted_and_names_lead_to_keys() {
        assert!(ARCHITECTURES.is_sorted_by_key(|(name, ..)| name));
        for (name, expected) in [
            (
                "model.layers.3.self_attn.q_proj.weight",
                &["blk.3.attn_q.weight"][..],
            ),
            (
                "layers.0.input_layernorm.weight",
                &["blk.0.attn_norm.weight"],
            ),
            (
                "model.layers.1.post_attention_layernorm.weight",
                &["blk.1.post_attention_norm.weight", "blk.1.ffn_norm.weight"],
            ),
            ("transformer.h.2.attn.c_attn.bias", &["blk.2.attn_qkv.bias"]),
            (
                "encoder.layer.5.output.dense.bias",
                &["blk.5.ffn_down.bias"],
            ),
            (
                "encoder.layer.5.attention.output.dense.bias",
                &["blk.5.attn_output.bias"],
            ),
            ("bert.embeddings.LayerNorm.bias", &["token_embd_norm.bias"]),
            (
                "model.language_model.embed_tokens.weight",
                &["token_embd.weight"],
            ),
            ("norm.weight", &["output_norm.weight"]),
            (
                "model.layers.0.mlp.experts.down_proj",
                &["blk.0.ffn_down_exps.weight"],
            ),
            ("subnorm.weight", &[]),
            ("layers.0", &[]),
        ] {
            assert_eq!(keys(name), expected, "{name}");
        }
    }
}
