//! What does not fit, as a report for a person and as classes for a program.

use std::fmt;

use super::Expected;
use crate::open::Checkpoint;

/// Lines of one kind that are spelled out.
const SHOWN: usize = 12;

/// What kind of difference a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Tensors that the checkpoint does not have.
    Missing,
    /// Tensors that are absent, but tied to one that is there; no mistake.
    Tied,
    /// Keys that would fit under another prefix.
    Prefix,
    /// Another shape.
    Shape,
    /// A dtype that loading does not convert to that of the trace.
    Dtype,
}

impl Class {
    /// Its name in reports, as `missing`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Tied => "tied",
            Self::Prefix => "prefix",
            Self::Shape => "shape",
            Self::Dtype => "dtype",
        }
    }
}

/// Differences of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The class.
    pub class: Class,
    /// How many tensors it is about.
    pub count: usize,
    /// What is said of them, grouped and cut.
    pub lines: Vec<String>,
}

impl Finding {
    /// A finding with lines of its own, of which the first few are kept.
    pub(super) fn new(class: Class, count: usize, lines: impl IntoIterator<Item = String>) -> Self {
        let lines = cut(lines.into_iter());
        Self {
            class,
            count,
            lines,
        }
    }

    /// Whether it is no mistake.
    pub fn is_note(&self) -> bool {
        self.class == Class::Tied
    }
}

/// Everything in which a checkpoint does not fit what a model expects of it.
///
/// Displayed, it is the whole report, without the word "error" and with the place below the first
/// line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an error that nobody sees"]
pub struct Mismatch {
    trace: String,
    place: String,
    findings: Vec<Finding>,
}

impl Mismatch {
    pub(super) fn new(
        expected: &Expected<'_>,
        checkpoint: &Checkpoint,
        findings: Vec<Finding>,
    ) -> Self {
        Self {
            trace: expected.trace.to_owned(),
            place: place(checkpoint),
            findings,
        }
    }

    /// All findings, by class in the order of the report; notes too.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "checkpoint does not match the model traced in `{}`",
            self.trace
        )?;
        writeln!(f, "--> {}", self.place)?;
        for line in self.findings.iter().flat_map(|finding| &finding.lines) {
            write!(f, "\n{line}")?;
        }
        Ok(())
    }
}

/// `weights/model.safetensors (2 shards, 146 tensors)`.
fn place(checkpoint: &Checkpoint) -> String {
    let shards = match checkpoint.shards().len() {
        1 => String::new(),
        n => format!("{n} shards, "),
    };
    let tensors = match checkpoint.len() {
        1 => "1 tensor".to_owned(),
        n => format!("{n} tensors"),
    };
    // Paths in messages use `/` on every system.
    let shown = checkpoint.shown().display().to_string().replace('\\', "/");
    format!("{shown} ({shards}{tensors})")
}

/// The first lines, and how many more there are.
pub(super) fn cut(mut lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut shown: Vec<_> = lines.by_ref().take(SHOWN).collect();
    let rest = lines.count();
    if rest > 0 {
        shown.push(format!("  and {rest} more"));
    }
    shown
}
