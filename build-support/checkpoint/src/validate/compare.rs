//! What was found, held against what the trace has.

use super::found::Found;
use super::groups::Groups;
use super::mismatch::{Class, Finding};
use super::{Expected, Form};
use crate::dtype::Dtype;

/// Tensors of another shape, or of a dtype that does not convert.
pub(super) fn findings(expected: &Expected<'_>, found: &Found<'_>) -> Vec<Finding> {
    let (mut shapes, mut dtypes) = (Groups::default(), Groups::default());
    for (need, hit) in expected.needs.iter().zip(&found.tensors) {
        let Some(hit) = hit else { continue };
        let tensor = &hit.tensor;
        if tensor.shape() != &*need.shape {
            let pair = (tensor.shape().to_vec(), need.shape.to_vec());
            shapes.add(tensor.name(), pair);
        }
        if !converts(tensor.dtype(), hit.form, need.dtype) {
            dtypes.add(tensor.name(), (tensor.dtype(), need.dtype));
        }
    }
    let mut findings = Vec::new();
    if !shapes.is_empty() {
        let lines = shapes.lines().map(|(pattern, (file, trace))| {
            format!("shape: {pattern} is {file:?}, the trace has {trace:?}")
        });
        findings.push(Finding::new(Class::Shape, shapes.len(), lines));
    }
    if !dtypes.is_empty() {
        let lines = dtypes.lines().map(|(pattern, (file, trace))| {
            format!("dtype: {pattern} is {file}, the trace has {trace}")
        });
        findings.push(Finding::new(Class::Dtype, dtypes.len(), lines));
    }
    findings
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
