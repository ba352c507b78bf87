//! What does not fit, as a report for a person and as classes for a program.

use std::fmt;
use std::path::Path;

use super::{Expected, groups};
use crate::open::Checkpoint;
use crate::text::{escaped, is_hidden};

/// Lines of one kind that are spelled out.
const SHOWN: usize = 12;

/// What kind of difference a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// A setting of the model's `config.json` is another than in the trace.
    Config,
    /// The weights are of another commit than the trace.
    Revision,
    /// Something about where the two come from that need not matter; no mistake.
    Origin,
    /// A `config.json` is there and could not be read, so nothing was compared with it; no mistake of
    /// the weights, but perhaps one.
    Unread,
    /// Tensors that the checkpoint does not have.
    Missing,
    /// Keys that would fit under another prefix.
    Prefix,
    /// Keys whose names are near those of missing tensors.
    Renamed,
    /// Tensors that are absent, but tied to one that is there; no mistake.
    Tied,
    /// Values that a converter changed in a way that loading does not undo.
    Converted,
    /// Weights in a form that loading cannot multiply by.
    Quantized,
    /// Another shape.
    Shape,
    /// The transposed shape.
    Transposed,
    /// A dtype that loading does not convert to that of the trace, or several of what is one tensor.
    Dtype,
    /// Several tensors of the model that would be read from one.
    Twice,
    /// Keys that nothing needs.
    Unexpected,
    /// Weights beside those that are needed, which nothing needs; no mistake, but perhaps one.
    Unused,
}

impl Class {
    /// Its name in reports, as `missing`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Revision => "revision",
            Self::Origin => "origin",
            Self::Unread => "unread",
            Self::Missing => "missing",
            Self::Renamed => "renamed",
            Self::Tied => "tied",
            Self::Converted => "converted",
            Self::Quantized => "quantized",
            Self::Shape => "shape",
            Self::Transposed => "transposed",
            Self::Dtype => "dtype",
            Self::Twice => "twice",
            Self::Prefix => "prefix",
            Self::Unexpected => "unexpected",
            Self::Unused => "unused",
        }
    }
}

/// A rename that would mend something: every match of the regular expression `pattern` in a key is
/// replaced. Displayed, it is a rule of the attribute: `("^model\\\\.", "")`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rename {
    /// A regular expression, of the crate `regex`.
    pub pattern: String,
    /// What stands for its matches; `${1}` is a group, `$$` a dollar sign.
    pub replacement: String,
}

impl Rename {
    /// `None` where a terminal would obey the rule or not show all of it.
    pub(super) fn new(pattern: String, replacement: String) -> Option<Self> {
        (!pattern.contains(is_hidden) && !replacement.contains(is_hidden)).then_some(Self {
            pattern,
            replacement,
        })
    }
}

impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:?}, {:?})", self.pattern, self.replacement)
    }
}

/// One line of a finding. Displayed, renames are as the attribute takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// What it says; where there are renames, it ends where they are to stand.
    pub text: String,
    /// The renames that would mend it, in order.
    pub renames: Vec<Rename>,
}

impl Line {
    /// The line, with its renames as `write` has them.
    pub fn written(&self, write: impl Fn(&[Rename]) -> String) -> String {
        match &self.renames[..] {
            [] => self.text.clone(),
            renames => format!("{} {}", self.text, write(renames)),
        }
    }
}

impl From<String> for Line {
    /// A line of this text, in which names of a file are shown as [`escaped`] says.
    fn from(text: String) -> Self {
        Self {
            text: escaped(&text).into_owned(),
            renames: Vec::new(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(attribute))
    }
}

/// Renames as an argument of the attribute.
fn attribute(renames: &[Rename]) -> String {
    let rules: Vec<_> = renames.iter().map(ToString::to_string).collect();
    format!("rename = [{}]", rules.join(", "))
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
    pub lines: Vec<Line>,
}

impl Finding {
    /// A finding with lines of its own, of which the first few are kept.
    pub(super) fn new<L: Into<Line>>(
        class: Class,
        count: usize,
        lines: impl IntoIterator<Item = L>,
    ) -> Self {
        let lines = cut(lines.into_iter().map(Into::into));
        Self {
            class,
            count,
            lines,
        }
    }

    /// Puts a line above the others.
    pub(super) fn under(mut self, head: String) -> Self {
        self.lines.insert(0, head.into());
        self
    }

    /// Adds what is to be done about it.
    pub(super) fn with(mut self, advice: &str) -> Self {
        if !advice.is_empty() {
            self.lines.push(format!("  {advice}").into());
        }
        self
    }

    /// Names as few lines: on one with the class, or below a line that counts them.
    pub(super) fn listed<'a>(
        class: Class,
        name: impl Fn(u32) -> &'a str,
        is_listed: &[bool],
    ) -> Self {
        let (lines, more) = groups::summary(name, is_listed, SHOWN);
        let count = is_listed.iter().filter(|is_listed| **is_listed).count();
        let name = class.name();
        let lines = match (&*lines, count) {
            ([only], 1) => vec![format!("{name}: {only}")],
            ([only], n) if more == 0 => vec![format!("{name} ({n}): {only}")],
            (_, n) => {
                let head = format!("{name} ({n}):");
                let lines = lines.into_iter().map(|line| format!("  {line}"));
                let more = (more > 0).then(|| self::more(more));
                std::iter::once(head).chain(lines).chain(more).collect()
            }
        };
        Self {
            class,
            count,
            lines: lines.into_iter().map(Line::from).collect(),
        }
    }

    /// Whether it is no mistake.
    pub fn is_note(&self) -> bool {
        matches!(self.class, Class::Tied | Class::Origin)
    }

    /// Whether it may be a mistake, and everything fits all the same.
    pub fn is_warning(&self) -> bool {
        matches!(self.class, Class::Unread | Class::Unused)
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
    conclusion: Option<String>,
}

impl Mismatch {
    pub(super) fn new(
        expected: &Expected<'_>,
        checkpoint: &Checkpoint,
        mut findings: Vec<Finding>,
        conclusion: Option<String>,
    ) -> Self {
        findings.sort_by_key(|finding| finding.class);
        Self {
            trace: expected.trace.to_owned(),
            place: place(checkpoint),
            findings,
            conclusion: conclusion.map(|text| escaped(&text).into_owned()),
        }
    }

    /// What all of it together looks like, and what to do then; `None` where there is no telling.
    pub fn conclusion(&self) -> Option<&str> {
        self.conclusion.as_deref()
    }

    /// All findings, by class in the order of the report; notes too.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The report, with renames as `write` has them: each front end has a way of its own to say one.
    pub fn written(&self, write: impl Fn(&[Rename]) -> String) -> String {
        let mut text = format!(
            "checkpoint does not match the model traced in `{}`\n--> {}\n",
            self.trace, self.place
        );
        for line in self.findings.iter().flat_map(|finding| &finding.lines) {
            text.push('\n');
            text.push_str(&line.written(&write));
        }
        if let Some(conclusion) = &self.conclusion {
            text.push_str("\n\n");
            text.push_str(conclusion);
        }
        text
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(attribute))
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
    format!("{} ({shards}{tensors})", path(checkpoint.shown()))
}

/// A path in a message, with `/` on every system.
pub(super) fn path(path: &Path) -> String {
    escaped(&path.display().to_string()).replace('\\', "/")
}

/// The first lines, and how many more there are.
fn cut(mut lines: impl Iterator<Item = Line>) -> Vec<Line> {
    let mut shown: Vec<_> = lines.by_ref().take(SHOWN).collect();
    let rest = lines.count();
    if rest > 0 {
        shown.push(more(rest).into());
    }
    shown
}

fn more(count: usize) -> String {
    format!("  and {count} more")
}
