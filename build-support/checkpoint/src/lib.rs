//! Checkpoints by their headers: what a file holds, and whether it is what a model needs.
//!
//! [`Checkpoint::open`] reads the headers of safetensors files, of a folder or index of shards, or
//! of a GGUF file, and nothing else of them. The attribute, the build script, the command line and
//! the runtime all judge a checkpoint by this crate, so none of them can accept what another refuses.
//! With the feature `data` it also converts what the headers describe, and writes it anew.

#[cfg(feature = "data")]
mod blocks;
#[cfg(feature = "data")]
pub mod convert;
mod dtype;
mod error;
#[cfg(feature = "data")]
pub mod extract;
mod files;
mod foreign;
mod gguf;
mod header;
mod open;
mod ranges;
mod safetensors;
mod snapshot;
mod text;
mod validate;

pub use dtype::Dtype;
pub use error::{Error, Result};
pub use header::{PADDING, Value};
pub use open::{Checkpoint, Shard, Tensor, config_at};
pub use ranges::{expand, expand_pairs, shorten, shorten_pairs};
pub use snapshot::Snapshot;
pub use text::escaped;
pub use validate::{
    Class, Expected, Finding, Form, Found, Line, Located, Mismatch, Names, Need, Rename, Rows,
    Source, Validated, config_facts, locate, need_of_key, validate,
};
