//! A checkpoint without its files: what was written down about them.

use std::path::Path;

use crate::dtype::Dtype;
use crate::files::Place;
use crate::header::{Header, Value};
use crate::open::Checkpoint;
use crate::origin::Origin;

/// What headers said, put together by hand; it becomes a [`Checkpoint`] that no file backs.
///
/// ```
/// use pycandle_checkpoint::{Dtype, Origin, Snapshot, Value};
/// let mut snapshot = Snapshot::default();
/// snapshot.tensor("bias", Dtype::F32, &[2])?;
/// snapshot.metadata("format", Value::Text("pt".into()));
/// snapshot.config(r#"{"hidden_size": 2}"#);
/// snapshot.gguf(false);
/// let (repository, commit) = (Some("org/model".to_owned()), "0123abcd".to_owned());
/// snapshot.origin(Origin { repository, commit });
/// let path = std::path::Path::new("model.safetensors.lock.json");
/// let checkpoint = snapshot.into_checkpoint(path, path);
/// assert_eq!(checkpoint.get("bias").map(|bias| bias.bytes()), Some(8));
/// assert!(checkpoint.is_snapshot());
/// let origin = checkpoint.origin().map(|origin| origin.to_string());
/// assert_eq!(origin.as_deref(), Some("org/model at commit 0123abcd"));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Default)]
pub struct Snapshot {
    header: Header,
    is_gguf: bool,
    config: Option<Box<str>>,
    origin: Option<Origin>,
}

impl Snapshot {
    /// Adds a tensor.
    ///
    /// # Errors
    /// A sentence when the name was added before, or the shape is not one of this dtype.
    pub fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<(), String> {
        let bytes = dtype.size(shape);
        let bytes = bytes.map_err(|problem| format!("`{name}`: {problem}"))?;
        let entries = &mut self.header.entries;
        let added = entries.insert(name, (dtype, shape), 0, bytes);
        added.map_err(|why| format!("`{name}`{why}"))
    }

    /// Adds a value of the metadata.
    pub fn metadata(&mut self, key: &str, value: Value) {
        self.header.metadata.insert(key.to_owned(), value);
    }

    /// Says that the files are GGUF.
    pub fn gguf(&mut self, is_gguf: bool) {
        self.is_gguf = is_gguf;
    }

    /// Adds the text of `config.json`.
    pub fn config(&mut self, text: &str) {
        self.config = Some(text.into());
    }

    /// Says which commit of a hub's repository it is.
    pub fn origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// The checkpoint that it describes; errors call it `shown`.
    pub fn into_checkpoint(self, path: &Path, shown: &Path) -> Checkpoint {
        let place = Place {
            path: path.to_path_buf(),
            shown: shown.to_path_buf(),
        };
        Checkpoint::of_snapshot(place, self.is_gguf, self.header, (self.config, self.origin))
    }
}
