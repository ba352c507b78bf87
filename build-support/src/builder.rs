//! The front end for `build.rs`.

use std::path::{Path, PathBuf};

use crate::checkpoint::RenameRule;
use crate::config::Config;
use crate::lock;
use crate::report::{At, Error, Report};
use crate::syntax::Syntax;

/// Generates a model from a build script.
///
/// ```no_run
/// // build.rs
/// pycandle_build::Builder::new()
///     .manifest("pycandle_trace/my_model_manifest.json")
///     .weights("model.safetensors")
///     .name("MyModel")
///     .strict(true) // keys that the model does not need are an error
///     .fuse(true) // as it is by default
///     .compile("my_model");
/// // src/main.rs: pycandle::include_model!("my_model");
/// ```
///
/// Cargo runs the script again when the manifest, a file of the checkpoint or its lock changes. Where
/// the checkpoint is absent its lock is used, which `cargo pycandle lock` writes.
#[derive(Debug, Clone)]
#[must_use = "nothing is generated before `compile`"]
pub struct Builder {
    config: Config,
    /// Rename rules that are none.
    problems: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Nothing chosen yet. Paths are relative to the package root.
    pub fn new() -> Self {
        let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
        Self {
            config: Config::new("").root(root).syntax(Syntax::Builder),
            problems: Vec::new(),
        }
    }

    /// Sets the manifest.
    pub fn manifest(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.manifest = path.into();
        self
    }

    /// Sets the checkpoint that has to fit the manifest: a safetensors or GGUF file, an index or a
    /// folder.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = self.config.weights(path);
        self
    }

    /// Adds a rule that renames the checkpoint's keys, as [`RenameRule`] describes; rules apply in
    /// the order in which they are added, each to what the one before made of the key.
    ///
    /// ```no_run
    /// # let builder = pycandle_build::Builder::new();
    /// builder.rename(r"^model\.model\.", "model.").compile("my_model");
    /// ```
    pub fn rename(mut self, pattern: &str, replacement: &str) -> Self {
        match RenameRule::new(pattern, replacement) {
            Ok(rule) => self.config = self.config.rename(rule),
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    /// Says whether keys that the model does not need are an error; they are not by default.
    pub fn strict(mut self, strict: bool) -> Self {
        self.config = self.config.strict(strict);
        self
    }

    /// Sets the name of the model's struct; by default that of its Python class.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config = self.config.name(name);
        self
    }

    /// Turns all fusions on (the default) or off.
    pub fn fuse(mut self, fuse: bool) -> Self {
        self.config = self.config.fuse(fuse);
        self
    }

    /// Writes `$OUT_DIR/<file>.rs`, which `pycandle::include_model!("<file>")` includes.
    ///
    /// Errors are printed for Cargo, which then shows them and fails the build.
    pub fn compile(self, file: &str) {
        let weights = self.config.weights_path().map(|(path, _)| path);
        let lock = weights.as_deref().and_then(lock::path_of);
        let optional = weights.into_iter().chain(lock);
        // Cargo runs the script every time for a file that is not there.
        let there = optional.filter(|path| path.exists());
        for path in std::iter::once(self.config.manifest_path()).chain(there) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        if let Err(report) = self.try_compile(file) {
            for line in report.to_string().lines() {
                println!("cargo::error={line}");
            }
        }
    }

    fn try_compile(&self, file: &str) -> Result<(), Report> {
        let folder = std::env::var_os("OUT_DIR").ok_or_else(|| {
            Error::whole(
                At::default(),
                "OUT_DIR is not set, `Builder` is for build scripts",
            )
        })?;
        let mut report = Report::new();
        for problem in &self.problems {
            let text = format!("rename: {problem}");
            report.push(Error::whole(At::default(), text));
        }
        report.into_result(())?;
        let generated = crate::generate(&self.config)?;
        for warning in &generated.warnings {
            println!("cargo::warning={warning}");
        }
        for path in &generated.tracked {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        write_if_changed(
            &Path::new(&folder).join(format!("{file}.rs")),
            &generated.source,
        )?;
        Ok(())
    }
}

/// Writes a file in one step, and only if its content changes; says whether it did. What is no file,
/// as a pipe or `/dev/null`, is written to.
///
/// ```
/// # let folder = tempfile::tempdir().expect("a temporary folder");
/// # let path = folder.path().join("model.rs");
/// assert!(pycandle_build::write_if_changed(&path, "// generated")?);
/// assert!(!pycandle_build::write_if_changed(&path, "// generated")?);
/// # Ok::<(), pycandle_build::Report>(())
/// ```
///
/// # Errors
/// When the file cannot be written.
pub fn write_if_changed(path: &Path, content: &str) -> Result<bool, Report> {
    let fail = |error: std::io::Error| {
        let text = format!("cannot write `{}`: {error}", path.display());
        Report::from(Error::whole(At::default(), text))
    };
    // A pipe or a device is written to: a file with its name would take its place.
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return std::fs::write(path, content).map(|()| true).map_err(fail);
    }
    if std::fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written =
        std::fs::write(&temporary, content).and_then(|()| std::fs::rename(&temporary, path));
    written.map(|()| true).map_err(|error| {
        // The temporary file is ours; it may not exist.
        let _ = std::fs::remove_file(&temporary);
        fail(error)
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// As `/dev/null` in the place of a file that nobody wants; here a socket, which nobody misses.
    #[test]
    fn no_file_takes_the_place_of_a_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let error = write_if_changed(&path, "text")
            .expect_err("not connected")
            .to_string();
        assert!(error.starts_with("cannot write `"), "{error}");
        assert!(std::fs::metadata(&path).is_ok_and(|there| !there.is_file()));
    }
}
