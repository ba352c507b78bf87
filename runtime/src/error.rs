//! The one error type of the runtime: what went wrong, where, and what mends it.

use std::fmt::Display;
use std::path::Path;

/// Result with the runtime's [`Error`].
///
/// ```
/// fn layers(config: &str) -> pycandle::Result<usize> {
///     config.parse().map_err(pycandle::Error::msg)
/// }
/// assert!(layers("x").is_err());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the runtime; its text names the file, key, module or shapes concerned.
///
/// ```
/// let err = pycandle::Weights::open("no/such/model.safetensors").unwrap_err();
/// assert!(err.to_string().contains("no/such/model.safetensors"));
///
/// let own = pycandle::Error::msg("too long").at("layers.3");
/// assert_eq!(own.to_string(), "layers.3: too long");
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    #[error(transparent)]
    Checkpoint(#[from] pycandle_checkpoint::Error),
    #[error(transparent)]
    Mismatch(#[from] pycandle_checkpoint::Mismatch),
    #[error("{at}: {source}")]
    At { at: String, source: Error },
    #[error("{0}")]
    Message(String),
}

impl Error {
    /// An error with a text of one's own.
    pub fn msg(text: impl Display) -> Self {
        Kind::Message(text.to_string()).into()
    }

    /// The same error, prefixed by the place (a module path, a function) where it happened.
    ///
    /// An empty place, the model's root, is left out.
    #[must_use]
    pub fn at(self, place: impl Display) -> Self {
        let at = place.to_string();
        if at.is_empty() {
            return self;
        }
        Kind::At { at, source: self }.into()
    }

    /// Everything that is wrong with one file, reported together.
    pub(crate) fn file(path: &Path, problems: Vec<String>) -> Self {
        pycandle_checkpoint::Error::file(path, problems).into()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Kind::Candle(source).into()
    }
}

impl From<pycandle_checkpoint::Error> for Error {
    fn from(source: pycandle_checkpoint::Error) -> Self {
        Kind::Checkpoint(source).into()
    }
}

impl From<pycandle_checkpoint::Mismatch> for Error {
    fn from(source: pycandle_checkpoint::Mismatch) -> Self {
        Kind::Mismatch(source).into()
    }
}

/// Lets a model of ours run inside code that returns Candle's error.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match *error.0 {
            Kind::Candle(source) => source,
            kind => candle_core::Error::Msg(Error::from(kind).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_nest_from_the_outside_in() {
        let err = Error::msg("boom").at("q_proj").at("layer.0").at("");
        assert_eq!(err.to_string(), "layer.0: q_proj: boom");
    }
}
