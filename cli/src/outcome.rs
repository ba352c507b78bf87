//! How a command ends, and how it speaks.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

use pycandle_build::{Report, Syntax};
use pycandle_checkpoint::Mismatch;
use serde_json::{Value, json};

/// How a command ended.
pub enum Outcome {
    /// All is well.
    Ok,
    /// A model is not; what is wrong has been printed.
    Failed,
    /// The command could not run, for this reason.
    Broken(String),
}

impl Outcome {
    /// Prints the report; the model it is about has failed.
    pub fn of_report(report: &Report) -> Self {
        print_error(report);
        Self::Failed
    }
}

/// Prints to stderr as rustc does: continued lines stand below the text.
pub fn print_error(message: impl Display) {
    let text = message.to_string().replace('\n', "\n       ");
    for (i, line) in text.lines().enumerate() {
        eprintln!("{}{}", if i == 0 { "error: " } else { "" }, line.trim_end());
    }
}

/// Prints to stderr what may be a mistake.
pub fn print_warning(message: impl Display) {
    eprintln!("warning: {message}");
}

/// In what a checkpoint does not fit, for a program; empty when something else is wrong.
pub fn findings(report: &Report) -> Vec<Value> {
    report.mismatch().map_or_else(Vec::new, mismatch)
}

/// A report that ended a command, for a program.
pub fn failure(report: &Report) -> Value {
    json!({ "error": report.to_string(), "findings": findings(report) })
}

/// The report of a mismatch, with the options that would mend it.
pub fn report(mismatch: &Mismatch) -> String {
    mismatch.written(|renames| Syntax::Options.renames(renames))
}

/// The findings of a mismatch, for a program.
pub fn mismatch(mismatch: &Mismatch) -> Vec<Value> {
    let findings = mismatch.findings().iter().map(|finding| {
        let lines = finding.lines.iter();
        let renames = lines.clone().flat_map(|line| &line.renames);
        json!({
            "class": finding.class.name(),
            "count": finding.count,
            "lines": lines.map(|line| line.written(|rules| Syntax::Options.renames(rules))).collect::<Vec<_>>(),
            "renames": renames.map(|rule| [&rule.pattern, &rule.replacement]).collect::<Vec<_>>(),
        })
    });
    findings.collect()
}

/// Prints a result to stdout. A reader that has gone away is not an error; where the result is lost
/// for another reason, such as a full disk, the program ends.
pub fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Err(error) = printed
        && error.kind() != ErrorKind::BrokenPipe
    {
        print_error(format_args!("cannot write to stdout: {error}"));
        std::process::exit(2);
    }
}

/// Says on stderr what is going on, if somebody watches.
pub fn progress(message: impl Display) {
    if std::io::stderr().is_terminal() {
        eprintln!("{message}");
    }
}
