//! `torch.nn.Embedding`.

use candle_core::Tensor;

use super::finish;
use crate::{Param, Path, Probe, Result, Scope, dispatch};

/// Rows of a table by index (`aten.embedding`).
///
/// ```
/// use pycandle::{Device, Embedding, NoProbe, Param, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let table = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let embedding = Embedding::new(Param::from_tensor("weight", table));
/// let rows = embedding.forward(&Tensor::new(&[1i64, 0], &Device::Cpu)?, &mut NoProbe)?;
/// assert_eq!(rows.to_vec2::<f32>()?, [[3., 4.], [1., 2.]]);
/// assert!(embedding.forward(&Tensor::new(&[2i64], &Device::Cpu)?, &mut NoProbe).is_err());
/// # Ok(())
/// # }
/// ```
///
/// From a checkpoint:
///
/// ```
/// # use pycandle::{DType, Device, Tensor, Weights, Embedding};
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// # let tensors = [("wte.weight", zeros(&[7, 2])?)];
/// # candle_core::safetensors::save(&tensors.into(), &path)?;
/// let scope = Weights::open(&path)?.scope(DType::F32, &Device::Cpu);
/// let embedding = Embedding::load(&scope.pp("wte"), 7, 2)?;
/// assert_eq!(embedding.weight().dims(), [7, 2]); // a tied head takes the same handle
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Param,
    path: Option<Path>,
}

impl Embedding {
    /// `weight` `[num, dim]`.
    pub fn load(scope: &Scope, num: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", (num, dim))?,
            path: Some(scope.path()),
        })
    }

    /// Over a handle: `weight` `[num, dim]`.
    pub fn new(weight: Param) -> Self {
        Self { weight, path: None }
    }

    /// The handle of the table.
    pub fn weight(&self) -> &Param {
        &self.weight
    }

    /// `[…]` of I64 (or U32) to `[…, dim]`; fails on an index outside `0..num`.
    pub fn forward(&self, ids: &Tensor, p: &mut impl Probe) -> Result<Tensor> {
        let rows = dispatch::embedding(&self.weight, ids);
        finish(self.path.as_ref(), rows, p)
    }
}
