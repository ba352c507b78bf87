//! Where a module looks for its weights.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use candle_core::{DType, Device, Shape};
use pycandle_checkpoint::{Rows, Source};

use super::needs::{Asked, RequiredKey};
use super::{Param, Weights};
use crate::{Path, Result};

/// A place in the module tree of a checkpoint, with the model's dtype and device.
///
/// ```
/// use pycandle::{DType, Device, Tensor, Weights};
/// # fn main() -> pycandle::Result<()> {
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let weight = Tensor::zeros((4, 2), DType::F32, &Device::Cpu)?;
/// # candle_core::safetensors::save(&[("layers.0.proj.weight", weight)].into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let proj = scope.pp("layers").pp(0).pp("proj");
/// let weight = proj.param("weight", (4, 2))?;
/// assert_eq!(weight.key(), "layers.0.proj.weight");
/// let err = proj.param("weight", (2, 4)).unwrap_err().to_string();
/// assert!(err.contains("layers.0.proj.weight") && err.contains("[4, 2]"));
///
/// // A name that the checkpoint does not hold, for the same tensor:
/// let tied = proj.tied(&[("head.weight", "layers.0.proj.weight")]).root();
/// assert!(tied.contains("head.weight") && tied.weights().len() == 1);
/// assert_eq!(tied.param("head.weight", (4, 2))?.key(), "layers.0.proj.weight");
/// // Scales that stay in f32 in a model of another dtype:
/// assert_eq!(scope.with_dtype(DType::BF16).dtype(), DType::BF16);
/// assert!(proj.path().as_str() == "layers.0.proj" && proj.device().is_cpu());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Scope {
    shared: Arc<Shared>,
    path: Path,
}

#[derive(Debug, Clone)]
struct Shared {
    weights: Weights,
    dtype: DType,
    device: Device,
    /// Names of one tensor each; at first the one that the others are tied to.
    tied: Vec<Vec<String>>,
    /// Where parameters are that have another name or row order in the files.
    sources: Arc<HashMap<String, Source>>,
    /// Where names go instead, when there is nothing to bind them to yet.
    asked: Option<Arc<Asked>>,
}

impl Scope {
    pub(super) fn new(weights: Weights, dtype: DType, device: &Device) -> Self {
        let shared = Shared {
            weights,
            dtype,
            device: device.clone(),
            tied: Vec::new(),
            sources: Arc::default(),
            asked: None,
        };
        Self {
            shared: Arc::new(shared),
            path: Path::root(),
        }
    }

    /// A scope that binds nothing and remembers what it was asked for: see [`Scope::asked`].
    pub(crate) fn asking(dtype: DType, device: &Device) -> Self {
        let mut scope = Self::new(Weights::none(), dtype, device);
        let shared = Arc::make_mut(&mut scope.shared);
        shared.asked = Some(Arc::default());
        scope
    }

    /// Whether this scope binds nothing.
    pub(crate) fn is_asking(&self) -> bool {
        self.shared.asked.is_some()
    }

    /// What a scope that binds nothing was asked for so far.
    pub(crate) fn asked(&self) -> Vec<RequiredKey> {
        self.shared
            .asked
            .as_ref()
            .map_or_else(Vec::new, |asked| asked.take())
    }

    /// The same scope, in which these parameters are found where validation found them.
    pub(crate) fn with_sources(&self, sources: HashMap<String, Source>) -> Self {
        let mut scope = self.clone();
        Arc::make_mut(&mut scope.shared).sources = Arc::new(sources);
        scope
    }

    /// The same scope, in which the two names of each pair stand for one tensor.
    ///
    /// Names are full keys: `("lm_head.weight", "model.embed_tokens.weight")`.
    /// A checkpoint may hold either of the two, or both when they are equal: differing shapes or
    /// dtypes fail in [`Scope::param`], differing bytes when the tensor is first read.
    #[must_use]
    pub fn tied(&self, twins: &[(&str, &str)]) -> Self {
        let mut shared = (*self.shared).clone();
        for &(name, twin) in twins {
            let mut group = take_group(&mut shared.tied, twin);
            if !group.iter().any(|other| other == name) {
                group.extend(take_group(&mut shared.tied, name));
            }
            shared.tied.push(group);
        }
        Self {
            shared: Arc::new(shared),
            path: self.path.clone(),
        }
    }

    /// The same scope for parameters that another dtype than the model's belongs to.
    #[must_use]
    pub fn with_dtype(&self, dtype: DType) -> Self {
        let shared = Shared {
            dtype,
            ..(*self.shared).clone()
        };
        Self {
            shared: Arc::new(shared),
            path: self.path.clone(),
        }
    }

    /// The scope of a submodule.
    #[must_use]
    pub fn pp(&self, segment: impl Display) -> Self {
        Self {
            shared: self.shared.clone(),
            path: self.path.join(segment),
        }
    }

    /// The scope of the whole model, with the same dtype, device and ties.
    #[must_use]
    pub fn root(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            path: Path::root(),
        }
    }

    /// The module path of this scope.
    pub fn path(&self) -> Path {
        self.path.clone()
    }

    /// The dtype that floating-point parameters become.
    pub fn dtype(&self) -> DType {
        self.shared.dtype
    }

    /// The device that parameters are put on.
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// The checkpoint that this scope looks into.
    pub fn weights(&self) -> &Weights {
        &self.shared.weights
    }

    /// Whether the parameter is there, itself or as a tied twin.
    pub fn contains(&self, name: &str) -> bool {
        let name = self.path.join(name).to_string();
        self.held(&name).next().is_some()
    }

    /// A handle to the parameter `name` of this module; reads no bytes.
    ///
    /// Tied names get handles to one tensor.
    /// Fails, from headers alone, when it is absent, has another shape, has a dtype that cannot
    /// be loaded, or is tied to a tensor of another shape or dtype.
    pub fn param(&self, name: &str, shape: impl Into<Shape>) -> Result<Param> {
        let name = self.path.join(name).to_string();
        let (shared, shape) = (&self.shared, shape.into());
        if let Some(asked) = &shared.asked {
            let tied_to = self.group(&name).first().filter(|first| **first != name);
            asked.add(&name, &shape, shared.dtype, tied_to);
            return Ok(Param::unbound(&name, shape, shared.dtype, &shared.device));
        }
        let mut held = self.held(&name);
        let (key, rows) = held.next().unwrap_or((&name, Rows::AsStored));
        let mut twins: Vec<Box<str>> = held.map(|(key, _)| key.into()).collect();
        twins.retain(|twin| **twin != *key);
        Param::new(
            &shared.weights,
            (key, rows),
            twins,
            shape,
            shared.dtype,
            &shared.device,
        )
    }

    /// The names of the same tensor; at first the one that the others are tied to.
    fn group<'a>(&'a self, name: &'a String) -> &'a [String] {
        let mut groups = self.shared.tied.iter();
        let group = groups.find(|group| group.contains(name));
        group.map_or(std::slice::from_ref(name), Vec::as_slice)
    }

    /// The keys of this parameter that the checkpoint holds; the first is the one to read.
    fn held<'a>(&'a self, name: &'a String) -> impl Iterator<Item = (&'a str, Rows)> {
        let shared = &self.shared;
        let keys = self.group(name).iter().map(|name| {
            let source = shared.sources.get(name);
            let key = source.and_then(|source| source.key(shared.weights.checkpoint()));
            let rows = source.map_or(Rows::AsStored, |source| source.rows);
            (key.unwrap_or(name), rows)
        });
        keys.filter(|(key, _)| shared.weights.contains(key))
    }
}

/// Takes out the group that holds `name`, or makes one.
fn take_group(groups: &mut Vec<Vec<String>>, name: &str) -> Vec<String> {
    let at = groups
        .iter()
        .position(|group| group.iter().any(|other| other == name));
    at.map_or_else(|| vec![name.to_owned()], |at| groups.swap_remove(at))
}
