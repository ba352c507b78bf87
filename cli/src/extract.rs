//! `cargo pycandle extract`: what a model needs of a checkpoint, as a safetensors file of its own.

mod size;
mod torch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use pycandle_build::{checkpoint, raw};
use pycandle_checkpoint::extract::{Options, Plan, Written};
use pycandle_checkpoint::{Checkpoint, Dtype, Error, Expected, Mismatch, validate};
use serde_json::json;

use crate::outcome::{self, Outcome, print};

/// Write what a model needs of a checkpoint to a file of its own: aligned, under the trace's names.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest that was recorded
    #[arg(long)]
    manifest: PathBuf,
    /// The checkpoint: a safetensors or GGUF file, an index or a folder; it is never written to
    #[arg(long)]
    weights: PathBuf,
    /// File to write, as `model.safetensors`; shards and their index are named after it
    #[arg(long)]
    out: PathBuf,
    /// What floating-point tensors become; other tensors stay as they are
    #[arg(long, value_enum, default_value_t = Target::Keep)]
    dtype: Target,
    /// Bytes of tensors that a file holds at most, as `5GB` or `512MiB` [default: one file]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    shard_size: Option<u64>,
    /// Do not align tensors that only an entry of zeros before them would align
    #[arg(long)]
    no_padding: bool,
    /// Replace an earlier output
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// The checkpoint's own
    Keep,
    Bf16,
    F16,
    F32,
}

/// What ended the command early.
enum Stop {
    /// The manifest or the checkpoint is wrong.
    Failed(String),
    /// The checkpoint does not fit the manifest.
    Mismatch(Mismatch),
    /// The command could not run.
    Broken(String),
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let started = Instant::now();
    let stop = match extract(args) {
        Ok((written, notes)) => {
            let seconds = started.elapsed().as_secs_f64();
            match args.json {
                true => print(summary(&written, &notes, seconds)),
                false => print(sentences(&written, &notes, seconds)),
            }
            return Outcome::Ok;
        }
        Err(stop) => stop,
    };
    if args.json {
        print(stop.json());
    }
    match stop {
        Stop::Broken(text) => Outcome::Broken(text),
        Stop::Failed(text) => {
            outcome::print_error(text);
            Outcome::Failed
        }
        Stop::Mismatch(mismatch) => {
            outcome::print_error(mismatch);
            Outcome::Failed
        }
    }
}

fn extract(args: &Args) -> Result<(Written, Vec<String>), Stop> {
    let manifest = raw::read(&args.manifest).map_err(|report| Stop::Failed(report.to_string()))?;
    if let Some(text) = torch::needs_python(&args.weights, &args.out) {
        return Err(Stop::Failed(text));
    }
    let failed = |error: Error| Stop::Failed(error.to_string());
    let source = Checkpoint::open(&args.weights).map_err(failed)?;
    let config = manifest.config.as_ref().map(ToString::to_string);
    let needs = checkpoint::needs(&manifest);
    let expected = Expected {
        trace: &manifest.file,
        needs: &needs,
        config: config.as_deref(),
        ..Expected::DEFAULT
    };
    let found = validate(&expected, &source).map_err(Stop::Mismatch)?;
    let options = Options {
        dtype: args.dtype.dtype(),
        shard_size: args.shard_size,
        padding: !args.no_padding,
        force: args.force,
    };
    let broken = |error: Error| match error.files().any(|(path, _)| path != args.weights) {
        true => Stop::Broken(error.to_string()),
        false => Stop::Failed(error.to_string()),
    };
    let plan = Plan::new(&expected, &source, &found, &args.out, &options).map_err(broken)?;
    let cancelled = watch_signals().map_err(Stop::Broken)?;
    let bar = bar(plan.bytes());
    let written = plan.write(&|bytes| {
        bar.inc(bytes);
        !cancelled.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let written = written.map_err(broken)?;
    let nothing = || Stop::Broken("cancelled: nothing was written".to_owned());
    Ok((written.ok_or_else(nothing)?, found.notes))
}

/// A flag that is set when the user or the system asks the program to end.
fn watch_signals() -> Result<Arc<AtomicBool>, String> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| format!("cannot watch for signals: {error}"))?;
    Ok(cancelled)
}

/// A bar on stderr; it shows nothing when that is no terminal.
fn bar(bytes: u64) -> ProgressBar {
    let template = "{bar:40} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, \
                    {eta} left";
    let bar = ProgressBar::new(bytes);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Target {
    fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Keep => None,
            Self::Bf16 => Some(Dtype::BF16),
            Self::F16 => Some(Dtype::F16),
            Self::F32 => Some(Dtype::F32),
        }
    }
}

impl Stop {
    fn json(&self) -> serde_json::Value {
        match self {
            Self::Failed(text) | Self::Broken(text) => json!({ "error": text }),
            Self::Mismatch(mismatch) => {
                let findings = mismatch.findings().iter().map(|finding| {
                    json!({
                        "class": finding.class.name(),
                        "count": finding.count,
                        "lines": finding.lines,
                    })
                });
                json!({ "error": mismatch.to_string(), "findings": findings.collect::<Vec<_>>() })
            }
        }
    }
}

fn summary(written: &Written, notes: &[String], seconds: f64) -> serde_json::Value {
    let files = written.files.iter().map(|file| file.display().to_string());
    json!({
        "files": files.collect::<Vec<_>>(),
        "tensors": written.tensors,
        "paddings": written.paddings,
        "bytes_in": written.bytes_in,
        "bytes_out": written.bytes_out,
        "seconds": seconds,
        "notes": notes,
    })
}

fn sentences(written: &Written, notes: &[String], seconds: f64) -> String {
    let mut lines: Vec<_> = notes.to_vec();
    for file in &written.files {
        lines.push(file.display().to_string());
    }
    let paddings = match written.paddings {
        0 => String::new(),
        1 => ", 1 entry of padding".to_owned(),
        n => format!(", {n} entries of padding"),
    };
    lines.push(format!(
        "{} tensors{paddings}, {} from {}, in {seconds:.1} s",
        written.tensors,
        size::show(written.bytes_out),
        size::show(written.bytes_in),
    ));
    lines.join("\n")
}
