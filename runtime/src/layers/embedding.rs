//! `torch.nn.Embedding`.

use candle_core::{DType, Tensor};

use super::finish;
use crate::{Error, Param, Path, Probe, Result, Scope};

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
        finish(self.path.as_ref(), self.rows(ids), p)
    }

    fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        let [num, dim] = self.weight.dims() else {
            let dims = self.weight.dims();
            return Err(Error::msg(format!("embedding: the table is {dims:?}")));
        };
        let flat = ids.flatten_all()?.to_dtype(DType::I64)?;
        // Candle gives a row of zeros for some indices outside the table.
        if ids.device().is_cpu() {
            let ids = flat.to_vec1::<i64>()?;
            if let Some(id) = ids.iter().find(|id| !(0..*num as i64).contains(id)) {
                let text = format!("embedding: index {id} is outside a table of {num} rows");
                return Err(Error::msg(text));
            }
        }
        let mut dims = ids.dims().to_vec();
        dims.push(*dim);
        let rows = self.weight.tensor()?.index_select(&flat, 0)?;
        Ok(rows.reshape(dims)?)
    }
}
