//! `cargo pycandle inspect`: what is in a manifest.

mod json;
mod text;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pycandle_build::manifest::Manifest;
use pycandle_build::{Config, Report, raw};

use crate::outcome::{Outcome, print};

/// Show a model: module tree with shapes, parameters and bytes, ops, unsupported ops.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest that was recorded
    #[arg(value_name = "MANIFEST", required_unless_present = "named")]
    manifest: Option<PathBuf>,
    /// The same, as the other commands take it
    #[arg(
        long = "manifest",
        value_name = "MANIFEST",
        conflicts_with = "manifest"
    )]
    named: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Everything that is shown.
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
    let Some(path) = args.manifest.as_ref().or(args.named.as_ref()) else {
        return Outcome::Broken("name the manifest that was recorded".to_owned());
    };
    let manifest = match raw::read(path) {
        Ok(manifest) => manifest,
        Err(report) => return Outcome::of_report(&report),
    };
    let mut ops = BTreeMap::new();
    for node in &manifest.nodes {
        *ops.entry(&*node.op).or_default() += 1;
    }
    let modules = tree::modules(&manifest);
    let problems = pycandle_build::generate(&Config::new(path)).err();
    let model = Model {
        manifest: &manifest,
        modules,
        ops,
        problems,
    };
    match args.json {
        true => print(json::model(&model)),
        false => print(text::model(&model).trim_end()),
    }
    Outcome::Ok
}
