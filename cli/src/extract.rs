//! `cargo pycandle extract`: what a model needs of a checkpoint, as a safetensors file of its own.

mod size;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use pycandle_build::checkpoint::Trace;
use pycandle_build::{Config, RenameRule, Report, Syntax, checkpoint, raw};
use pycandle_checkpoint::extract::{Options, Plan, Written};
use pycandle_checkpoint::{Dtype, Error, Expected};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::codegen::rule;
use crate::outcome::{self, Outcome, print, print_warning, progress};

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
    /// Rename keys of the checkpoint, as in `codegen`; may be given several times
    #[arg(long, value_name = "PATTERN=REPLACEMENT", value_parser = rule)]
    rename: Vec<RenameRule>,
    /// What floating-point tensors become; other tensors stay as they are
    #[arg(long, value_enum, default_value_t = Target::Keep)]
    dtype: Target,
    /// Bytes of tensors that a file holds at most, as `5GB` or `512MiB` [default: one file]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    shard_size: Option<u64>,
    /// Write no entries but the model's tensors. Safetensors has no gaps: where no order aligns two
    /// tensors (their sizes are no multiples of 64 bytes, as those of counters), an entry
    /// `__padding__.N` of zeros lies between them. Without, such tensors are not aligned
    #[arg(long)]
    no_padding: bool,
    /// Write finite values as infinite where the dtype has no room for them, as loading in it would
    #[arg(long)]
    allow_overflow: bool,
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
    /// The manifest is wrong, or the checkpoint, or they do not fit.
    Report(Report),
    /// The checkpoint is not what its headers say, or no file that is read here.
    Failed(String),
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
                false => {
                    notes.iter().for_each(progress);
                    print(sentences(&written, seconds));
                }
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
        Stop::Report(report) => Outcome::of_report(&report),
    }
}

fn extract(args: &Args) -> Result<(Written, Vec<String>), Stop> {
    let mut config = Config::new(&args.manifest)
        .weights(&args.weights)
        .syntax(Syntax::Options);
    for rule in &args.rename {
        config = config.rename(rule.clone());
    }
    let opened = checkpoint::files(&config).map_err(|report| {
        // A manifest that is wrong or absent comes first.
        Stop::Report(raw::read(&args.manifest).err().unwrap_or(report))
    })?;
    let Some(opened) = opened else {
        return Err(Stop::Broken("name a checkpoint with --weights".to_owned()));
    };
    let weights = &opened.checkpoint;
    let trace = Trace::read(&args.manifest, weights).map_err(Stop::Report)?;
    let (validated, checked) = checkpoint::fit(&trace, &opened, &config).map_err(Stop::Report)?;
    checked.warnings.iter().for_each(print_warning);
    let expected = Expected {
        trace: &trace.file,
        needs: &*trace.needs,
        ..Expected::DEFAULT
    };
    let options = Options {
        dtype: args.dtype.dtype(),
        shard_size: args.shard_size,
        padding: !args.no_padding,
        overflow: args.allow_overflow,
        force: args.force,
    };
    let of_source = |path: &Path| {
        let mut shards = weights.shards().iter();
        path != args.out && (path == weights.shown() || shards.any(|s| path == s.shown()))
    };
    let stop = |error: Error| match error.files().all(|(path, _)| of_source(path)) {
        true => Stop::Failed(error.to_string()),
        false => Stop::Broken(error.to_string()),
    };
    let plan = Plan::new(&expected, weights, &validated, &args.out, &options);
    let plan = plan.map_err(stop)?;
    let cancelled = watch_signals().map_err(Stop::Broken)?;
    let bar = bar(plan.bytes());
    let written = plan.write(&|bytes| {
        bar.inc(bytes);
        !cancelled.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let written = written.map_err(stop)?;
    let nothing = || Stop::Broken("cancelled: nothing was written".to_owned());
    Ok((written.ok_or_else(nothing)?, checked.notes))
}

/// A flag that is set when the user or the system asks the program to end. A terminal that is closed
/// asks for it where that is not to be ignored, as with `nohup`.
fn watch_signals() -> Result<Arc<AtomicBool>, String> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let hangup = hangup_ends().then_some(HANGUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        signal_hook::flag::register(signal, Arc::clone(&cancelled))
            .map_err(|error| format!("cannot watch for signals: {error}"))?;
    }
    Ok(cancelled)
}

/// The number of SIGHUP where [`hangup_ends`] can tell.
const HANGUP: i32 = 1;

/// Whether a hangup ends the program, as Linux says it; elsewhere the system is left to decide.
fn hangup_ends() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (HANGUP - 1) == 0)
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
            Self::Report(report) => outcome::failure(report),
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

fn sentences(written: &Written, seconds: f64) -> String {
    let files = written.files.iter().map(|file| file.display().to_string());
    let mut lines: Vec<_> = files.collect();
    let paddings = match written.paddings {
        0 => String::new(),
        1 => ", 1 entry of padding".to_owned(),
        n => format!(", {n} entries of padding"),
    };
    let speed = written.bytes_out as f64 / seconds.max(1e-3);
    lines.push(format!(
        "{} tensors{paddings}, {} from {}, in {seconds:.1} s, {}/s",
        written.tensors,
        size::show(written.bytes_out),
        size::show(written.bytes_in),
        size::show(speed as u64),
    ));
    lines.join("\n")
}
