//! What is wrong with the files of a checkpoint, all of it.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::escaped;

/// At most this many problems of one file are spelled out.
const SHOWN: usize = 20;

/// Result with this crate's [`Error`].
///
/// ```
/// fn tensors(path: &str) -> pycandle_checkpoint::Result<usize> {
///     Ok(pycandle_checkpoint::Checkpoint::open(path)?.len())
/// }
/// assert!(tensors("no/such/model.safetensors").is_err());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that is wrong with the files of a checkpoint.
///
/// ```
/// let error = pycandle_checkpoint::Checkpoint::open("no/such/model.safetensors").unwrap_err();
/// assert!(error.to_string().starts_with("no/such/model.safetensors: "));
/// for (file, problems) in error.files() {
///     println!("{}: {}", file.display(), problems.join("; "));
/// }
/// let own = pycandle_checkpoint::Error::file("w".as_ref(), vec!["it is empty".to_owned()]);
/// assert_eq!(own.to_string(), "w: it is empty");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an error that nobody sees"]
pub struct Error {
    files: Vec<(PathBuf, Vec<String>)>,
    /// Whether there was no room to write.
    full: bool,
}

impl Error {
    /// Problems of one file, each a sentence without the file's name; what such a sentence quotes
    /// from the file is [`escaped`].
    pub fn file(path: &Path, mut problems: Vec<String>) -> Self {
        for problem in &mut problems {
            if let Cow::Owned(shown) = escaped(problem) {
                *problem = shown;
            }
        }
        Self {
            files: vec![(path.to_path_buf(), problems)],
            full: false,
        }
    }

    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        Self {
            full: matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge),
            ..Self::file(path, vec![error.to_string()])
        }
    }

    /// Says how much room was needed, if that is what was missing.
    #[cfg(feature = "data")]
    pub(crate) fn when_full(mut self, needed: u64) -> Self {
        let mend = "make room for all of it, or write to another disk";
        for (_, problems) in self.files.iter_mut().filter(|_| self.full) {
            problems.iter_mut().for_each(|problem| {
                *problem += &format!(": the output takes {needed} bytes, {mend}")
            });
        }
        self
    }

    /// The files that something is wrong with, and what.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[String])> {
        self.files
            .iter()
            .map(|(path, problems)| (&**path, &**problems))
    }

    /// All errors as one; the values when there is none.
    pub(crate) fn all<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
        let (mut values, mut files) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(value) => values.push(value),
                Err(error) => files.extend(error.files),
            }
        }
        match files.is_empty() {
            true => Ok(values),
            false => Err(Self { files, full: false }),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (path, problems)) in self.files.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            // Paths in messages use `/` on every system.
            let path = path.display().to_string().replace('\\', "/");
            let path = escaped(&path);
            if let [only] = &problems[..] {
                write!(f, "{path}: {only}")?;
                continue;
            }
            write!(f, "{path}: {} problems", problems.len())?;
            for problem in problems.iter().take(SHOWN) {
                write!(f, "\n  {problem}")?;
            }
            if problems.len() > SHOWN {
                write!(f, "\n  and {} more", problems.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_one_line_of_text() {
        let problems = vec!["`a\n\u{1b}]0;b` is\u{202e} twice".to_owned()];
        let error = Error::file(Path::new("x\ny"), problems);
        let text = r"`a\n\u{1b}]0;b` is\u{202e} twice";
        assert_eq!(error.to_string(), format!("x\\ny: {text}"));
        assert!(error.files().all(|(_, problems)| problems == [text]));
    }

    #[cfg(feature = "data")]
    #[test]
    fn a_full_disk_is_told_with_what_is_needed() {
        let path = Path::new("o.safetensors");
        let error = Error::io(path, &std::io::ErrorKind::StorageFull.into()).when_full(70);
        let expected =
            ": the output takes 70 bytes, make room for all of it, or write to another disk";
        let text = error.to_string();
        assert!(
            text.starts_with("o.safetensors: ") && text.ends_with(expected),
            "{text}"
        );
        let error = Error::io(path, &std::io::ErrorKind::NotFound.into());
        assert_eq!(error.clone().when_full(70), error);
    }

    #[test]
    fn several_problems_are_listed_together() {
        let problems = (0..22).map(|i| format!("problem {i}")).collect();
        let text = Error::file(Path::new("a.safetensors"), problems).to_string();
        assert!(text.starts_with("a.safetensors: 22 problems\n  problem 0\n"));
        assert!(text.ends_with("problem 19\n  and 2 more"));
    }
}
