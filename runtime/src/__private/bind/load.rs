//! How a generated model is bound to a checkpoint: everything is proved from headers before anything
//! is bound.

use std::collections::HashMap;

use candle_core::{DType, Device};
use pycandle_checkpoint::{Source, Validated, expand, expand_pairs, validate};

use crate::weights::{needs, untied};
use crate::{Error, FileDtype, RequiredKey, Result, Scope, Weights};

/// What a generated model says of the checkpoints that it can be loaded from; its parameters it says
/// by asking for them, but for those that it never reads.
pub struct Expected {
    trace: &'static str,
    dtype: DType,
    tied: Pairs,
    unread: Unread,
    dtypes: Dtypes,
    renames: Pairs,
    config: Option<&'static str>,
    largest: f64,
    strict: bool,
}

type Pairs = &'static [(&'static str, &'static str)];
type Dtypes = &'static [(&'static str, FileDtype)];
type Unread = &'static [(&'static str, &'static [usize], DType)];

impl Expected {
    /// A trace by the name of its manifest, in the dtype of the trace; no ties, no renames, no config.
    pub const fn new(trace: &'static str, dtype: DType) -> Self {
        Self {
            trace,
            dtype,
            tied: &[],
            unread: &[],
            dtypes: &[],
            renames: &[],
            config: None,
            largest: 0.0,
            strict: false,
        }
    }

    /// Names of one tensor: each pair a name and the one that it is tied to, as patterns of
    /// [`pycandle_checkpoint::shorten_pairs`].
    pub const fn tied(self, tied: Pairs) -> Self {
        Self { tied, ..self }
    }

    /// Parameters of the trace that no operation reads, which the model does not ask for, as patterns
    /// of [`pycandle_checkpoint::shorten`].
    pub const fn unread(self, unread: Unread) -> Self {
        Self { unread, ..self }
    }

    /// Dtypes of the trace that Candle has none for, by patterns of [`pycandle_checkpoint::shorten`]:
    /// the model asks for wider ones, in which a file may hold other numbers.
    pub const fn dtypes(self, dtypes: Dtypes) -> Self {
        Self { dtypes, ..self }
    }

    /// Names in the trace and what they are called in checkpoints, resolved when the code was
    /// generated.
    pub const fn renames(self, renames: Pairs) -> Self {
        Self { renames, ..self }
    }

    /// What `config.json` of the trace says that can be compared, as JSON.
    pub const fn config(self, config: &'static str) -> Self {
        Self {
            config: Some(config),
            ..self
        }
    }

    /// The largest finite number that stands in the trace as an argument or constant of the model's
    /// dtype, where not every dtype holds it.
    pub const fn largest(self, largest: f64) -> Self {
        Self { largest, ..self }
    }

    /// A tensor that the model does not need is a mistake.
    pub const fn strict(self) -> Self {
        Self {
            strict: true,
            ..self
        }
    }
}

/// Binds a model to a checkpoint, of which only headers are read, and of tied tensors that it holds
/// several times whether they are equal.
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
    super::dtype(expected.dtype, dtype, expected.largest)?;
    let keys = asked(dtype, expected, &from_scope)?;
    let mut needs = needs(&keys);
    let dtypes = expected.dtypes.iter();
    let dtypes = dtypes.flat_map(|&(pattern, dtype)| expand(pattern).map(move |n| (n, dtype)));
    let dtypes: HashMap<String, FileDtype> = dtypes.collect();
    for need in &mut needs {
        need.dtype = dtypes.get(&*need.name).copied().unwrap_or(need.dtype);
    }
    let validated = validate(
        &pycandle_checkpoint::Expected {
            trace: expected.trace,
            needs: &needs,
            renames: expected.renames,
            rules: None,
            config: expected.config,
            strict: expected.strict,
        },
        weights.checkpoint(),
    )?;
    drop(needs);
    let sources = sources(weights, keys, &validated)?;
    weights.warn(validated.warnings);
    from_scope(&weights.scope(dtype, device).with_sources(sources))
}

/// Where each parameter is, tied ones where the first of them is; fails with all tied tensors that
/// differ.
fn sources(
    weights: &Weights,
    keys: Vec<RequiredKey>,
    validated: &Validated,
) -> Result<HashMap<String, Source>> {
    let checkpoint = weights.checkpoint();
    let mut all = HashMap::with_capacity(keys.len());
    let mut problems = Vec::new();
    // What others are tied to is asked for before them.
    for (number, key) in keys.into_iter().enumerate() {
        let source = validated.source(number);
        let first = key.tied_to.and_then(|first| {
            let mut source: Source = *all.get(&first)?;
            let own = || Some(checkpoint.get(&first)?.id());
            source.id = source.id.or_else(own);
            Some(source)
        });
        let source = match first {
            Some(first) => {
                let own = source.key(checkpoint).unwrap_or(&key.name);
                let of_first = first.key(checkpoint).unwrap_or(own);
                if !weights.is_same((of_first, first.rows), (own, source.rows)) {
                    problems.push(untied(of_first, own, "their values"));
                }
                first
            }
            None => source,
        };
        all.insert(key.name, source);
    }
    match problems.is_empty() {
        true => Ok(all),
        false => Err(Error::file(weights.path(), problems)),
    }
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
    let scope = tied(Scope::asking(dtype, &Device::Cpu), expected);
    from_scope(&scope)?;
    for &(pattern, shape, dtype) in expected.unread {
        let scope = scope.with_dtype(dtype);
        for name in expand(pattern) {
            scope.param(&name, shape)?;
        }
    }
    Ok(scope.asked())
}

fn tied(scope: Scope, expected: &Expected) -> Scope {
    let patterns = expected.tied.iter();
    let pairs: Vec<_> = patterns
        .flat_map(|(name, twin)| expand_pairs(name, twin))
        .collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, twin)| (&**name, &**twin))
        .collect();
    scope.tied(&pairs)
}
