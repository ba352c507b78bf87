//! Free functions over tensors with exactly PyTorch's meaning, for the dtypes they accept.
//!
//! What comes in: tensors whose dtypes agree (generated code inserts PyTorch's promotions as
//! casts) and dimensions already counted from the front. What goes out: a new tensor, or an error
//! that names the operation; nothing here panics. Two-tensor functions broadcast as PyTorch does.
//!
//! Booleans are `U8` tensors of 0 and 1, PyTorch's integers are `I64` (its `uint8` is `U8`).
//! `F16` and `BF16` are computed in `f32` and rounded once, as PyTorch's kernels do.
//!
//! On the CPU the functions are kernels of our own, vectorised for the instruction set found at
//! run time; on other devices they are compositions of Candle's operations, or pass through the
//! CPU where Candle has none.
//!
//! ```
//! use pycandle::{Device, Tensor, ops};
//! # fn main() -> pycandle::Result<()> {
//! let x = Tensor::new(&[0.5f32, 1.5, 2.5], &Device::Cpu)?;
//! assert_eq!(ops::round(&x)?.to_vec1::<f32>()?, [0., 2., 2.]); // half to even
//! # Ok(())
//! # }
//! ```

mod activation;
mod advanced;
mod attention;
mod bag;
mod bits;
mod cast;
mod compare;
mod composed;
mod conv;
mod conv_transpose;
mod create;
mod decode;
mod distance;
mod elementwise;
mod flash;
mod functions;
mod gemv;
mod grid;
mod index;
mod linalg;
mod linear;
mod map;
mod max_pool;
mod memory;
mod norm;
mod pad;
mod pixel;
mod pool;
mod rank;
mod recurrent;
mod reduce;
mod scalar;
mod scan;
mod scatter;
mod shape;
mod sort;
mod special;
mod upsample;
mod volume;
mod windows;

mod isa;
mod vmath;
mod walk;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activation::*;
pub use attention::*;
pub use bag::*;
pub use bits::*;
pub use cast::*;
pub use compare::*;
pub use composed::*;
pub use conv::*;
pub use conv_transpose::*;
pub use create::*;
pub use distance::*;
pub use elementwise::*;
pub use functions::*;
pub use grid::*;
pub use index::*;
pub use linalg::*;
pub use linear::*;
pub use max_pool::*;
pub use norm::*;
pub use pad::*;
pub use pixel::*;
pub use pool::*;
pub use rank::*;
pub use recurrent::*;
pub use reduce::*;
pub use scalar::*;
pub use scan::*;
pub use scatter::*;
pub use shape::*;
pub use sort::*;
pub use special::*;
pub use upsample::*;
pub use volume::*;
pub use windows::*;

use crate::Result;

#[cfg(test)]
mod tests;
