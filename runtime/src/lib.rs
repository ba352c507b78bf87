//! Runtime of typed Candle models that `pycandle` generates from traced PyTorch models.
//!
//! What comes in: a checkpoint ([`Weights`]), tensors, and optionally goldens recorded from PyTorch.
//! What goes out: tensors, and a [`parity`] report that holds them against PyTorch's.
//!
//! Generated code is built from four things:
//! * [`Scope`] and [`Param`]: where a module finds its weights, and lazy handles to them,
//! * [`layers`]: the modules that own parameters ([`Linear`], [`LayerNorm`], …),
//! * [`ops`]: free functions with exactly PyTorch's meaning,
//! * [`Probe`]: a listener that sees every module's output, and costs nothing when absent.
//!
//! ```
//! use pycandle::{DType, Device, Linear, NoProbe, Tensor, Weights};
//! # fn main() -> pycandle::Result<()> {
//! # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
//! # let path = dir.path().join("model.safetensors");
//! # let weight = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
//! # candle_core::safetensors::save(&[("proj.weight", weight)].into(), &path)?;
//! let weights = Weights::open(&path)?; // reads headers only
//! let scope = weights.scope(DType::F32, &Device::Cpu);
//! let proj = Linear::no_bias(&scope.pp("proj"), 2, 2)?; // checks name and shape
//! let x = Tensor::new(&[[1f32, 1.]], &Device::Cpu)?;
//! let y = proj.forward(&x, &mut NoProbe)?; // reads the bytes
//! assert_eq!(y.to_vec2::<f32>()?, [[3., 7.]]);
//! # Ok(())
//! # }
//! ```

pub use candle_core;
pub use candle_core::{DType, Device, Shape, Tensor};

mod cache;
pub mod dispatch;
mod error;
pub mod layers;
pub mod ops;
pub mod parity;
mod probe;
mod weights;

pub use cache::{CacheTensor, KvCache, LayerCache, ModelCache};
pub use error::{Error, Result};
pub use layers::{
    BatchNorm, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Embedding, GroupNorm, LayerNorm, Linear,
    RmsNorm,
};
pub use probe::{NoProbe, Path, Probe};
pub use pycandle_checkpoint::Dtype as FileDtype;
/// # Example
/// ```
/// use pycandle::{Device, Tensor, Weights};
///
/// #[pycandle::pycandle_model(
///     manifest = "../tests/models/mlp_manifest.json",
///     weights = "../tests/models/mlp.safetensors"
/// )]
/// pub struct Mlp;
///
/// # fn main() -> pycandle::Result<()> {
/// let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// let model = Mlp::load(&weights, &Device::Cpu)?;
/// for warning in weights.warnings() {
///     eprintln!("{warning}"); // what a build would print of this file
/// }
/// let x = Tensor::zeros((2, 3, 6), model.dtype(), &Device::Cpu)?;
/// assert_eq!(model.forward(&x)?.dims(), [2, 3, 5]);
/// # Ok(())
/// # }
/// ```
pub use pycandle_macros::pycandle_model;
pub use weights::{Param, RequiredKey, Scope, Weights};

/// Includes the model that `pycandle_build::Builder::compile` wrote to `$OUT_DIR/<name>.rs`; the
/// package `examples/build-script` does so.
///
/// ```ignore
/// // build.rs:
/// pycandle_build::Builder::new().manifest("my_model_manifest.json").compile("my_model");
/// // src/lib.rs:
/// pycandle::include_model!("my_model");
/// ```
#[macro_export]
macro_rules! include_model {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

/// For generated code only: no part of it is stable.
#[doc(hidden)]
pub mod __private {
    pub mod bind;
}
