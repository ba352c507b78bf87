//! Errors of code generation, collected and shown together.
//!
//! In: errors of any stage, each with the place it concerns. Out: one readable text, the same for
//! the attribute, `build.rs` and the command line.

use std::fmt;

use pycandle_checkpoint::Mismatch;

use crate::ops::{decomposition, written};
use crate::syntax::Syntax;

/// How many errors of one kind are printed before the rest is only counted.
const SHOWN: usize = 20;

/// Where an error lies: in the manifest, in the module tree and in the Python source.
///
/// ```
/// # let report = pycandle_build::raw::parse("m_manifest.json", "{").unwrap_err();
/// let at: &pycandle_build::At = report.errors()[0].at();
/// assert_eq!(at.location().as_deref(), Some("m_manifest.json:1"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    file: Option<String>,
    line: Option<usize>,
    field: Option<String>,
    module: Option<String>,
    python: Option<String>,
}

impl At {
    /// A place in the file with this name.
    pub(crate) fn file(name: impl Into<String>) -> Self {
        Self {
            file: Some(name.into()),
            ..Self::default()
        }
    }

    /// Adds the line, from 1.
    pub(crate) fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// Adds the field path, as `nodes[412].args.input`.
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds the dotted module path; the root has the empty path.
    pub(crate) fn module(mut self, path: impl Into<String>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Adds the Python `file:line`, where it is known.
    pub(crate) fn python(mut self, place: Option<impl Into<String>>) -> Self {
        self.python = place.map(Into::into);
        self
    }

    /// The file and line, as ` --> file:line` shows them.
    pub fn location(&self) -> Option<String> {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => Some(format!("{file}:{line}")),
            (Some(file), None) => Some(file.clone()),
            _ => None,
        }
    }

    /// `in encoder.stft (model.py:88, manifest line 412)`.
    fn in_module(&self) -> String {
        let mut places = Vec::new();
        places.extend(self.python.clone());
        places.extend(self.line.map(|line| format!("manifest line {line}")));
        let module = match self.module.as_deref() {
            Some("") => "in the root module",
            Some(path) => return parenthesised(&format!("in {path}"), &places),
            None => "",
        };
        parenthesised(module, &places)
    }
}

fn parenthesised(text: &str, places: &[String]) -> String {
    match (text, places) {
        (text, []) => text.to_owned(),
        ("", places) => format!("({})", places.join(", ")),
        (text, places) => format!("{text} ({})", places.join(", ")),
    }
}

/// One error: what is wrong and where.
///
/// ```
/// # let path = "../tests/ui/fixtures/unsupported_manifest.json";
/// # let manifest = pycandle_build::raw::read(path.as_ref())?;
/// # let report = pycandle_build::unsupported(&manifest);
/// let error: &pycandle_build::Error = &report.errors()[0];
/// assert_eq!(error.unsupported_op(), Some("aten.fft_rfft.default"));
/// println!("{:?}", error.at());
/// # Ok::<(), pycandle_build::Report>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    at: At,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The manifest breaks its format.
    Manifest(String),
    /// A whole text of its own, such as an unreadable file.
    Whole(String),
    /// An operator without a row in the op table.
    Unsupported(String),
    /// An operator that has a row, called in a way the row does not cover.
    Lowering { op: String, message: String },
    /// The checkpoint cannot be read.
    Weights(String),
    /// Rename rules make one name of several keys.
    Renames(String),
    /// The checkpoint is not what the trace needs.
    Mismatch(Mismatch, Syntax),
}

impl Error {
    /// The manifest breaks its format at this place.
    pub(crate) fn manifest(at: At, message: impl Into<String>) -> Self {
        Self {
            at,
            kind: Kind::Manifest(message.into()),
        }
    }

    /// An error that needs no heading: a file that cannot be read, a name that is not one.
    pub(crate) fn whole(at: At, message: impl Into<String>) -> Self {
        Self {
            at,
            kind: Kind::Whole(message.into()),
        }
    }

    /// This operator has no lowering. Equal operators are counted and shown once.
    pub(crate) fn unsupported(at: At, op: impl Into<String>) -> Self {
        Self {
            at,
            kind: Kind::Unsupported(op.into()),
        }
    }

    /// This operator is lowered, but not with these arguments.
    pub(crate) fn lowering(at: At, op: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            at,
            kind: Kind::Lowering {
                op: op.into(),
                message: message.into(),
            },
        }
    }

    /// The checkpoint cannot be read; `text` says all of it.
    pub(crate) fn weights(text: impl Into<String>) -> Self {
        Self {
            at: At::default(),
            kind: Kind::Weights(text.into()),
        }
    }

    /// The rename rules make one name of several keys; `text` says all of it.
    pub(crate) fn renames(text: impl Into<String>) -> Self {
        Self {
            at: At::default(),
            kind: Kind::Renames(text.into()),
        }
    }

    /// The checkpoint does not fit, and arguments that would mend it are written so.
    pub(crate) fn mismatch(mismatch: Mismatch, syntax: Syntax) -> Self {
        Self {
            at: At::default(),
            kind: Kind::Mismatch(mismatch, syntax),
        }
    }

    /// Where it lies.
    pub fn at(&self) -> &At {
        &self.at
    }

    /// The operator, when the error says that it has no lowering.
    pub fn unsupported_op(&self) -> Option<&str> {
        match &self.kind {
            Kind::Unsupported(op) => Some(op),
            _ => None,
        }
    }
}

/// Errors, in the order in which they were found. Displayed, it is what all front ends show.
///
/// ```
/// use pycandle_build::{Config, generate};
/// let config = Config::new("mlp_manifest.json").root("../tests/models");
/// let report = generate(&config.weights("cnn.safetensors")).unwrap_err();
/// assert!(!report.is_empty() && report.errors().len() == 1);
/// assert!(report.is_about_weights() && !report.is_about_renames());
/// let mismatch = report.mismatch().expect("it is the checkpoint of another model");
/// println!("{report}\n{}", mismatch.findings().len());
/// assert!(report.warnings().is_empty() && report.unsupported_ops().is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "a report holds errors that somebody has to see"]
pub struct Report {
    errors: Vec<Error>,
    warnings: Vec<String>,
}

impl Report {
    /// No errors yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an error.
    pub(crate) fn push(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// Adds all errors and warnings of another report.
    pub(crate) fn extend(&mut self, other: Report) {
        self.errors.extend(other.errors);
        self.warnings.extend(other.warnings);
    }

    /// Adds what is probably a mistake too, and is shown below the errors.
    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        self.warnings.extend(warnings);
    }

    /// What is probably a mistake too.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether nothing is wrong; warnings alone are no errors.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The errors.
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// The value if nothing is wrong, otherwise the report.
    pub(crate) fn into_result<T>(self, value: T) -> Result<T, Report> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    /// Whether it is the checkpoint that has to change: the code could be generated without it.
    pub fn is_about_weights(&self) -> bool {
        let about = |error: &Error| {
            let kinds = &error.kind;
            matches!(
                kinds,
                Kind::Weights(_) | Kind::Renames(_) | Kind::Mismatch(..)
            )
        };
        !self.is_empty() && self.errors.iter().all(about)
    }

    /// Whether it is the rename rules that have to change.
    pub fn is_about_renames(&self) -> bool {
        let about = |error: &Error| matches!(error.kind, Kind::Renames(_));
        !self.is_empty() && self.errors.iter().all(about)
    }

    /// In what the checkpoint differs from what the trace needs, when that is what is wrong.
    pub fn mismatch(&self) -> Option<&Mismatch> {
        self.errors.iter().find_map(|error| match &error.kind {
            Kind::Mismatch(mismatch, _) => Some(mismatch),
            _ => None,
        })
    }

    /// Operators without a lowering, each once with how often it is called, in order of first use.
    pub fn unsupported_ops(&self) -> Vec<(&str, usize)> {
        self.unsupported()
            .into_iter()
            .map(|(op, times, _)| (op, times))
            .collect()
    }

    /// What of the model has no lowering: operators, and ways in which they are called, each once.
    ///
    /// ```
    /// # let path = "../tests/ui/fixtures/unsupported_manifest.json";
    /// # let manifest = pycandle_build::raw::read(path.as_ref())?;
    /// let report = pycandle_build::unsupported(&manifest);
    /// assert_eq!(report.unlowered(), ["aten.fft_rfft.default"]);
    /// # Ok::<(), pycandle_build::Report>(())
    /// ```
    pub fn unlowered(&self) -> Vec<String> {
        let mut found = indexmap::IndexSet::new();
        for error in &self.errors {
            match &error.kind {
                Kind::Unsupported(op) => found.insert(op.clone()),
                Kind::Lowering { op, message } => found.insert(format!("{op} ({message})")),
                _ => false,
            };
        }
        found.into_iter().collect()
    }

    fn unsupported(&self) -> Vec<(&str, usize, &At)> {
        let mut ops = indexmap::IndexMap::new();
        for error in &self.errors {
            if let Some(op) = error.unsupported_op() {
                ops.entry(op).or_insert((0, &error.at)).0 += 1;
            }
        }
        ops.into_iter()
            .map(|(op, (times, at))| (op, times, at))
            .collect()
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        Self {
            errors: vec![error],
            warnings: Vec::new(),
        }
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blocks = Vec::new();
        for error in &self.errors {
            match &error.kind {
                Kind::Whole(message) => blocks.push(whole(&error.at, message)),
                Kind::Weights(text) | Kind::Renames(text) => blocks.push(text.clone()),
                Kind::Mismatch(mismatch, syntax) => {
                    blocks.push(mismatch.written(|renames| syntax.renames(renames)));
                }
                _ => {}
            }
        }
        blocks.extend(self.manifest_block());
        blocks.extend(self.unsupported_block());
        blocks.extend(self.lowering_block());
        blocks.extend(self.warnings.iter().map(|text| format!("warning: {text}")));
        f.write_str(&blocks.join("\n\n"))
    }
}

impl Report {
    fn manifest_block(&self) -> Option<String> {
        let found = self.errors.iter().filter_map(|error| match &error.kind {
            Kind::Manifest(message) => Some((&error.at, message)),
            _ => None,
        });
        let lines: Vec<_> = found
            .clone()
            .map(|(at, message)| {
                let place = [at.location().map(|l| format!("--> {l}")), at.field.clone()];
                let place: Vec<_> = place.into_iter().flatten().collect();
                format!("{}: {message}", place.join(": "))
            })
            .collect();
        let file = found
            .clone()
            .next()?
            .0
            .file
            .as_deref()
            .unwrap_or("the manifest");
        Some(block(
            &format!("`{file}` is not a manifest that can be used"),
            lines,
            None,
        ))
    }

    fn unsupported_block(&self) -> Option<String> {
        let ops = self.unsupported();
        let (.., at) = *ops.first()?;
        let file = at.file.as_deref().unwrap_or("the manifest");
        let head = match ops.len() {
            1 => format!("1 op of `{file}` has no Candle lowering"),
            n => format!("{n} ops of `{file}` have no Candle lowering"),
        };
        let width = ops.iter().map(|(op, ..)| op.len()).max().unwrap_or(0);
        let lines = ops.iter().map(|(op, times, at)| {
            let times = match times {
                1 => "1 time,  in".to_owned(),
                n => format!("{n} times, first in"),
            };
            let place = at.in_module();
            let place = place.strip_prefix("in ").unwrap_or(&place);
            format!("{op:width$}   {times} {place}")
        });
        let hint = way_out(ops.iter().map(|(op, ..)| *op));
        Some(block(&head, lines.collect(), Some(hint)))
    }

    fn lowering_block(&self) -> Option<String> {
        let found: Vec<_> = self
            .errors
            .iter()
            .filter_map(|error| match &error.kind {
                Kind::Lowering { op, message } => Some((&error.at, op, message)),
                _ => None,
            })
            .collect();
        let file = found.first()?.0.file.as_deref().unwrap_or("the manifest");
        let head = match found.len() {
            1 => format!("1 op of `{file}` is called in a way that has no lowering"),
            n => format!("{n} ops of `{file}` are called in a way that has no lowering"),
        };
        let lines = found
            .iter()
            .map(|(at, op, message)| format!("{op}: {message}, {}", at.in_module()))
            .collect();
        Some(block(&head, lines, None))
    }
}

/// What to do about operators without a row.
fn way_out<'a>(ops: impl Iterator<Item = &'a str>) -> String {
    let (names, whole) = decomposition(ops);
    let none = names.is_empty();
    let names = written(names.into_iter());
    let row =
        "write it with other operators in the model, or add a row: CONTRIBUTING.md, \"Add an op\"";
    match (none, whole) {
        (true, 1) => format!("`decompose=[…]` is not known to help with it: {row}"),
        (true, _) => format!("`decompose=[…]` is not known to help with them: {row}"),
        (false, 0) => format!("record with `decompose=[{names}]`"),
        (false, 1) => format!("record with `decompose=[{names}]`, which leaves 1 op: {row}"),
        (false, n) => format!("record with `decompose=[{names}]`, which leaves {n} ops: {row}"),
    }
}

fn whole(at: &At, message: &str) -> String {
    match at.location() {
        Some(location) => format!("{message}\n--> {location}"),
        None => message.to_owned(),
    }
}

fn block(head: &str, lines: Vec<String>, hint: Option<String>) -> String {
    let mut text = head.to_owned();
    let rest = lines.len().saturating_sub(SHOWN);
    let more = (rest > 0).then(|| format!("and {rest} more"));
    for line in lines.into_iter().take(SHOWN).chain(more).chain(hint) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}
