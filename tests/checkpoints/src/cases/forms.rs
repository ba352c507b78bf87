//! Weights in forms that loading cannot multiply by, one case for each.

use serde_json::json;

use super::{Case, MANIFEST, Tensors, case, llama, manifest};

/// The parts of a weight of so many inputs and outputs: what stands behind its module, types, shapes.
type Parts = Vec<(&'static str, &'static str, Vec<usize>)>;

/// The model with these parts in the place of each matrix of its layers.
fn packed(parts: impl Fn(usize, usize) -> Parts) -> Tensors {
    let mut all = Vec::new();
    for (name, dtype, shape) in llama(2, "F16") {
        match name.strip_suffix("_proj.weight") {
            Some(stem) => {
                let parts = parts(shape[1], shape[0]).into_iter();
                all.extend(
                    parts.map(|(part, dtype, shape)| (format!("{stem}_proj.{part}"), dtype, shape)),
                );
            }
            None => all.push((name, dtype, shape)),
        }
    }
    all
}

/// A model of which nothing but these weights is wrong, and nothing beside them is unexpected.
fn form(
    name: &'static str,
    head: &'static str,
    advice: &'static str,
    parts: impl Fn(usize, usize) -> Parts,
) -> Case {
    let lines = [
        head,
        "model.layers.{0,1}.mlp.down_proj.weight",
        "model.layers.{0,1}.mlp.gate_proj.weight",
        advice,
    ];
    case(name, &packed(parts), &lines).strict()
}

const QUANTIZED: &str = "loading cannot multiply by these: take the model's checkpoint in BF16, F16 or \
    F32, or a GGUF file of it";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = of_integers();
    cases.extend(of_floats());
    cases.extend(computed());
    cases
}

fn of_integers() -> Vec<Case> {
    vec![
        form(
            "quantized_bitsandbytes",
            "quantized: 4 weights are stored as bitsandbytes NF4:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "U8", vec![inputs * outputs / 2, 1]),
                    ("weight.absmax", "F32", vec![48]),
                    ("weight.quant_map", "F32", vec![16]),
                    ("weight.quant_state.bitsandbytes__nf4", "U8", vec![80]),
                ]
            },
        ),
        form(
            "quantized_bitsandbytes_fp4",
            "quantized: 4 weights are stored as bitsandbytes FP4:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "U8", vec![inputs * outputs / 2, 1]),
                    ("weight.absmax", "U8", vec![48]),
                    ("weight.nested_absmax", "F32", vec![1]),
                    ("weight.nested_quant_map", "F32", vec![256]),
                    ("weight.quant_map", "F32", vec![16]),
                    ("weight.quant_state.bitsandbytes__fp4", "U8", vec![80]),
                ]
            },
        ),
        form(
            "quantized_bitsandbytes_part",
            "quantized: 4 weights are stored as bitsandbytes 4-bit:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "U8", vec![inputs * outputs / 2, 1]),
                    ("weight.absmax", "F32", vec![48]),
                ]
            },
        ),
        form(
            "quantized_bitsandbytes_8bit",
            "quantized: 4 weights are stored as bitsandbytes 8-bit:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "I8", vec![outputs, inputs]),
                    ("weight_format", "U8", vec![]),
                    ("SCB", "F32", vec![outputs]),
                ]
            },
        ),
        form(
            "quantized_gptq",
            "quantized: 4 weights are stored as GPTQ:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("qweight", "I32", vec![inputs / 8, outputs]),
                    ("qzeros", "I32", vec![1, outputs / 8]),
                    ("scales", "F16", vec![1, outputs]),
                    ("g_idx", "I32", vec![inputs]),
                ]
            },
        ),
        form(
            "quantized_gptq_part",
            "quantized: 4 weights are stored as GPTQ:",
            QUANTIZED,
            |inputs, outputs| vec![("qweight", "I32", vec![inputs / 8, outputs])],
        ),
        form(
            "quantized_awq",
            "quantized: 4 weights are stored as AWQ:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("qweight", "I32", vec![inputs, outputs / 8]),
                    ("qzeros", "I32", vec![1, outputs / 8]),
                    ("scales", "F16", vec![1, outputs]),
                ]
            },
        ),
        form(
            "quantized_compressed_tensors",
            "quantized: 4 weights are stored as compressed-tensors:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight_packed", "I32", vec![outputs, inputs / 8]),
                    ("weight_scale", "BF16", vec![outputs, 1]),
                    ("weight_zero_point", "I32", vec![outputs / 8, 1]),
                    ("weight_shape", "I64", vec![2]),
                    ("weight_g_idx", "I32", vec![inputs]),
                ]
            },
        ),
        form(
            "quantized_int8",
            "quantized: 4 weights are stored as scaled INT8:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "I8", vec![outputs, inputs]),
                    ("weight_scale", "BF16", vec![outputs, 1]),
                ]
            },
        ),
        form(
            "quantized_exl2",
            "quantized: 4 weights are stored as EXL2:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("q_weight", "I32", vec![inputs / 8, outputs]),
                    ("q_scale", "I32", vec![1, outputs / 8]),
                    ("q_scale_max", "F16", vec![1]),
                    ("q_groups", "I16", vec![2]),
                    ("q_invperm", "I32", vec![inputs]),
                ]
            },
        ),
        form(
            "quantized_exl3",
            "quantized: 4 weights are stored as EXL3:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("trellis", "I16", vec![inputs / 16, outputs / 16, 64]),
                    ("suh", "F16", vec![inputs]),
                    ("svh", "F16", vec![outputs]),
                ]
            },
        ),
        form(
            "quantized_hqq",
            "quantized: 4 weights are stored as HQQ:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("W_q", "U8", vec![outputs / 2, inputs]),
                    ("scale", "F16", vec![outputs, 1]),
                    ("zero", "F16", vec![outputs, 1]),
                    ("shape", "I64", vec![2]),
                    ("nbits", "I64", vec![1]),
                    ("group_size", "I64", vec![1]),
                    ("axis", "I64", vec![1]),
                    ("packing", "U8", vec![4]),
                ]
            },
        ),
        form(
            "quantized_quanto",
            "quantized: 4 weights are stored as Quanto:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight._data", "I8", vec![outputs, inputs]),
                    ("weight._scale", "F16", vec![outputs, 1]),
                    ("input_scale", "F16", vec![]),
                    ("output_scale", "F16", vec![]),
                ]
            },
        ),
        form(
            "quantized_aqlm",
            "quantized: 4 weights are stored as AQLM:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("codes", "I16", vec![outputs, inputs / 8, 1]),
                    ("codebooks", "F16", vec![1, 256, 1, 8]),
                    ("scales", "F16", vec![outputs, 1, 1, 1]),
                ]
            },
        ),
        form(
            "quantized_mlx",
            "quantized: 4 weights are stored as MLX:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "U32", vec![outputs, inputs / 8]),
                    ("scales", "BF16", vec![outputs, 1]),
                    ("biases", "BF16", vec![outputs, 1]),
                ]
            },
        ),
    ]
}

fn of_floats() -> Vec<Case> {
    const FP8: &str = "quantized: 4 weights are stored as scaled FP8:";
    let scaled = |name, scales: Parts| {
        form(name, FP8, QUANTIZED, move |inputs, outputs| {
            let weight = ("weight", "F8_E4M3", vec![outputs, inputs]);
            [vec![weight], scales.clone()].concat()
        })
    };
    let expert = ("model.experts.down_proj".to_owned(), "F32", vec![4, 32, 64]);
    let blocks = [
        ("model.experts.down_proj_blocks", vec![4, 32, 2, 16]),
        ("model.experts.down_proj_scales", vec![4, 32, 2]),
    ];
    let blocks = blocks.map(|(name, shape)| (name.to_owned(), "U8", shape));
    vec![
        scaled(
            "quantized_fp8",
            vec![
                ("weight_scale", "F32", vec![]),
                ("input_scale", "F32", vec![]),
            ],
        ),
        scaled(
            "quantized_fp8_inverse",
            vec![("weight_scale_inv", "F32", vec![1, 1])],
        ),
        scaled(
            "quantized_fp8_scale_weight",
            vec![("scale_weight", "F32", vec![1])],
        ),
        scaled(
            "quantized_fp8_below",
            vec![("weight.scale", "F32", vec![1])],
        ),
        form(
            "quantized_nvfp4",
            "quantized: 4 weights are stored as NVFP4:",
            QUANTIZED,
            |inputs, outputs| {
                vec![
                    ("weight", "U8", vec![outputs, inputs / 2]),
                    ("weight_scale", "F8_E4M3", vec![outputs, inputs / 16]),
                    ("weight_scale_2", "F32", vec![]),
                    ("input_scale", "F32", vec![]),
                ]
            },
        ),
        case(
            "quantized_mxfp4",
            &[llama(2, "F16"), blocks.to_vec()].concat(),
            &[
                "quantized: 1 weight is stored as MXFP4:",
                "model.experts.down_proj",
                QUANTIZED,
            ],
        )
        .with(
            MANIFEST,
            manifest(&[llama(2, "F32"), vec![expert]].concat(), &json!({})),
        )
        .strict(),
    ]
}

/// Weights that have to be computed from several tensors.
fn computed() -> Vec<Case> {
    vec![
        form(
            "computed_weight_norm",
            "converted: 4 weights are stored for weight norm, as a direction and a length:",
            "call `torch.nn.utils.parametrize.remove_parametrizations` or \
             `torch.nn.utils.remove_weight_norm` on these modules, save the model again, or record \
             the model as it was when it was saved",
            |inputs, outputs| {
                vec![
                    ("weight_g", "F16", vec![outputs, 1]),
                    ("weight_v", "F16", vec![outputs, inputs]),
                ]
            },
        ),
        form(
            "computed_spectral_norm",
            "converted: 4 weights are stored for spectral norm, which divides them:",
            "call `torch.nn.utils.parametrize.remove_parametrizations` or \
             `torch.nn.utils.remove_spectral_norm` on these modules, save the model again, or record \
             the model as it was when it was saved",
            |inputs, outputs| {
                vec![
                    ("weight_orig", "F16", vec![outputs, inputs]),
                    ("weight_u", "F16", vec![outputs]),
                    ("weight_v", "F16", vec![inputs]),
                ]
            },
        ),
        form(
            "computed_adapter",
            "converted: 4 weights are stored with a LoRA adapter beside them:",
            "call `merge_and_unload()` of PEFT on the model, save it again, or record the model as \
             it was when it was saved",
            |inputs, outputs| {
                vec![
                    ("base_layer.weight", "F16", vec![outputs, inputs]),
                    ("lora_A.default.weight", "F16", vec![4, inputs]),
                    ("lora_B.default.weight", "F16", vec![outputs, 4]),
                ]
            },
        ),
    ]
}
