//! `cargo pycandle check`: manifests, checkpoints and locks held against each other.

mod find;
mod tokens;

use std::path::{Path, PathBuf};

use pycandle_build::{Config, RenameRule, Report, Syntax, lock};
use serde_json::{Value, json};

use crate::codegen::rule;
use crate::outcome::{self, Outcome, print};
use find::{Found, Subject};

/// Hold manifests, checkpoints and their locks against each other, as builds do.
///
/// Without arguments it checks everything in the current folder and below it that a package names:
/// the arguments of each `#[pycandle_model(…)]`, the literals in each `Builder::new()….compile(…)` of
/// a build script, and every `*.lock.json`. Weights that are absent are checked by their lock. Hidden
/// folders, `target` and `node_modules` are left out.
///
/// The exit code is 0 when all is well, 1 when something does not fit or a model is named in a way
/// that cannot be read from source, and 2 when there is nothing to check.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest that was recorded
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// The checkpoint: a safetensors or GGUF file, an index or a folder
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Rename keys of the checkpoint, as in `codegen`; may be given several times
    #[arg(long, value_name = "PATTERN=REPLACEMENT", value_parser = rule,
          requires_all = ["manifest", "weights"])]
    rename: Vec<RenameRule>,
    /// Make keys of the checkpoint that the model does not need an error
    #[arg(long, requires_all = ["manifest", "weights"])]
    strict: bool,
    /// Do not fail for models that cannot be read from source; they are listed all the same
    #[arg(long, conflicts_with_all = ["manifest", "weights"])]
    allow_skipped: bool,
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
    notes: Vec<String>,
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
    let is_clear = args.allow_skipped || found.skipped.is_empty();
    if found.subjects.is_empty() && is_clear {
        let skipped = found.skipped.join("\n");
        let text = "nothing to check: no `#[pycandle_model(…)]`, no `Builder` in a `build.rs` and no \
                    `*.lock.json` in this folder or below; name a manifest or a checkpoint with \
                    --manifest and --weights";
        return Outcome::Broken([&skipped, text].join("\n").trim_start().to_owned());
    }
    let verdicts: Vec<_> = found.subjects.iter().map(check).collect();
    let ok = is_clear && verdicts.iter().all(|verdict| verdict.result.is_ok());
    match args.json {
        true => print(summary(&verdicts, &found.skipped, ok)),
        false => show(&verdicts, &found.skipped, is_clear),
    }
    match ok {
        true => Outcome::Ok,
        false => Outcome::Failed,
    }
}

fn subject(args: &Args) -> Subject {
    let Some(manifest) = &args.manifest else {
        return Subject::weights(args.weights.clone().unwrap_or_default());
    };
    let config = Config::new(manifest).strict(args.strict);
    let config = config.syntax(Syntax::Options);
    let config = args.rename.iter().cloned().fold(config, Config::rename);
    Subject::model(None, config, args.weights.clone())
}

/// Does what a build does.
fn check(subject: &Subject) -> Verdict {
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    let result = match &subject.config {
        None => Ok(None),
        Some(config) => pycandle_build::check(config).map(|checked| {
            (warnings, notes) = (checked.warnings, checked.notes);
            Some("manifest")
        }),
    };
    let result = match (result, subject.place()) {
        (Ok(manifest), Some(weights)) => {
            let opened = lock::open(weights, weights);
            opened.and_then(|opened| {
                lock::check_headers(&opened)?;
                Ok(agreement(manifest, &opened))
            })
        }
        (Ok(_), None) => Ok("the manifest is sound".to_owned()),
        (Err(report), _) => Err(report),
    };
    if let Err(report) = &result {
        warnings = report.warnings().to_vec();
    }
    Verdict {
        name: subject.name(),
        result,
        warnings,
        notes,
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
        [all @ .., last] => format!("{} and {last} agree", all.join(", ")),
        [] => "nothing is there".to_owned(),
    };
    let absent = match (files, opened.lock.is_some()) {
        (false, _) => ", the weights are absent",
        (true, false) => ", there is no lock",
        (true, true) => "",
    };
    format!("{agree} ({tensors}){absent}")
}

/// Prints every verdict as the result that it is, and what is below it indented.
fn show(verdicts: &[Verdict], skipped: &[String], is_clear: bool) {
    let below = |text: &str| {
        for line in text.lines() {
            print(format!("        {line}").trim_end());
        }
    };
    for verdict in verdicts {
        match &verdict.result {
            Ok(text) => {
                print(format!("ok      {}: {text}", verdict.name));
                let warnings = verdict.warnings.iter();
                warnings.for_each(|text| below(&format!("warning: {text}")));
                verdict.notes.iter().for_each(|text| below(text));
            }
            Err(report) => {
                print(format!("FAILED  {}", verdict.name));
                below(&report.to_string());
            }
        }
    }
    for text in skipped {
        print(format!("SKIPPED {text}"));
    }
    if !is_clear {
        let mend = "a model that is skipped is not checked: check it by name, and allow it here with \
                    --allow-skipped";
        outcome::print_error(mend);
    }
}

fn summary(verdicts: &[Verdict], skipped: &[String], ok: bool) -> Value {
    let checks = verdicts.iter().map(|verdict| {
        let error = verdict.result.as_ref().err();
        json!({
            "name": verdict.name,
            "ok": error.is_none(),
            "agreement": verdict.result.as_ref().ok(),
            "error": error.map(ToString::to_string),
            "findings": error.map_or_else(Vec::new, outcome::findings),
            "warnings": verdict.warnings,
            "notes": verdict.notes,
        })
    });
    let checks: Vec<_> = checks.collect();
    json!({
        "ok": ok,
        "checks": checks,
        "skipped": skipped,
    })
}
