//! A model whose generated source is kept: `src/llama.rs` can be read, reviewed and changed.
//!
//! It was written by this command, and `tests/up_to_date.rs` says when it no longer is what the
//! command would write; a project that edits its copy drops that test.
//!
//! ```text
//! cargo pycandle codegen --manifest tests/models/llama_manifest.json --name Llama --out examples/kept-source/src/llama.rs
//! ```

// The generator has a layout of its own, so that the same manifest gives the same bytes.
#[rustfmt::skip]
mod llama;

pub use llama::Llama;
