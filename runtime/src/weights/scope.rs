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
    tied: Vec<(String, String)>,
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

    /// The same scope, in which a name that the checkpoint lacks stands for its twin.
    ///
    /// Names are full keys: `("lm_head.weight", "model.embed_tokens.weight")`.
    #[must_use]
    pub fn tied(&self, twins: &[(&str, &str)]) -> Self {
        let mut shared = (*self.shared).clone();
        // A checkpoint may hold either of the two.
        let both = twins.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
        shared
            .tied
            .extend(both.map(|(name, twin)| (name.into(), twin.into())));
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
        self.shared.weights.contains(&self.resolve(name))
    }

    /// A handle to the parameter `name` of this module; reads no bytes.
    ///
    /// Fails, from headers alone, when it is absent, has another shape, or has a dtype that cannot
    /// be loaded.
    pub fn param(&self, name: &str, shape: impl Into<Shape>) -> Result<Param> {
        let key = self.resolve(name);
        let shared = &self.shared;
        Param::new(
            &shared.weights,
            &key,
            shape.into(),
            shared.dtype,
            &shared.device,
        )
    }

    /// The key in the file: the full name, or a twin's where the name is absent.
    fn resolve(&self, name: &str) -> String {
        let mut group = vec![self.path.join(name).to_string()];
        let mut next = 0;
        while let Some(key) = group.get(next).cloned() {
            if self.shared.weights.contains(&key) {
                return key;
            }
            for (_, twin) in self.shared.tied.iter().filter(|(name, _)| *name == key) {
                if !group.contains(twin) {
                    group.push(twin.clone());
                }
            }
            next += 1;
        }
        group.swap_remove(0)
    }
}
