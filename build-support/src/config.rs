//! What to generate: the one input of [`generate`](crate::generate), for all three front ends.

use std::path::{Path, PathBuf};

use crate::checkpoint::RenameRule;
use crate::manifest::{Constant, Data, Manifest};
use crate::names;
use crate::report::{At, Error, Report};
use crate::syntax::Syntax;

/// What to generate, and from which files.
///
/// ```
/// use std::path::Path;
/// use pycandle_build::{Config, RenameRule, Syntax};
/// let config = Config::new("trace/llama_manifest.json")
///     .root("my-crate")
///     .weights("llama.safetensors")
///     .rename(RenameRule::new(r"^llama\.", "")?)
///     .strict(true)
///     .name("Llama")
///     .fuse(false)
///     .syntax(Syntax::Builder);
/// assert_eq!(config.manifest_path(), Path::new("my-crate/trace/llama_manifest.json"));
/// let (path, as_given) = config.weights_path().ok_or("no weights")?;
/// assert_eq!(path, Path::new("my-crate").join(as_given));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) root: PathBuf,
    pub(crate) manifest: PathBuf,
    pub(crate) weights: Option<PathBuf>,
    pub(crate) renames: Vec<RenameRule>,
    pub(crate) strict: bool,
    pub(crate) name: Option<String>,
    pub(crate) fuse: bool,
    pub(crate) syntax: Syntax,
}

impl Config {
    /// The model in this manifest, with all fusions, as a public struct named after its class.
    pub fn new(manifest: impl Into<PathBuf>) -> Self {
        Self {
            root: PathBuf::new(),
            manifest: manifest.into(),
            weights: None,
            renames: Vec::new(),
            strict: false,
            name: None,
            fuse: true,
            syntax: Syntax::default(),
        }
    }

    /// Sets the folder that relative paths start from; the working directory by default.
    pub fn root(mut self, folder: impl Into<PathBuf>) -> Self {
        self.root = folder.into();
        self
    }

    /// Sets the checkpoint that has to fit: a safetensors or GGUF file, an index or a folder.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Self {
        self.weights = Some(path.into());
        self
    }

    /// Adds a rule that renames the checkpoint's keys: rules apply in the order in which they are
    /// added, each to what the one before made of the key.
    pub fn rename(mut self, rule: RenameRule) -> Self {
        self.renames.push(rule);
        self
    }

    /// Says whether keys that the model does not need are an error; they are not by default.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets the name of the model's struct.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Turns all fusions on or off.
    pub fn fuse(mut self, fuse: bool) -> Self {
        self.fuse = fuse;
        self
    }

    /// Sets how reports write arguments that would mend what is wrong; those of the attribute by
    /// default.
    pub fn syntax(mut self, syntax: Syntax) -> Self {
        self.syntax = syntax;
        self
    }

    /// Where the manifest is.
    pub fn manifest_path(&self) -> PathBuf {
        self.root.join(&self.manifest)
    }

    /// Folder of the manifest from the root, with a slash behind it unless it is the root itself.
    pub(crate) fn manifest_folder(&self) -> String {
        match self.manifest.parent().map(|p| p.to_string_lossy()) {
            Some(folder) if !folder.is_empty() => format!("{folder}/"),
            _ => String::new(),
        }
    }

    /// Everything in it that cannot be had for this manifest.
    pub(crate) fn problems(&self, manifest: &Manifest) -> Report {
        let mut report = Report::new();
        let problems = [
            self.side_files_out_of_reach(manifest),
            self.renames_nothing(),
            self.name_unfit(),
        ];
        problems.into_iter().flatten().for_each(|p| report.push(p));
        report
    }

    /// An error when the manifest has side files that generated code could not name: it names them
    /// from the package root.
    fn side_files_out_of_reach(&self, manifest: &Manifest) -> Option<Error> {
        let aside = |c: &Constant| matches!(c.data, Data::File(_));
        let constant = manifest.constants.iter().find(|c| aside(c))?;
        let text = format!(
            "constant `{}` is in a file beside the manifest, which generated code names from the \
             package root: give the manifest's path relative to it",
            constant.name
        );
        let at = At::file(&manifest.file);
        self.manifest.is_absolute().then(|| Error::whole(at, text))
    }

    /// An error when there are rename rules and no keys to apply them to.
    fn renames_nothing(&self) -> Option<Error> {
        let text = format!(
            "rename rules apply to the keys of a checkpoint: name it as {}; where it is absent when \
             building, keep what `cargo pycandle lock` writes of it",
            self.syntax.argument("weights")
        );
        let alone = self.weights.is_none() && !self.renames.is_empty();
        alone.then(|| Error::whole(At::default(), text))
    }

    /// The name of the model's struct: the one that was given, or its class.
    pub(crate) fn model_name(&self, manifest: &Manifest) -> String {
        let given = self.name.clone().filter(|_| self.name_unfit().is_none());
        given.unwrap_or_else(|| names::camel(&manifest.class))
    }

    /// An error when the name that was given cannot be that of a struct in generated code.
    fn name_unfit(&self) -> Option<Error> {
        let problem = names::unfit(self.name.as_deref()?)?;
        Some(Error::whole(At::default(), problem))
    }

    /// Where the checkpoint is, and its path as it was given.
    pub fn weights_path(&self) -> Option<(PathBuf, &Path)> {
        self.weights
            .as_deref()
            .map(|path| (self.root.join(path), path))
    }
}
