//! Turns the manifest of a traced PyTorch model into typed Candle source.
//!
//! One direction, one stage per file:
//! `raw` → `manifest` → `graph` → `fuse` → `lower` → `tree` → `body` (with `loops`) → `dedup` →
//! `inline` and `hints` → `emit` → `format`. [`generate`] runs them all, for the attribute macro, the
//! [`Builder`] of build scripts and the command line.
//!
//! `attribute`, `checkpoint`, `expand` and `check` are for the other crates of this workspace: no part
//! of them is stable, and they are not in this documentation.

#[doc(hidden)]
pub mod attribute;
mod body;
mod builder;
#[doc(hidden)]
pub mod checkpoint;
mod config;
mod constants;
mod dedup;
mod emit;
mod format;
mod fuse;
mod generate;
mod graph;
mod hints;
mod inline;
mod ir;
pub mod lock;
mod loops;
mod lower;
pub mod manifest;
mod mark;
mod names;
mod ops;
pub mod raw;
mod report;
mod syntax;
mod tree;

pub use builder::{Builder, write_if_changed};
pub use checkpoint::RenameRule;
pub use config::Config;
pub use generate::{Expanded, Expects, Generated, check, expand, generate, unsupported};
pub use mark::Kept;
pub use ops::{documentation, supported};
pub use report::{At, Error, Report};
pub use syntax::Syntax;
