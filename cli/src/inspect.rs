//! `cargo pycandle inspect`: what is in a manifest, in a checkpoint, or in both.

mod checkpoint;
mod json;
mod text;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ArgGroup;
use pycandle_build::manifest::Manifest;
use pycandle_build::{Config, RenameRule, Report, Syntax, lock, raw, write_if_changed};
use serde_json::{Value, json};

use crate::codegen::rule;
use crate::outcome::{self, Outcome, print, print_warning};
use checkpoint::View;

/// Show a model, a checkpoint, or what the one needs of the other.
///
/// Of a manifest: module tree with shapes, parameters and bytes, ops, unsupported ops. Of a
/// checkpoint: files, formats, and bytes of each module; beside a manifest also what of it is needed,
/// unneeded, tied and missing.
#[derive(clap::Args)]
#[command(
    override_usage = "cargo pycandle inspect [OPTIONS] [MANIFEST] [--weights <WEIGHTS>]",
    group(
        ArgGroup::new("inspected")
            .args(["manifest", "named", "weights"])
            .required(true)
            .multiple(true)
    )
)]
pub struct Args {
    /// The manifest that was recorded
    #[arg(value_name = "MANIFEST")]
    manifest: Option<PathBuf>,
    /// The same, as the other commands take it
    #[arg(
        long = "manifest",
        value_name = "MANIFEST",
        conflicts_with = "manifest"
    )]
    named: Option<PathBuf>,
    /// A checkpoint: a safetensors or GGUF file, an index or a folder
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Rename keys of the checkpoint, as in `codegen`; may be given several times
    #[arg(long, value_name = "PATTERN=REPLACEMENT", value_parser = rule, requires = "weights")]
    rename: Vec<RenameRule>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page about the checkpoint to this file, or `-` for stdout: module tree, treemap, files
    #[arg(
        long,
        value_name = "FILE",
        requires = "weights",
        conflicts_with = "json"
    )]
    html: Option<PathBuf>,
}

/// Everything that is shown of a manifest.
struct Model<'a> {
    manifest: &'a Manifest,
    modules: Vec<tree::Module<'a>>,
    /// Operators, with how often each is called.
    ops: BTreeMap<&'a str, usize>,
    /// What keeps the model from being generated.
    problems: Option<Report>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    inspect(args).unwrap_or_else(|report| {
        if args.json {
            print(outcome::failure(&report));
        }
        Outcome::of_report(&report)
    })
}

fn inspect(args: &Args) -> Result<Outcome, Report> {
    let path = args.manifest.as_ref().or(args.named.as_ref());
    match (path, &args.weights) {
        (None, None) => Ok(Outcome::Broken(
            "name the manifest that was recorded, or a checkpoint with --weights".to_owned(),
        )),
        (None, Some(_)) if !args.rename.is_empty() => Ok(Outcome::Broken(
            "--rename gives keys the names that a manifest has: name the manifest too".to_owned(),
        )),
        (None, Some(weights)) => {
            let opened = lock::open(weights, weights)?;
            Ok(show(args, None, Some(&View::alone(&opened))))
        }
        (Some(path), weights) => {
            let manifest = raw::read(path)?;
            let model = Model::new(&manifest, path);
            let Some(weights) = weights else {
                return Ok(show(args, Some(&model), None));
            };
            let config = Config::new(path).weights(weights).syntax(Syntax::Options);
            let config = args.rename.iter().cloned().fold(config, Config::rename);
            let beside = pycandle_build::checkpoint::hold(&manifest, &config)?;
            let warnings = beside.iter().flat_map(|beside| &beside.checked.warnings);
            warnings.for_each(print_warning);
            let view = beside.as_ref().map(View::beside);
            Ok(show(args, Some(&model), view.as_ref()))
        }
    }
}

impl<'a> Model<'a> {
    fn new(manifest: &'a Manifest, path: &Path) -> Self {
        let mut ops = BTreeMap::new();
        for node in &manifest.nodes {
            *ops.entry(&*node.op).or_default() += 1;
        }
        Self {
            manifest,
            modules: tree::modules(manifest),
            ops,
            problems: pycandle_build::check(&Config::new(path)).err(),
        }
    }
}

fn show(args: &Args, model: Option<&Model<'_>>, view: Option<&View<'_>>) -> Outcome {
    if let (Some(out), Some(view)) = (&args.html, view) {
        return page(out, model, view);
    }
    if args.json {
        let mut value = model.map_or(json!({}), json::model);
        if let (Value::Object(entries), Some(view)) = (&mut value, view) {
            entries.insert("checkpoint".to_owned(), checkpoint::json::view(view));
        }
        print(value);
        return Outcome::Ok;
    }
    let parts = [model.map(text::model), view.map(checkpoint::text::view)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    print(parts.join("\n").trim_end());
    Outcome::Ok
}

fn page(out: &Path, model: Option<&Model<'_>>, view: &View<'_>) -> Outcome {
    let title = model.map(|model| (&*model.manifest.name, &*model.manifest.class));
    let text = checkpoint::html::page(title, view);
    if out == Path::new("-") {
        print(text.trim_end());
        return Outcome::Ok;
    }
    let shown = out.display();
    let other = |bytes: Vec<u8>| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
        !start.contains(checkpoint::html::MARK)
    };
    if std::fs::read(out).is_ok_and(other) {
        return Outcome::Broken(format!(
            "`{shown}` is no page of this command: choose another file"
        ));
    }
    match write_if_changed(out, &text) {
        Ok(true) => print(format!("wrote {shown}")),
        Ok(false) => print(format!("{shown} is up to date")),
        Err(report) => return Outcome::Broken(report.to_string()),
    }
    Outcome::Ok
}
