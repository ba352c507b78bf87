//! Where a module looks for its weights.

use std::fmt::Display;
use std::sync::Arc;

use candle_core::{DType, Device, Shape};

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
}

impl Scope {
    pub(super) fn new(weights: Weights, dtype: DType, device: &Device) -> Self {
        let shared = Shared {
            weights,
            dtype,
            device: device.clone(),
            tied: Vec::new(),
        };
        Self {
            shared: Arc::new(shared),
            path: Path::root(),
        }
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
        let mut held = self.held(&name);
        let key = held.next().unwrap_or(&name);
        let twins: Vec<Box<str>> = held.map(Box::from).collect();
        let shared = &self.shared;
        Param::new(
            &shared.weights,
            key,
            twins,
            shape.into(),
            shared.dtype,
            &shared.device,
        )
    }

    /// The names of this parameter that the checkpoint holds; the first is the one to read.
    fn held<'a>(&'a self, name: &'a String) -> impl Iterator<Item = &'a str> {
        let mut groups = self.shared.tied.iter();
        let group = groups.find(|group| group.contains(name));
        let group = group.map_or(std::slice::from_ref(name), Vec::as_slice);
        let held = group.iter().map(String::as_str);
        held.filter(|key| self.shared.weights.contains(key))
    }
}

/// Takes out the group that holds `name`, or makes one.
fn take_group(groups: &mut Vec<Vec<String>>, name: &str) -> Vec<String> {
    let at = groups
        .iter()
        .position(|group| group.iter().any(|other| other == name));
    at.map_or_else(|| vec![name.to_owned()], |at| groups.swap_remove(at))
}
