//! `cargo pycandle parity`: every model found, held against PyTorch, without code of the user's.
//!
//! In: manifests, weights and goldens. They are generated into one scratch crate, which is built in
//! release and run once per file of goldens. Out: a table or JSON, and whether all is at parity.

mod build;
mod find;
mod result;
mod scratch;

use std::path::{Path, PathBuf};

use pycandle_build::Config;

use crate::outcome::{Outcome, print, progress};
use find::Found;
use result::{Run, Status, Verdict};

/// Hold models against PyTorch, module by module.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with `<name>_manifest.json`, `<name>.safetensors` and `<name>_trace.safetensors`
    #[arg(required_unless_present = "manifest", conflicts_with = "manifest")]
    folder: Option<PathBuf>,
    /// One model: its manifest
    #[arg(long, requires = "weights", requires = "golden")]
    manifest: Option<PathBuf>,
    /// One model: its weights (a safetensors file, an index or a folder)
    #[arg(long, requires = "manifest")]
    weights: Option<PathBuf>,
    /// One model: its goldens; may be given several times
    #[arg(long, requires = "manifest")]
    golden: Vec<PathBuf>,
    /// Leave out all fusions
    #[arg(long)]
    no_fuse: bool,
    /// Folder of the `pycandle` crate to build against [default: the one that the current
    /// workspace uses, else the published one of this version]
    #[arg(long)]
    pycandle_path: Option<PathBuf>,
    /// Print JSON; a number that is not finite is the text `inf` or `nan`
    #[arg(long)]
    json: bool,
    /// Print the table of every compared tensor
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let found = match (&args.folder, &args.manifest, &args.weights) {
        (Some(folder), ..) => find::in_folder(folder),
        (None, Some(manifest), Some(weights)) => find::one(manifest, weights, &args.golden),
        _ => Err("name a folder, or a manifest with weights and goldens".to_owned()),
    };
    let verdicts = found.and_then(|found| verify(args, found));
    let verdicts = match verdicts {
        Ok(verdicts) => verdicts,
        Err(message) => return Outcome::Broken(message),
    };
    match args.json {
        true => print(result::json(&verdicts)),
        false => print(result::table(&verdicts, args.verbose)),
    }
    match verdicts
        .iter()
        .all(|verdict| verdict.status == Status::Pass)
    {
        true => Outcome::Ok,
        false => Outcome::Failed,
    }
}

/// Generates, builds and runs; fails only when the scratch crate itself cannot be made.
fn verify(args: &Args, found: Vec<Found>) -> Result<Vec<Verdict>, String> {
    let mut verdicts: Vec<_> = found
        .iter()
        .map(|found| Verdict::error(&found.name, "not run"))
        .collect();
    let mut sources = Vec::new();
    for (index, model) in found.iter().enumerate() {
        match source(args, model) {
            Ok(source) => {
                let side_files = find::side_files(&model.manifest);
                sources.push(scratch::Source {
                    index,
                    source,
                    side_files,
                });
            }
            Err(verdict) => verdicts[index] = *verdict,
        }
    }
    if sources.is_empty() {
        return Ok(verdicts);
    }
    let place = scratch::Place::find(args.pycandle_path.as_deref(), &found)?;
    progress(format!("building {} models", sources.len()));
    let built = build::build(&place, sources)?;
    for (index, message) in built.broken {
        let name = &found[index].name;
        verdicts[index] = Verdict::error(
            name,
            format!("the generated source does not compile:\n{message}"),
        );
    }
    for index in built.models {
        let model = &found[index];
        let runs = model.goldens.iter().map(|(case, golden)| {
            progress(format!("running {} {case}", model.name));
            let run = build::run(&built.program, index, model, golden);
            (case.clone(), run.unwrap_or_else(Run::Error))
        });
        verdicts[index] = Verdict::of_runs(&model.name, runs.collect());
    }
    Ok(verdicts)
}

/// The model's source, or why there is none.
fn source(args: &Args, model: &Found) -> Result<String, Box<Verdict>> {
    if let Some(problem) = &model.problem {
        return Err(Box::new(Verdict::error(&model.name, problem.clone())));
    }
    let config = Config::new(model.manifest.file_name().unwrap_or_default())
        .root(model.manifest.parent().unwrap_or(Path::new("")))
        .weights(absolute(&model.weights))
        .name(scratch::STRUCT)
        .fuse(!args.no_fuse);
    pycandle_build::generate(&config)
        .map(|generated| generated.source)
        .map_err(|report| {
            let unlowered = report.unlowered();
            Box::new(match unlowered.is_empty() {
                true => Verdict::error(&model.name, report.to_string()),
                false => Verdict::unsupported(&model.name, &unlowered),
            })
        })
}

/// Relative paths would start at the manifest's folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
