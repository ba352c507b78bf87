//! What was found, held against what the trace has.

use std::collections::BTreeSet;

use super::found::Found;
use super::groups::Groups;
use super::mismatch::{Class, Finding};
use super::{Expected, Form};
use crate::dtype::Dtype;

/// Tensors of another form, shape or dtype than loading can make the trace's of.
pub(super) fn findings(expected: &Expected<'_>, found: &Found<'_>) -> Vec<Finding> {
    let (mut quantized, mut dtypes) = (Groups::default(), Groups::default());
    let (mut shapes, mut transposed) = (Groups::default(), Groups::default());
    for (need, hit) in expected.needs.iter().zip(&found.hits) {
        // A twin that stands for another is compared under its own name.
        let Some(hit) = hit.as_ref().filter(|hit| !hit.tied) else {
            continue;
        };
        let (tensor, shape) = (&hit.tensor, &*need.shape);
        if !hit.form.is_loaded(tensor.dtype()) {
            quantized.add(&need.name, (hit.form, tensor.dtype()));
        } else if !converts(tensor.dtype(), hit.form, need.dtype) {
            dtypes.add(tensor.name(), (tensor.dtype(), need.dtype));
        }
        // The shape of packed numbers is no shape of a weight.
        if !hit.is_packed() && *tensor.shape() != *shape {
            let pair = (tensor.shape().to_vec(), shape.to_vec());
            match (tensor.shape(), shape) {
                ([a, b], [c, d]) if (a, b) == (d, c) => transposed.add(tensor.name(), pair),
                _ => shapes.add(tensor.name(), pair),
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
    let all = [
        converted(found),
        forms(&quantized),
        differ(Class::Shape, &shapes, ""),
        differ(Class::Transposed, &transposed, TRANSPOSED),
        Finding::new(
            Class::Dtype,
            dtypes.len(),
            dtypes.lines().map(|(pattern, (file, trace))| {
                format!("dtype: {pattern} is {file}, the trace has {trace}")
            }),
        )
        .with("loading converts between floating-point types and between integers, nothing else"),
    ];
    all.into_iter()
        .filter(|finding| finding.count > 0)
        .collect()
}

const TRANSPOSED: &str = "one side has them as Conv1D, the other as Linear, and square ones are \
    transposed too, which no shape shows: record again with the code that this checkpoint is of, or \
    take a checkpoint that has them as the trace";

/// Weights in forms that cannot be multiplied by, as one finding.
fn forms(quantized: &Groups<(Form, Dtype)>) -> Finding {
    let name = |form: Form, dtype: Dtype| match form {
        Form::Blocks => format!("GGUF {dtype} blocks"),
        form => form.name().to_owned(),
    };
    let kinds: BTreeSet<_> = quantized.lines().map(|(_, &kind)| kind).collect();
    let blocks = kinds.iter().any(|(form, _)| *form == Form::Blocks);
    let names: BTreeSet<_> = kinds
        .iter()
        .map(|&(form, dtype)| name(form, dtype))
        .collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let count = quantized.len();
    let weights = if count == 1 {
        "weight is"
    } else {
        "weights are"
    };
    let head = format!("quantized: {count} {weights} stored as {names}:");
    let lines = quantized.lines().map(|(pattern, _)| format!("  {pattern}"));
    let advice = match blocks {
        true => {
            "loading cannot multiply by these: quantize to Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K instead"
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

/// What a converter did to values, as one finding.
fn converted(found: &Found<'_>) -> Finding {
    let reasons: BTreeSet<_> = found.converted.iter().map(|(why, _)| why).collect();
    let lines = reasons.into_iter().map(|why| format!("converted: {why}"));
    Finding::new(Class::Converted, found.converted.len(), lines)
        .with("take the model's safetensors checkpoint instead of the GGUF file")
}

/// Whether loading makes the traced dtype of this one; the rule is that of
/// [`validate`](super::validate()).
fn converts(file: Dtype, form: Form, traced: Dtype) -> bool {
    use Dtype::*;
    match traced {
        F64 | F32 | F16 | BF16 => {
            form == Form::Blocks || matches!(file, F64 | F32 | F16 | BF16 | F8_E4M3)
        }
        Bool | U8 => matches!(file, Bool | U8),
        I8 | I16 | U16 | I32 | U32 | I64 => matches!(file, I8 | I16 | U16 | I32 | U32 | I64),
        _ => file == traced,
    }
}
