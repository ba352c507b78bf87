//! The one error type of the runtime: what went wrong, where, and what mends it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// Result with the runtime's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the runtime; its text names the file, key, module or shapes concerned.
///
/// ```
/// let err = pycandle::Weights::open("no/such/model.safetensors").unwrap_err();
/// assert!(err.to_string().contains("no/such/model.safetensors"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}", Problems(path, problems))]
    File {
        path: PathBuf,
        problems: Vec<String>,
    },
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

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        Kind::Io { path, source }.into()
    }

    /// Everything that is wrong with one file, reported together.
    pub(crate) fn file(path: &Path, problems: Vec<String>) -> Self {
        let path = path.to_path_buf();
        Kind::File { path, problems }.into()
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

/// Lets a model of ours run inside code that returns Candle's error.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match *error.0 {
            Kind::Candle(source) => source,
            kind => candle_core::Error::Msg(Error::from(kind).to_string()),
        }
    }
}

/// At most this many problems of one file are spelled out.
const SHOWN: usize = 20;

struct Problems<'a>(&'a Path, &'a [String]);

impl Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, problems) = self;
        if let [only] = problems {
            return write!(f, "{}: {only}", path.display());
        }
        write!(f, "{}: {} problems", path.display(), problems.len())?;
        for problem in problems.iter().take(SHOWN) {
            write!(f, "\n  {problem}")?;
        }
        if problems.len() > SHOWN {
            write!(f, "\n  and {} more", problems.len() - SHOWN)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_problems_are_listed_together() {
        let problems = (0..22).map(|i| format!("problem {i}")).collect();
        let text = Error::file(Path::new("a.safetensors"), problems).to_string();
        assert!(text.starts_with("a.safetensors: 22 problems\n  problem 0\n"));
        assert!(text.ends_with("problem 19\n  and 2 more"));
    }

    #[test]
    fn places_nest_from_the_outside_in() {
        let err = Error::msg("boom").at("q_proj").at("layer.0").at("");
        assert_eq!(err.to_string(), "layer.0: q_proj: boom");
    }
}
