//! How a generated model is bound to a checkpoint: everything is proved from headers before anything
//! is bound.

use std::collections::HashMap;

use candle_core::{DType, Device};
use pycandle_checkpoint::validate;

use crate::weights::needs;
use crate::{RequiredKey, Result, Scope, Weights};

/// What a generated model says of the checkpoints that it can be loaded from; its parameters it says
/// by asking for them, but for those that it never reads.
pub struct Expected {
    /// The name of the manifest, for messages.
    pub trace: &'static str,
    /// The dtype of the trace.
    pub dtype: DType,
    /// Names of one tensor: each pair a name and the one that it is tied to.
    pub tied: &'static [(&'static str, &'static str)],
    /// Parameters of the trace that no operation reads, which the model does not ask for.
    pub unread: &'static [(&'static str, &'static [usize], DType)],
    /// Names in the trace and what they are called in checkpoints, resolved when the code was
    /// generated.
    pub renames: &'static [(&'static str, &'static str)],
    /// What `config.json` of the trace says that can be compared, as JSON.
    pub config: Option<&'static str>,
    /// Whether a tensor that the model does not need is a mistake.
    pub strict: bool,
}

impl Expected {
    /// No ties, no renames, no config.
    pub const DEFAULT: Self = Self {
        trace: "",
        dtype: DType::F32,
        tied: &[],
        unread: &[],
        renames: &[],
        config: None,
        strict: false,
    };
}

/// Binds a model to a checkpoint, of which only headers are read.
///
/// The model is built twice: on nothing, to see what it asks for, and then on the tensors that
/// validation found for that. Fails with everything in which the checkpoint does not fit.
pub fn load<M>(
    weights: &Weights,
    dtype: DType,
    device: &Device,
    expected: &Expected,
    from_scope: impl Fn(&Scope) -> Result<M>,
) -> Result<M> {
    super::dtype(expected.dtype, dtype)?;
    let keys = asked(dtype, expected, &from_scope)?;
    let validated = validate(
        &pycandle_checkpoint::Expected {
            trace: expected.trace,
            needs: &needs(&keys),
            renames: expected.renames,
            config: expected.config,
            strict: expected.strict,
        },
        weights.checkpoint(),
    )?;
    let sources: HashMap<_, _> = keys
        .into_iter()
        .map(|key| key.name)
        .zip(validated.sources)
        .collect();
    let scope = weights.scope(dtype, device).tied(expected.tied);
    from_scope(&scope.with_sources(sources))
}

/// What a model needs of a checkpoint.
pub fn required_keys<M>(
    expected: &Expected,
    from_scope: impl Fn(&Scope) -> Result<M>,
) -> Result<Vec<RequiredKey>> {
    asked(expected.dtype, expected, &from_scope)
}

fn asked<M>(
    dtype: DType,
    expected: &Expected,
    from_scope: &impl Fn(&Scope) -> Result<M>,
) -> Result<Vec<RequiredKey>> {
    let scope = Scope::asking(dtype, &Device::Cpu).tied(expected.tied);
    from_scope(&scope)?;
    for &(name, shape, dtype) in expected.unread {
        scope.with_dtype(dtype).param(name, shape)?;
    }
    Ok(scope.asked())
}
