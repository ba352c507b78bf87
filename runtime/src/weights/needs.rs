//! What a model needs of a checkpoint, found by building it on nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use candle_core::{DType, Shape};
use pycandle_checkpoint::{Dtype as FileDtype, Need};

/// A tensor that a model needs of its checkpoint, as generated models list them
/// (`Model::required_keys`).
///
/// ```
/// use pycandle::{DType, RequiredKey};
/// fn bytes(keys: &[RequiredKey]) -> usize {
///     let own = keys.iter().filter(|key| key.tied_to.is_none());
///     own.map(|key| key.shape.elem_count() * key.dtype.size_in_bytes()).sum()
/// }
/// # let key = |name: &str, tied_to: Option<&str>| RequiredKey {
/// #     name: name.into(),
/// #     shape: (2, 3).into(),
/// #     dtype: DType::F32,
/// #     tied_to: tied_to.map(String::from),
/// # };
/// let keys = [key("embed.weight", None), key("head.weight", Some("embed.weight"))];
/// assert_eq!(bytes(&keys), 24);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredKey {
    /// Its name in the trace, under which a safetensors checkpoint holds it.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// The dtype of the trace, as Candle computes in it: U8 for bool, I64 for integers.
    pub dtype: DType,
    /// The first of the names that stand for the same tensor, where that is another one: a
    /// checkpoint needs to hold only one of them.
    pub tied_to: Option<String>,
}

/// Everything that was asked for, in order and once.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    keys: Vec<RequiredKey>,
    seen: HashSet<String>,
}

impl Asked {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        // A panic while the lock is held leaves the list whole.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a name, after the one that it is tied to.
    pub fn add(&self, name: &str, shape: &Shape, dtype: DType, tied_to: Option<&String>) {
        let asked = &mut *self.keys();
        let names = tied_to.map(|twin| (twin.as_str(), None));
        for (name, tied_to) in names.into_iter().chain([(name, tied_to)]) {
            if asked.seen.insert(name.to_owned()) {
                asked.keys.push(RequiredKey {
                    name: name.to_owned(),
                    shape: shape.clone(),
                    dtype,
                    tied_to: tied_to.cloned(),
                });
            }
        }
    }

    /// The list, which is empty afterwards.
    pub fn take(&self) -> Vec<RequiredKey> {
        std::mem::take(&mut *self.keys()).keys
    }
}

/// The needs that validation knows.
pub(crate) fn needs(keys: &[RequiredKey]) -> Vec<Need<'_>> {
    let index: HashMap<&str, usize> = keys.iter().map(|key| &*key.name).zip(0..).collect();
    let needs = keys.iter().map(|key| Need {
        name: key.name.as_str().into(),
        shape: key.shape.dims(),
        dtype: file_dtype(key.dtype),
        tied_to: key
            .tied_to
            .as_deref()
            .and_then(|twin| index.get(twin).copied()),
    });
    needs.collect()
}

/// The dtype of a file that holds a tensor of this dtype as it is.
fn file_dtype(dtype: DType) -> FileDtype {
    match dtype {
        DType::F64 => FileDtype::F64,
        DType::F16 => FileDtype::F16,
        DType::BF16 => FileDtype::BF16,
        DType::U8 => FileDtype::U8,
        DType::I64 => FileDtype::I64,
        DType::U32 => FileDtype::U32,
        _ => FileDtype::F32,
    }
}
