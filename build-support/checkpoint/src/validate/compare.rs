//! What was found, held against what the trace has.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::found::Found;
use super::groups::Groups;
use super::mismatch::{Class, Finding};
use super::{Expected, Form, names};
use crate::dtype::Dtype;

/// Tensors of another form, shape or dtype than loading can make the trace's of, and what of them
/// cannot be what the trace has.
pub(super) fn findings(expected: &Expected<'_>, found: &Found<'_>) -> Vec<Finding> {
    let (mut quantized, mut dtypes) = (Groups::default(), Groups::default());
    let mut computed: BTreeMap<Form, Groups<()>> = BTreeMap::new();
    let (mut shapes, mut transposed) = (Groups::default(), Groups::default());
    for (need, hit) in expected.needs.iter().zip(found.hits.iter()) {
        // A twin that stands for another is compared under its own name.
        let Some(hit) = hit.filter(|hit| !hit.tied) else {
            continue;
        };
        let (tensor, shape) = (&hit.tensor, need.shape);
        if hit.form.is_computed() {
            computed.entry(hit.form).or_default().add(&need.name, ());
        } else if !hit.form.is_loaded(tensor.dtype()) {
            quantized.add(&need.name, (hit.form, tensor.dtype()));
        } else if !converts(tensor.dtype(), hit.form, need.dtype) {
            dtypes.add(tensor.name(), (tensor.dtype(), need.dtype));
        }
        // The shape of packed numbers is no shape of a weight.
        if !hit.is_packed() && *tensor.shape() != *shape {
            let pair = (tensor.shape().to_vec(), shape.to_vec());
            match is_transposed(tensor.shape(), shape) {
                true => transposed.add(tensor.name(), pair),
                false => shapes.add(tensor.name(), pair),
            }
        }
    }
    let differ = |class: Class, groups: &Groups<(Vec<usize>, Vec<usize>)>, advice: &str| {
        let lines = groups.lines().map(|(pattern, (file, trace))| {
            format!(
                "{}: {pattern} is {file:?}, the trace has {trace:?}",
                class.name()
            )
        });
        Finding::new(class, groups.len(), lines).with(advice)
    };
    let mut all = vec![
        converted(found),
        forms(&quantized),
        differ(Class::Shape, &shapes, ""),
        differ(Class::Transposed, &transposed, TRANSPOSED),
        self::dtypes(&dtypes),
        twins(expected, found),
        twice(expected, found),
    ];
    all.extend(
        computed
            .iter()
            .map(|(form, names)| self::computed(*form, names)),
    );
    all.retain(|finding| finding.count > 0);
    all
}

/// Whether two matrices, or stacks of them, have their sides in another order.
fn is_transposed(file: &[usize], trace: &[usize]) -> bool {
    match (file, trace) {
        ([stack @ .., a, b], [other @ .., c, d]) => stack == other && (a, b) == (d, c),
        _ => false,
    }
}

/// Dtypes that are not converted, and what would be.
fn dtypes(dtypes: &Groups<(Dtype, Dtype)>) -> Finding {
    let lines = dtypes.lines().map(|(pattern, (file, trace))| {
        format!("dtype: {pattern} is {file}, the trace has {trace}")
    });
    let advice: BTreeSet<_> = dtypes.lines().map(|(_, &(_, trace))| mend(trace)).collect();
    let finding = Finding::new(Class::Dtype, dtypes.len(), lines);
    advice.into_iter().fold(finding, |finding, (kind, to)| {
        let (last, types) = kind.split_last().unwrap_or((&to, &[]));
        let types: Vec<_> = types.iter().map(|dtype| dtype.name()).collect();
        let types = match &types[..] {
            [] => last.to_string(),
            types => format!("{} or {last}", types.join(", ")),
        };
        finding.with(&format!(
            "loading makes {to} only of {types}: convert these tensors in the checkpoint, or record \
             again with the model that it is of"
        ))
    })
}

/// Needs that are one tensor, of which the file has several in different dtypes: they cannot be
/// equal, and loading reads one for all. Their shapes are held against the trace's. Of one matrix
/// `llama-quantize` makes blocks of several types, each of which stands for it.
fn twins(expected: &Expected<'_>, found: &Found<'_>) -> Finding {
    let mut differ = Groups::default();
    for (need, hit) in expected.needs.iter().zip(found.hits.iter()) {
        let first = need.tied_to.and_then(|first| found.hits.get(first));
        if let (Some(hit), Some(first)) = (hit.filter(|hit| !hit.tied), first)
            && hit.tensor.dtype() != first.tensor.dtype()
            && !(hit.tensor.dtype().is_quantized() || first.tensor.dtype().is_quantized())
        {
            let names = (first.tensor.name().to_owned(), first.tensor.dtype());
            differ.add(hit.tensor.name(), (hit.tensor.dtype(), names));
        }
    }
    let lines = differ.lines().map(|(pattern, (dtype, (first, other)))| {
        format!(
            "dtype: {pattern} is {dtype} and {first} is {other}, in the trace they are one tensor"
        )
    });
    Finding::new(Class::Dtype, differ.len(), lines).with(
        "loading reads one of them for both: write the checkpoint with equal ones or with only one of \
         them, or untie them in the model and record it again",
    )
}

/// Needs that would be read from one tensor, though they are several in the trace.
fn twice(expected: &Expected<'_>, found: &Found<'_>) -> Finding {
    // Those of all layers are shown by the first.
    let mut alike: BTreeMap<[String; 2], (Cow<'_, str>, Cow<'_, str>, usize)> = BTreeMap::new();
    for &(a, b) in &found.twice {
        let [a, b] = [a, b].map(|id| expected.needs.get(id).name);
        let alike = alike.entry([&a, &b].map(|name| names::split(name).0));
        alike.or_insert((a, b, 0)).2 += 1;
    }
    let lines = alike.values().map(|(a, b, count)| match count {
        1 => format!("twice: {a} and {b} would both be read from one tensor"),
        n => format!(
            "twice: {a} and {b} would both be read from one tensor, and {} more pairs like them",
            n - 1
        ),
    });
    let mut hits = found.twice.iter().filter_map(|&(a, _)| found.hits.get(a));
    let advice = match hits.any(|hit| hit.mapped) {
        true => {
            "llama.cpp's names do not tell these apart: take the model's safetensors checkpoint instead \
             of the GGUF file"
        }
        false => {
            "some keys are named as the model's, others as before the rename rules, and a name of the \
             one is another tensor's in the other: take a checkpoint with all names of one kind, such \
             as `cargo pycandle extract` writes, or generate the code again with rules for this one"
        }
    };
    Finding::new(Class::Twice, found.twice.len(), lines).with(advice)
}

/// The dtypes of files of which loading makes the traced one, and the traced one.
fn mend(traced: Dtype) -> (Vec<Dtype>, Dtype) {
    let all = [
        Dtype::F64,
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F8_E4M3,
        Dtype::I8,
        Dtype::I16,
        Dtype::U16,
        Dtype::I32,
        Dtype::U32,
        Dtype::I64,
        Dtype::Bool,
        Dtype::U8,
    ];
    let all = all
        .into_iter()
        .filter(|&file| converts(file, Form::Plain, traced));
    (all.collect(), traced)
}

const TRANSPOSED: &str = "one side stores its matrices as Linear does, the other as Conv1D, and so square ones \
    too, whose shapes do not show it: record again with the code that this checkpoint is of, or take a \
    checkpoint that stores them as the trace does";

/// Weights in forms that cannot be multiplied by, as one finding.
fn forms(quantized: &Groups<(Form, Dtype)>) -> Finding {
    let kinds: BTreeSet<_> = quantized.lines().map(|(_, &kind)| kind).collect();
    let blocks = kinds.iter().any(|(form, _)| *form == Form::Blocks);
    let names: BTreeSet<_> = kinds
        .iter()
        .map(|&(form, dtype)| form.name(dtype))
        .collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let count = quantized.len();
    let weights = weights(count);
    let head = format!("quantized: {weights} stored as {names}:");
    let lines = quantized.lines().map(|(pattern, _)| format!("  {pattern}"));
    let advice = match blocks {
        true => {
            "loading cannot multiply by these: quantize the model to Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or \
             Q2_K to Q6_K instead, as llama.cpp's `llama-quantize` does"
        }
        false => {
            "loading cannot multiply by these: take the model's checkpoint in BF16, F16 or F32, or \
             a GGUF file of it"
        }
    };
    Finding::new(Class::Quantized, count, lines)
        .under(head)
        .with(advice)
}

fn weights(count: usize) -> String {
    match count {
        1 => "1 weight is".to_owned(),
        n => format!("{n} weights are"),
    }
}

/// Weights that are computed from several tensors, in this way.
fn computed(form: Form, names: &Groups<()>) -> Finding {
    let (what, mend) = match form {
        Form::Adapter => (
            "stored with a LoRA adapter beside them",
            "call `merge_and_unload()` of PEFT on the model, save it again",
        ),
        Form::SpectralNorm => (
            "stored for spectral norm, which divides them",
            "call `torch.nn.utils.parametrize.remove_parametrizations` or \
             `torch.nn.utils.remove_spectral_norm` on these modules, save the model again",
        ),
        _ => (
            "stored for weight norm, as a direction and a length",
            "call `torch.nn.utils.parametrize.remove_parametrizations` or \
             `torch.nn.utils.remove_weight_norm` on these modules, save the model again",
        ),
    };
    let lines = names.lines().map(|(pattern, ())| format!("  {pattern}"));
    Finding::new(Class::Converted, names.len(), lines)
        .under(format!("converted: {} {what}:", weights(names.len())))
        .with(&format!(
            "{mend}, or record the model as it was when it was saved"
        ))
}

/// What a converter did to values, as one finding.
fn converted(found: &Found<'_>) -> Finding {
    let reasons: BTreeSet<_> = found.converted.iter().map(|(why, _)| why).collect();
    let lines = reasons.into_iter().map(|why| format!("converted: {why}"));
    Finding::new(Class::Converted, found.converted.len(), lines)
        .with("take the model's safetensors checkpoint instead of the GGUF file")
}

/// Whether loading makes the traced dtype of this one; the rule is that of
/// [`validate`](super::validate()). PyTorch wraps integers that the traced dtype has no room for, and
/// makes `true` of all bytes but 0; loading would keep both.
fn converts(file: Dtype, form: Form, traced: Dtype) -> bool {
    use Dtype::*;
    match traced {
        F64 | F32 | F16 | BF16 => {
            form == Form::Blocks || matches!(file, F64 | F32 | F16 | BF16 | F8_E4M3)
        }
        U8 => matches!(file, Bool | U8),
        I16 => matches!(file, I8 | I16),
        I32 => matches!(file, I8 | I16 | U16 | I32),
        U32 => matches!(file, U16 | U32),
        I64 => matches!(file, I8 | I16 | U16 | I32 | U32 | I64),
        _ => file == traced,
    }
}
