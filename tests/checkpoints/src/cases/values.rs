//! Checkpoints that would load and compute something else, and names that are not what they seem.

use serde_json::json;

use crate::{Value, gguf};

use super::{AGAIN, Case, MANIFEST, Tensors, case, changed, kept, llama, manifest, named};

pub(super) fn cases() -> Vec<Case> {
    let biased = |mut tensors: Tensors| {
        for layer in 0..2 {
            let name = format!("model.layers.{layer}.mlp.gate_proj.bias");
            tensors.push((name, "F16", vec![96]));
        }
        tensors
    };
    let gamma = |name: &str| match name.contains("norm") {
        true => name.replace(".weight", ".gamma"),
        false => name.to_owned(),
    };
    let base = |name: &str| format!("base.{}", gamma(name));
    let forged = |name: &str| name.replace("model.norm", "model.norm\u{1b}[2J\nerror: ");
    let narrow = |mask, steps| -> Tensors {
        vec![
            ("model.mask".to_owned(), mask, vec![1]),
            ("model.steps".to_owned(), steps, vec![1]),
        ]
    };
    let counters = || [("model.count".to_owned(), "I64", vec![1])];
    vec![
        case(
            "bias",
            &biased(llama(2, "F16")),
            &[
                "unexpected (2): model.layers.{0,1}.mlp.gate_proj.bias",
                "the trace has the weights beside these without a bias and would compute something \
                 else: record again with the code that this checkpoint is of",
            ],
        ),
        case(
            "words",
            &named(llama(2, "F16"), gamma),
            &[
                "missing (3):",
                "model.layers.{0,1}.input_layernorm.weight",
                "model.norm.weight",
                "renamed: model.layers.0.input_layernorm.weight and 2 others may end in `.gamma` in \
                 the checkpoint: if so, add RULE",
            ],
        )
        .ruled([
            r#"rename = [("\\.gamma$", ".weight")]"#,
            r#".rename("\\.gamma$", ".weight")"#,
            r"--rename '\.gamma$=.weight'",
        ]),
        case(
            "words_and_prefix",
            &named(llama(2, "F16"), base),
            &[
                "missing (3):",
                "model.layers.{0,1}.input_layernorm.weight",
                "model.norm.weight",
                "prefix: 6 keys start with `base.`, the trace has them without it",
                "renamed: model.layers.0.input_layernorm.weight and 2 others may end in `.gamma` in \
                 the checkpoint: if so, add RULE",
            ],
        )
        .ruled([
            r#"rename = [("^base\\.", ""), ("\\.gamma$", ".weight")]"#,
            r#".rename("^base\\.", "").rename("\\.gamma$", ".weight")"#,
            r"--rename '^base\.=' --rename '\.gamma$=.weight'",
        ]),
        case(
            "dtype_of_counters",
            &[llama(2, "F16"), counters().map(|(name, _, shape)| (name, "F32", shape)).to_vec()].concat(),
            &[
                "dtype: model.count is F32, the trace has I64",
                "loading makes I64 only of I8, I16, U16, I32, U32 or I64: convert these tensors in the \
                 checkpoint, or record again with the model that it is of",
            ],
        )
        .with(
            MANIFEST,
            manifest(&[llama(2, "F32"), counters().to_vec()].concat(), &json!({})),
        ),
        case(
            "dtype_of_narrow",
            &[llama(2, "F16"), narrow("U8", "I64")].concat(),
            &[
                "dtype: model.mask is U8, the trace has BOOL",
                "dtype: model.steps is I64, the trace has I32",
                "loading makes BOOL only of BOOL: convert these tensors in the checkpoint, or record \
                 again with the model that it is of",
                "loading makes I32 only of I8, I16, U16 or I32: convert these tensors in the checkpoint, \
                 or record again with the model that it is of",
            ],
        )
        .with(
            MANIFEST,
            manifest(&[llama(2, "F32"), narrow("BOOL", "I32")].concat(), &json!({})),
        ),
        case(
            "dtype_of_floats",
            &changed("gate_proj", |dtype, _| *dtype = "F8_E5M2"),
            &[
                "dtype: model.layers.{0,1}.mlp.gate_proj.weight is F8_E5M2, the trace has F32",
                "loading makes F32 only of F64, F32, F16, BF16 or F8_E4M3: convert these tensors in the \
                 checkpoint, or record again with the model that it is of",
            ],
        ),
        case(
            "dtype_of_twins",
            &changed("lm_head", |dtype, _| *dtype = "BF16"),
            &[
                "dtype: lm_head.weight is BF16 and model.embed_tokens.weight is F16, in the trace they \
                 are one tensor",
                "loading reads one of them for both: write the checkpoint with equal ones or with only \
                 one of them, or untie them in the model and record it again",
            ],
        ),
        case(
            "twice",
            &kept(llama(2, "F16"), |name| !name.contains("layers.0")),
            &[
                "twice: model.layers.0.input_layernorm.weight and model.layers.1.input_layernorm.weight \
                 would both be read from one tensor",
                "twice: model.layers.0.mlp.down_proj.weight and model.layers.1.mlp.down_proj.weight \
                 would both be read from one tensor",
                "twice: model.layers.0.mlp.gate_proj.weight and model.layers.1.mlp.gate_proj.weight \
                 would both be read from one tensor",
                "some keys are named as the model's, others as before the rename rules, and a name of \
                 the one is another tensor's in the other: take a checkpoint with all names of one kind, \
                 such as `cargo pycandle extract` writes, or generate the code again with rules for this \
                 one",
            ],
        )
        .renamed(&[(r"^model\.layers\.1\.", "model.layers.0.")]),
        case(
            "converted_renamed",
            &Vec::new(),
            &[
                "tied: lm_head.weight is absent; it is tied to model.embed_tokens.weight in the trace: ok",
                "converted: files of the architecture `gemma` have 1 added to the weights of their \
                 norms, which loading does not undo",
                "take the model's safetensors checkpoint instead of the GGUF file",
            ],
        )
        .with(MANIFEST, manifest(&llama(2, "F32"), &json!({"model_type": "gemma"})))
        .of_gguf("gemma", "Q8_0")
        .renamed(&[
            (r"^blk\.(\d+)\.attn_norm\.", "model.layers.${1}.input_layernorm."),
            (r"^blk\.(\d+)\.ffn_(gate|down)\.", "model.layers.${1}.mlp.${2}_proj."),
            (r"^output_norm\.", "model.norm."),
            (r"^token_embd\.", "model.embed_tokens."),
        ]),
        case(
            "unprintable",
            &named(llama(2, "F16"), forged),
            &[
                "missing: model.norm.weight",
                r"unexpected: model.norm\u{1b}[2J\nerror: .weight",
                "nothing needs these: leave `strict` out, or write a checkpoint without them with \
                 `cargo pycandle extract`",
                AGAIN,
            ],
        )
        .strict(),
        with_attention(
            "converted_rows",
            Value::Integers(&[2, 4]),
            &[
                "converted: llama.cpp puts the rows of q and k in another order, head by head, and by \
                 `llama.attention.head_count_kv` there is no number of heads that holds for every layer \
                 and divides the rows",
                "take the model's safetensors checkpoint instead of the GGUF file",
            ],
        ),
        with_attention("fits_rows", Value::Integers(&[2, 2]), &[]),
    ]
}

/// A llama of two layers with four heads and so many for keys, in a GGUF.
fn with_attention(name: &'static str, heads: Value, report: &[&'static str]) -> Case {
    let (mut traced, mut file) = (llama(0, "F32"), Tensors::new());
    traced.retain(|(name, ..)| name == "model.embed_tokens.weight");
    file.push(("token_embd.weight".to_owned(), "F32", vec![64, 32]));
    for layer in 0..2 {
        for (part, key, rows) in [("q_proj", "attn_q", 32), ("k_proj", "attn_k", 16)] {
            let shape = vec![rows, 32];
            let name = format!("model.layers.{layer}.self_attn.{part}.weight");
            traced.push((name, "F32", shape.clone()));
            file.push((format!("blk.{layer}.{key}.weight"), "F32", shape));
        }
    }
    let metadata = [
        ("general.architecture", Value::Text("llama")),
        ("llama.attention.head_count", Value::Integer(4)),
        ("llama.attention.head_count_kv", heads),
    ];
    let mut case = case(name, &Tensors::new(), report)
        .with(MANIFEST, manifest(&traced, &json!({})))
        .with("model.gguf", gguf(&metadata, &file));
    case.weights = "model.gguf";
    case
}
