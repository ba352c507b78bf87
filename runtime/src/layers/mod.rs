//! Modules that own parameters, named and shaped as in PyTorch.
//!
//! Every layer has `load`, which finds its parameters by PyTorch's names under a [`crate::Scope`] and
//! reports its output to the probe at that module path, and `new`, which takes handles and reports
//! nothing (its outputs are recorded by the module that contains it).

mod conv;
mod embedding;
mod linear;
mod norm;

pub use conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{BatchNorm, GroupNorm, LayerNorm, RmsNorm};

use candle_core::Tensor;

use crate::{Param, Path, Probe, Result};

/// Finishes a layer's forward: errors get the module path, the probe gets the value.
fn finish(path: Option<&Path>, out: Result<Tensor>, p: &mut impl Probe) -> Result<Tensor> {
    let Some(path) = path else { return out };
    let out = out.map_err(|err| err.at(path))?;
    p.record(path, 0, &out);
    Ok(out)
}

/// The tensor of a parameter that may be absent.
fn tensor_of(param: &Option<Param>) -> Result<Option<Tensor>> {
    param.as_ref().map(Param::tensor).transpose()
}
