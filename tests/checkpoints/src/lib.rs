//! Checkpoints that do not fit a trace, and what is said of them.
//!
//! One table, [`cases`], for the attribute, the builder of build scripts and the command line: they
//! have to say the same. Files are made when a test runs, none is committed.

mod cases;
mod files;
mod opening;

use std::io;
use std::path::Path;

pub use files::{Value, gguf, safetensors};

/// All cases: every class of what can be wrong, and what is right though it looks wrong.
pub fn cases() -> Vec<Case> {
    let mut cases = cases::cases();
    let fits = cases.iter().find(|case| case.name == "fits").cloned();
    cases.extend(fits.iter().flat_map(opening::cases));
    cases
}

/// Who says it: each writes rename rules in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontEnd {
    /// The attribute, by way of the compiler.
    Attribute,
    /// `Builder`, by way of Cargo.
    Builder,
    /// `cargo pycandle`.
    Command,
}

/// A trace, a checkpoint, and what is said of the two.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, by the class of what is wrong.
    pub name: &'static str,
    /// The weights, of [`Case::files`]: a file, or `.` for the folder.
    pub weights: &'static str,
    /// Rename rules.
    pub rename: Vec<(&'static str, &'static str)>,
    /// Whether keys that nothing needs are an error.
    pub strict: bool,
    /// All files by name; the manifest is `llama_manifest.json`.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Every line of the report that says something, without what the front end puts before it, and
    /// with `CASE` for the folder and `RULE` for a rename rule; none when the checkpoint fits.
    pub report: Vec<&'static str>,
    /// The rename rule in the report, as each of [`FrontEnd`] writes it.
    pub rule: [&'static str; 3],
}

impl Case {
    /// Writes the files into a folder, which is made.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for (name, bytes) in &self.files {
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(())
    }

    /// Whether a text says the report as this front end does, and nothing between its lines, where
    /// the case lies in `folder`.
    pub fn is_said_in(&self, text: &str, folder: &str, by: FrontEnd) -> bool {
        let (before, rule) = match by {
            FrontEnd::Attribute => ("error: ", self.rule[0]),
            FrontEnd::Builder => ("cargo::error=", self.rule[1]),
            FrontEnd::Command => ("error: ", self.rule[2]),
        };
        let lines = text
            .lines()
            .map(|line| line.strip_prefix(before).unwrap_or(line).trim());
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let report = self
            .report
            .iter()
            .map(|line| line.trim().replace("CASE", folder).replace("RULE", rule));
        let report: Vec<_> = report.collect();
        lines
            .windows(report.len().max(1))
            .any(|window| window == report)
    }
}
