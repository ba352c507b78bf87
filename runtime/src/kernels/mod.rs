//! CPU kernels of our own, over slices: what Candle computes too slowly or in too narrow a type.
pub(crate) mod conv;
pub(crate) mod norm;
