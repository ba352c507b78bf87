//! Checkpoints by their headers: what a file holds, and whether it is what a model needs.
//!
//! [`Checkpoint::open`] reads the headers of safetensors files, of a folder or index of shards, or
//! of a GGUF file, and nothing else of them. The attribute, the build script, the command line and
//! the runtime all judge a checkpoint by this crate, so none of them can accept what another refuses.
//! With the feature `data` it also converts what the headers describe, and writes it anew.
//!
//! ```
//! use pycandle_checkpoint::{
//!     Class, Dtype, Expected, Finding, Form, Found, Line, Located, Mismatch, Need, Rename, Rows,
//!     Snapshot, Source, TensorId, Validated, locate, validate,
//! };
//! let mut snapshot = Snapshot::default(); // or `Checkpoint::open`, which reads headers
//! snapshot.tensor("model.fc.weight", Dtype::BF16, &[3, 4])?;
//! let checkpoint = snapshot.into_checkpoint("w".as_ref(), "w".as_ref());
//! let need = Need {
//!     name: "fc.weight".into(),
//!     shape: &[3, 4],
//!     dtype: Dtype::F32,
//!     tied_to: None,
//! };
//! let expected = Expected { needs: &[need], ..Expected::DEFAULT };
//!
//! // All of it is there, under another prefix:
//! let mismatch: Mismatch = validate(&expected, &checkpoint).unwrap_err();
//! let finding: &Finding = &mismatch.findings()[0];
//! assert!(finding.class == Class::Prefix && finding.class.name() == "prefix");
//! assert!(!finding.is_note() && !finding.is_warning());
//! let options = |renames: &[Rename]| format!("--rename '{}='", renames[0].pattern);
//! let line: Option<&Line> = finding.lines.iter().find(|line| !line.renames.is_empty());
//! assert!(line.is_some_and(|line| line.written(options).ends_with(r"--rename '^model\.='")));
//! println!("{mismatch}\n{}\n{:?}", mismatch.written(options), mismatch.conclusion());
//!
//! // Renamed, it fits:
//! let renames = [("fc.weight", "model.fc.weight")];
//! let expected = Expected { renames: &renames, ..expected };
//! let validated: Validated = validate(&expected, &checkpoint)?;
//! let source: Source = validated.source(0);
//! assert_eq!(source.key(&checkpoint), Some("model.fc.weight"));
//! let id: Option<TensorId> = source.id;
//! assert_eq!(id, checkpoint.get("model.fc.weight").map(|tensor| tensor.id()));
//! assert_eq!((source.rows, source.form), (Rows::AsStored, Form::Plain));
//! let located: Located = locate(&expected, &checkpoint);
//! let found: Option<Found> = located.needs[0];
//! assert!(located.unneeded.is_empty() && found.is_some_and(|found| !found.tied));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "data")]
mod blocks;
#[cfg(feature = "data")]
pub mod convert;
mod dtype;
mod entries;
mod error;
#[cfg(feature = "data")]
pub mod extract;
mod files;
mod foreign;
mod gguf;
mod hash;
mod header;
mod name_list;
mod open;
mod origin;
mod ranges;
mod safetensors;
mod snapshot;
mod text;
mod validate;

pub use dtype::Dtype;
pub use error::{Error, Result};
pub use files::open_file;
pub use header::{PADDING, Value};
pub use name_list::NameList;
pub use open::{Checkpoint, Shard, Tensor, TensorId, config_at};
pub use origin::Origin;
pub use ranges::{expand, expand_pairs, shorten, shorten_pairs};
pub use snapshot::Snapshot;
pub use text::{escaped, quoted};
pub use validate::{
    ByName, Class, Expected, Finding, Form, Found, Line, Located, Mismatch, Names, Need, Needs,
    Rename, Rows, Rules, Source, Validated, config_facts, locate, need_of_key, validate,
};
