//! Quantized forms of a weight in safetensors, recognised by the tensors that stand for it.
//!
//! Sources: bitsandbytes, GPTQ (AutoGPTQ, GPTQModel), AutoAWQ, AutoRound, compressed-tensors, ModelOpt,
//! ExLlamaV2 and V3, HQQ, Quanto, AQLM, MLX and OpenAI's MXFP4, PyTorch's weight and spectral norm, and
//! PEFT, as they write files. Scaled numbers have scales beside them by whatever name: see [`Scales`].

use crate::hash::HashMap;
use std::borrow::Cow;

use super::Form;
use crate::dtype::Dtype;
use crate::open::{Checkpoint, Tensor};

/// How a weight `P.weight` shows that it is stored in a form.
struct Row {
    form: Form,
    /// What holds the numbers, behind `P`.
    main: &'static str,
    /// The type of it; any where there is none.
    dtype: Option<Dtype>,
    /// What has to be there beside it, behind `P`.
    beside: &'static [&'static str],
    /// What may be there as well.
    also: &'static [&'static str],
}

const fn row(form: Form, main: &'static str, beside: &'static [&'static str]) -> Row {
    Row {
        form,
        main,
        dtype: None,
        beside,
        also: &[],
    }
}

/// The first row that fits is the form; of a set that is not complete, the part that tells most.
const ROWS: &[Row] = &[
    Row {
        also: BNB4,
        ..row(
            Form::Nf4,
            ".weight",
            &[".weight.quant_state.bitsandbytes__nf4"],
        )
    },
    Row {
        also: BNB4,
        ..row(
            Form::Fp4,
            ".weight",
            &[".weight.quant_state.bitsandbytes__fp4"],
        )
    },
    Row {
        also: BNB4,
        dtype: Some(Dtype::U8),
        ..row(Form::Bits4, ".weight", &[".weight.absmax"])
    },
    Row {
        also: &[".weight_format"],
        ..row(Form::Int8, ".weight", &[".SCB"])
    },
    // Which of the two it is shows in the shape, see `is_awq`.
    Row {
        also: &[".g_idx"],
        ..row(Form::Gptq, ".qweight", &[".qzeros", ".scales"])
    },
    Row {
        also: &[".g_idx"],
        ..row(Form::Gptq, ".qweight", &[".scales"])
    },
    Row {
        also: &[".qzeros", ".g_idx"],
        ..row(Form::Gptq, ".qweight", &[])
    },
    Row {
        also: &[
            ".weight_scale",
            ".weight_zero_point",
            ".weight_shape",
            ".weight_g_idx",
            ".weight_global_scale",
            ".input_global_scale",
        ],
        ..row(Form::Packed, ".weight_packed", &[])
    },
    Row {
        dtype: Some(Dtype::U8),
        also: &[".input_scale"],
        ..row(
            Form::Nvfp4,
            ".weight",
            &[".weight_scale_2", ".weight_scale"],
        )
    },
    Row {
        also: &[".mcg", ".mul1", ".su", ".sv"],
        ..row(Form::Trellis, ".trellis", &[".suh", ".svh"])
    },
    Row {
        also: &[
            ".q_scale_max",
            ".q_groups",
            ".q_group_map",
            ".q_invperm",
            ".q_perm",
        ],
        ..row(Form::Exl2, ".q_weight", &[".q_scale"])
    },
    Row {
        also: HQQ,
        ..row(Form::Hqq, ".W_q", &[])
    },
    Row {
        also: &[".weight._shift", ".input_scale", ".output_scale"],
        ..row(Form::Quanto, ".weight._data", &[".weight._scale"])
    },
    row(Form::Aqlm, ".codes", &[".codebooks", ".scales"]),
    Row {
        dtype: Some(Dtype::U32),
        also: &[".biases"],
        ..row(Form::Mlx, ".weight", &[".scales"])
    },
    row(Form::WeightNorm, ".weight_v", &[".weight_g"]),
    row(
        Form::WeightNorm,
        ".parametrizations.weight.original1",
        &[".parametrizations.weight.original0"],
    ),
    Row {
        also: &[".weight_v"],
        ..row(Form::SpectralNorm, ".weight_orig", &[".weight_u"])
    },
    Row {
        also: &[".parametrizations.weight.0._v"],
        ..row(
            Form::SpectralNorm,
            ".parametrizations.weight.original",
            &[".parametrizations.weight.0._u"],
        )
    },
    Row {
        also: &[".lora_B.default.weight"],
        ..row(
            Form::Adapter,
            ".base_layer.weight",
            &[".lora_A.default.weight"],
        )
    },
    Row {
        also: &[".lora_B.weight"],
        ..row(Form::Adapter, ".base_layer.weight", &[".lora_A.weight"])
    },
];

const BNB4: &[&str] = &[
    ".weight.absmax",
    ".weight.quant_map",
    ".weight.nested_absmax",
    ".weight.nested_quant_map",
];

const HQQ: &[&str] = &[
    ".axis",
    ".channel_wise",
    ".compute_dtype",
    ".encoded_state_dict",
    ".group_size",
    ".meta",
    ".nbits",
    ".offload_meta",
    ".optimize",
    ".packing",
    ".quant_scale",
    ".quant_zero",
    ".round_zero",
    ".scale",
    ".shape",
    ".stores_quant_config",
    ".unpack_view_dtype",
    ".view_as_float",
    ".zero",
];

/// Rows for a need `P` that is no `….weight`, whose name has no end of its own.
const WHOLE: &[Row] = &[row(Form::Mxfp4, "_blocks", &["_scales"])];

/// The forms that a checkpoint has anything of.
pub(super) struct Forms(Vec<&'static Row>);

impl Forms {
    pub fn new(checkpoint: &Checkpoint) -> Self {
        let mut rows: Vec<_> = ROWS.iter().chain(WHOLE).map(|row| (row, false)).collect();
        if !checkpoint.is_gguf() {
            for tensor in checkpoint.iter() {
                for (row, found) in &mut rows {
                    // Whatever is beside a weight tells more than the weight.
                    let sign = row.beside.first().unwrap_or(&row.main);
                    *found |= tensor.name().ends_with(sign);
                }
            }
        }
        let rows = rows.into_iter().filter(|(_, found)| *found);
        Self(rows.map(|(row, _)| row).collect())
    }

    /// The tensor that holds a need of this name in a quantized form, if one does.
    pub fn find<'c>(
        &self,
        name: &str,
        shape: &[usize],
        from: &'c Checkpoint,
    ) -> Option<(Tensor<'c>, Form)> {
        self.0.iter().find_map(|row| {
            let stem = row.stem(name)?;
            let get = |suffix: &str| from.get(&format!("{stem}{suffix}"));
            let main = get(row.main)?;
            let fits = row.dtype.is_none_or(|dtype| main.dtype() == dtype)
                && row.beside.iter().all(|suffix| get(suffix).is_some());
            let form = match row.form {
                Form::Gptq if is_awq(&main, shape, get(".g_idx").is_some()) => Form::Awq,
                form => form,
            };
            fits.then_some((main, form))
        })
    }

    /// The name that the need has for which this key stands; the key itself where it is no form.
    pub fn need_of<'k>(&self, key: &'k str) -> Cow<'k, str> {
        let others = self.0.iter().filter(|row| row.main != row.end());
        let stems = others.filter_map(|row| Some((key.strip_suffix(row.main)?, row.end())));
        let mut names = stems.map(|(stem, end)| Cow::Owned(format!("{stem}{end}")));
        names.next().unwrap_or(Cow::Borrowed(key))
    }
}

/// The name of the weight that this key is the main part of in a quantized form, as `qweight` is;
/// `None` of any other.
///
/// ```
/// let need = pycandle_checkpoint::need_of_key;
/// assert_eq!(need("fc.qweight").as_deref(), Some("fc.weight")); // of GPTQ
/// assert_eq!(need("fc.bias"), None);
/// ```
pub fn need_of_key(key: &str) -> Option<String> {
    let rows = ROWS.iter().filter(|row| row.main != row.end());
    let mut stems = rows.filter_map(|row| Some((key.strip_suffix(row.main)?, row.end())));
    stems.next().map(|(stem, end)| format!("{stem}{end}"))
}

/// The keys that belong to the one that holds the numbers of a weight in this form.
pub(super) fn beside(key: &str, form: Form) -> impl Iterator<Item = String> {
    let same = move |row: &&Row| row.form == form || (row.form, form) == (Form::Gptq, Form::Awq);
    let rows = ROWS.iter().chain(WHOLE).filter(same);
    let stems = rows.filter_map(move |row| Some((row, key.strip_suffix(row.main)?)));
    stems.flat_map(|(row, stem)| {
        let suffixes = row.beside.iter().chain(row.also);
        suffixes.map(move |suffix| format!("{stem}{suffix}"))
    })
}

impl Row {
    /// How the names of needs in this form end.
    fn end(&self) -> &'static str {
        match self.form {
            Form::Mxfp4 => "",
            _ => ".weight",
        }
    }

    /// What stands before that.
    fn stem<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self.end() {
            "" => (!name.ends_with(".weight")).then_some(name),
            end => name.strip_suffix(end),
        }
    }
}

/// Tensors that scale others, by the module that they are in.
///
/// Files call them `weight_scale`, `weight_scale_inv`, `scale_weight`, `scale`, `weight.scale` and so on:
/// whatever has `scale` in its name scales the numbers beside it that are no plain floats.
pub(super) struct Scales<'c>(HashMap<&'c str, Vec<&'c str>>);

impl<'c> Scales<'c> {
    pub fn new(checkpoint: &'c Checkpoint) -> Self {
        let mut scales: HashMap<&str, Vec<&str>> = HashMap::default();
        for tensor in checkpoint.iter() {
            let (module, leaf) = split(tensor.name());
            if leaf.contains("scale") || leaf.contains("Scale") {
                scales.entry(module).or_default().push(tensor.name());
            }
        }
        Self(scales)
    }

    /// The scales of the tensor of this key.
    pub fn of(&self, key: &str) -> impl Iterator<Item = &'c str> {
        let (module, leaf) = split(key);
        // Of `P.weight` all in `P`; in a module of several weights those that are called as this one.
        let beside = self
            .0
            .get(module)
            .into_iter()
            .flatten()
            .filter(move |scale| leaf == "weight" || split(scale).1.starts_with(leaf));
        beside.chain(self.0.get(key).into_iter().flatten()).copied()
    }
}

/// The module of a key, and its name in it.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// GPTQ packs along the inputs, AWQ along the outputs; a weight is `[outputs, inputs]`.
fn is_awq(qweight: &Tensor<'_>, shape: &[usize], grouped: bool) -> bool {
    !grouped
        && shape
            .get(1)
            .is_some_and(|inputs| qweight.shape().first() == Some(inputs))
}

impl Form {
    /// What users call it, in a checkpoint where it has this dtype.
    pub(super) fn name(self, dtype: Dtype) -> Cow<'static, str> {
        use Dtype::{F8_E4M3, F8_E5M2, I8};
        Cow::Borrowed(match self {
            Self::Plain => "plain",
            Self::Blocks => return format!("GGUF {dtype} blocks").into(),
            Self::Nf4 => "bitsandbytes NF4",
            Self::Fp4 => "bitsandbytes FP4",
            Self::Bits4 => "bitsandbytes 4-bit",
            Self::Int8 => "bitsandbytes 8-bit",
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::Packed => "compressed-tensors",
            Self::Scaled if matches!(dtype, F8_E4M3 | F8_E5M2) => "scaled FP8",
            Self::Scaled if dtype == I8 => "scaled INT8",
            Self::Scaled => return format!("{dtype} with scales").into(),
            Self::Nvfp4 => "NVFP4",
            Self::Trellis => "EXL3",
            Self::Exl2 => "EXL2",
            Self::Hqq => "HQQ",
            Self::Quanto => "Quanto",
            Self::Aqlm => "AQLM",
            Self::Mlx => "MLX",
            Self::Mxfp4 => "MXFP4",
            Self::WeightNorm => "weight norm",
            Self::SpectralNorm => "spectral norm",
            Self::Adapter => "a LoRA adapter",
        })
    }

    /// Whether it is no coding of numbers, but the weight has to be computed from several tensors.
    pub(super) fn is_computed(self) -> bool {
        matches!(self, Self::WeightNorm | Self::SpectralNorm | Self::Adapter)
    }

    /// Whether loading can multiply by it.
    pub(super) fn is_loaded(self, dtype: Dtype) -> bool {
        match self {
            Self::Plain => true,
            // Q8_1 and Q8_K are made of activations alone.
            Self::Blocks => dtype <= Dtype::Q6_K && dtype != Dtype::Q8_1,
            _ => false,
        }
    }
}
