//! `cargo pycandle lock`: what a checkpoint's headers say, for builds that do not have the weights.

use std::path::{Path, PathBuf};

use pycandle_build::{lock, write_if_changed};
use serde_json::json;

use crate::outcome::{self, Outcome, print};

/// Write what a checkpoint's headers say beside it, so that builds validate without the weights.
///
/// Commit the file: where the weights are absent, the attribute, the build script and `codegen` use
/// it in their place.
#[derive(clap::Args)]
pub struct Args {
    /// The checkpoint: a safetensors or GGUF file, an index or a folder
    #[arg(long)]
    weights: PathBuf,
    /// File to write, or `-` for stdout [default: `WEIGHTS.lock.json`, where builds look for it]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let Some(out) = args.out.clone().or_else(|| lock::path_of(&args.weights)) else {
        let weights = args.weights.display();
        let name = std::fs::canonicalize(&args.weights);
        let name = name
            .ok()
            .and_then(|path| Some(path.file_name()?.to_owned()));
        let name = name.map_or("NAME".into(), |name| name.to_string_lossy().into_owned());
        return Outcome::Broken(format!(
            "`{weights}` ends in no name, by which builds would find its lock: name the folder from the \
             one above it, as `--weights {name}` there"
        ));
    };
    let text = match lock::text(&args.weights, &args.weights) {
        Ok(text) => text,
        Err(report) => {
            if args.json {
                print(outcome::failure(&report));
            }
            return Outcome::of_report(&report);
        }
    };
    if out == Path::new("-") {
        print(text.trim_end());
        return Outcome::Ok;
    }
    let shown = out.display();
    // Where builds look for a lock nothing else can be; a lock in the middle of a merge is one still.
    let is_lock = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.trim().is_empty() || text.contains("\"pycandle_lock\"")
    };
    match std::fs::read(&out) {
        Ok(bytes) if args.out.is_some() && !is_lock(&bytes) => {
            return Outcome::Broken(format!(
                "`{shown}` is no lock: choose another file with --out"
            ));
        }
        _ => {}
    }
    match write_if_changed(&out, &text) {
        Err(report) => return Outcome::Broken(report.to_string()),
        Ok(changed) if args.json => {
            print(json!({ "lock": shown.to_string(), "changed": changed }));
        }
        Ok(true) => print(format!("wrote {shown}")),
        Ok(false) => print(format!("{shown} is up to date")),
    }
    Outcome::Ok
}
