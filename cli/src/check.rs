//! `cargo pycandle check`: manifests, checkpoints and locks held against each other.

mod find;
mod tokens;

use std::path::{Path, PathBuf};

use pycandle_build::{Config, RenameRule, Report, lock};
use serde_json::{Value, json};

use crate::codegen::rule;
use crate::outcome::{self, Outcome, print, print_warning};
use find::{Found, Subject};

/// Hold manifests, checkpoints and their locks against each other, as builds do.
///
/// Without arguments it checks everything in the current folder and below it that a package names:
/// the arguments of each `#[pycandle_model(…)]`, what each `build.rs` gives to `Builder`, and every
/// `*.lock.json`. Weights that are absent are checked by their lock.
///
/// The exit code is 0 when all is well, 1 when something does not fit, and 2 when there is nothing
/// to check.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest that was recorded
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// The checkpoint: a safetensors or GGUF file, an index or a folder
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Rename keys of the checkpoint, as in `codegen`; may be given several times
    #[arg(long, value_name = "PATTERN=REPLACEMENT", value_parser = rule, requires = "manifest")]
    rename: Vec<RenameRule>,
    /// Make keys of the checkpoint that the model does not need an error
    #[arg(long, requires = "manifest")]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of one subject.
struct Verdict {
    /// Where it is named, and what it consists of.
    name: String,
    /// What agrees, in a sentence, or everything that does not.
    result: Result<String, Report>,
    warnings: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let found = match args.manifest.is_some() || args.weights.is_some() {
        true => Found::one(subject(args)),
        false => match find::below(Path::new("")) {
            Ok(found) => found,
            Err(message) => return Outcome::Broken(message),
        },
    };
    if found.subjects.is_empty() {
        let skipped = found.skipped.join("\n");
        let text = "nothing to check: no `#[pycandle_model(…)]`, no `Builder` in a `build.rs` and no \
                    `*.lock.json` in this folder or below; name a manifest or a checkpoint with \
                    --manifest and --weights";
        return Outcome::Broken([&skipped, text].join("\n").trim_start().to_owned());
    }
    let verdicts: Vec<_> = found.subjects.iter().map(check).collect();
    match args.json {
        true => print(summary(&verdicts, &found.skipped)),
        false => show(&verdicts, &found.skipped),
    }
    match verdicts.iter().all(|verdict| verdict.result.is_ok()) {
        true => Outcome::Ok,
        false => Outcome::Failed,
    }
}

fn subject(args: &Args) -> Subject {
    let Some(manifest) = &args.manifest else {
        return Subject::weights(args.weights.clone().unwrap_or_default());
    };
    let config = Config::new(manifest).strict(args.strict);
    let config = args.rename.iter().cloned().fold(config, Config::rename);
    Subject::model(None, config, args.weights.clone())
}

/// Does what a build does.
fn check(subject: &Subject) -> Verdict {
    let mut warnings = Vec::new();
    let result = match &subject.config {
        None => Ok(None),
        Some(config) => pycandle_build::check(config).map(|checked| {
            warnings = checked.warnings;
            Some("manifest")
        }),
    };
    let result = match (result, subject.place()) {
        (Ok(manifest), Some(weights)) => {
            let opened = lock::open(weights, weights);
            opened.map(|opened| agreement(manifest, &opened))
        }
        (Ok(_), None) => Ok("the manifest is sound".to_owned()),
        (Err(report), _) => Err(report),
    };
    Verdict {
        name: subject.name(),
        result,
        warnings,
    }
}

/// What of manifest, lock and weights is there, and agrees.
fn agreement(manifest: Option<&str>, opened: &lock::Opened) -> String {
    let tensors = match opened.checkpoint.len() {
        1 => "1 tensor".to_owned(),
        n => format!("{n} tensors"),
    };
    let files = !opened.checkpoint.is_snapshot();
    let lock = opened.lock.as_ref().map(|_| "lock");
    let parts = [manifest, lock, files.then_some("weights")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let agree = match &parts[..] {
        [only] => format!("the {only} can be read"),
        [a, b] => format!("{a} and {b} agree"),
        all => format!("{} agree", all.join(", ")),
    };
    let absent = match (files, opened.lock.is_some()) {
        (false, _) => ", the weights are absent",
        (true, false) => ", there is no lock",
        (true, true) => "",
    };
    format!("{agree} ({tensors}){absent}")
}

fn show(verdicts: &[Verdict], skipped: &[String]) {
    for verdict in verdicts {
        for warning in &verdict.warnings {
            print_warning(format!("{}: {warning}", verdict.name));
        }
        match &verdict.result {
            Ok(text) => print(format!("ok      {}: {text}", verdict.name)),
            Err(report) => {
                print(format!("FAILED  {}", verdict.name));
                outcome::print_error(format!("{}\n{report}", verdict.name));
            }
        }
    }
    skipped.iter().for_each(print_warning);
}

fn summary(verdicts: &[Verdict], skipped: &[String]) -> Value {
    let checks = verdicts.iter().map(|verdict| {
        let error = verdict.result.as_ref().err();
        json!({
            "name": verdict.name,
            "ok": error.is_none(),
            "agreement": verdict.result.as_ref().ok(),
            "error": error.map(ToString::to_string),
            "findings": error.map_or_else(Vec::new, outcome::findings),
            "warnings": verdict.warnings,
        })
    });
    let checks: Vec<_> = checks.collect();
    json!({
        "ok": verdicts.iter().all(|verdict| verdict.result.is_ok()),
        "checks": checks,
        "skipped": skipped,
    })
}
