//! The whole pipeline.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use sha2::{Digest, Sha256};

use crate::checkpoint::Checked;
use crate::config::Config;
use crate::dedup::{Defs, dedup};
use crate::emit::{Root, emit};
use crate::format;
use crate::fuse::fuse;
use crate::graph::Graph;
use crate::lower::{Unsupported, lower};
use crate::manifest::{CallId, Manifest};
use crate::names;
use crate::report::{At, Error, Report};
use crate::tree::tree;
use crate::{checkpoint, constants, raw};

/// The generated model.
#[derive(Debug)]
pub struct Generated {
    /// Its items.
    pub tokens: TokenStream,
    /// The same as formatted source, with the header line.
    pub source: String,
    /// Files to watch: when one changes, generate again.
    pub tracked: Vec<PathBuf>,
    /// What is no mistake of the checkpoint, but good to know.
    pub notes: Vec<String>,
    /// What is probably a mistake, though the checkpoint fits.
    pub warnings: Vec<String>,
    /// What the code holds a checkpoint against when it loads one.
    pub expects: Expects,
    /// The name of the model's struct.
    pub name: String,
}

/// What generated code says of the checkpoints that it loads, beside what it needs of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expects {
    /// Need → key where they differ, as `pycandle_checkpoint::Expected` reads them.
    pub renames: Vec<(String, String)>,
    /// Facts of the trace's config, as JSON on one line.
    pub config: Option<String>,
    /// Whether keys that nothing needs are an error.
    pub strict: bool,
}

/// Generates a model: reads the manifest, checks the checkpoint against it when there is one, and
/// writes the code.
///
/// # Errors
/// Everything that is wrong with the manifest, the ops it uses and the checkpoint, in one report.
///
/// ```no_run
/// let config = pycandle_build::Config::new("my_model_manifest.json").weights("model.safetensors");
/// match pycandle_build::generate(&config) {
///     Ok(generated) => print!("{}", generated.source),
///     Err(report) => eprintln!("{report}"),
/// }
/// ```
pub fn generate(config: &Config) -> Result<Generated, Report> {
    let path = config.manifest_path();
    let manifest = raw::read_shown(&path, &config.manifest)?;
    let mut report = Report::new();
    let mut tracked = vec![path.clone()];
    report.extend(config.problems(&manifest));
    match constants::check(&manifest, &path) {
        Ok(files) => tracked.extend(files),
        Err(problems) => report.extend(problems),
    }
    let checked = checkpoint::check(&manifest, config).unwrap_or_else(|problems| {
        report.extend(problems);
        Checked::default()
    });
    tracked.extend(checked.files);
    let name = config.model_name(&manifest);
    let expects = Expects {
        renames: checked.renames,
        config: checkpoint::facts(&manifest),
        strict: config.strict,
    };
    let model = Model {
        name: &name,
        folder: &config.manifest_folder(),
        expects: &expects,
        hash: &hash(&path),
        config,
    };
    match tokens(&manifest, &model) {
        Ok(tokens) => report.into_result(()).and_then(|()| {
            let text = format::format(&tokens).map_err(|err| {
                let text = format!("the generated code is not Rust: {err}: please report this");
                Error::whole(At::file(&manifest.file), text)
            })?;
            Ok(Generated {
                source: format::header(&manifest.file) + &text,
                tokens,
                tracked,
                notes: checked.notes,
                warnings: checked.warnings,
                expects: expects.clone(),
                name: name.clone(),
            })
        }),
        Err(problems) => {
            report.extend(problems);
            Err(report)
        }
    }
}

/// The ops of a manifest that have no lowering, as errors; empty when the model can be generated.
pub fn unsupported(manifest: &Manifest) -> Report {
    let mut graph = Graph::new(manifest);
    fuse(&mut graph);
    let mut report = Report::new();
    if let Err(failed) = lower(&graph) {
        describe(&graph, failed, &mut report);
    }
    report
}

struct Model<'a> {
    name: &'a str,
    folder: &'a str,
    expects: &'a Expects,
    hash: &'a str,
    config: &'a Config,
}

fn tokens(manifest: &Manifest, model: &Model) -> Result<TokenStream, Report> {
    let mut graph = Graph::new(manifest);
    if model.config.fuse {
        fuse(&mut graph);
    }
    let lowered = match lower(&graph) {
        Ok(lowered) => lowered,
        Err(failed) => {
            let mut report = Report::new();
            describe(&graph, failed, &mut report);
            return Err(report);
        }
    };
    let tree = tree(&graph);
    let defs = dedup(&graph, &tree, &lowered);
    let fused = unrecorded(manifest, &graph, &defs);
    let root = Root {
        name: model.name,
        fused: &fused,
        folder: model.folder,
        expects: model.expects,
        hash: model.hash,
    };
    Ok(emit(&graph, defs, &root))
}

/// SHA-256 of a file in hexadecimal, as goldens name their manifest; empty when it is gone.
fn hash(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    match bytes.is_empty() {
        true => String::new(),
        false => Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
}

fn describe(graph: &Graph, failed: Vec<Unsupported>, report: &mut Report) {
    for failure in failed {
        let node = &graph.nodes[failure.node];
        let at = At::file(&graph.m.file)
            .line(node.line)
            .module(graph.path(node.call))
            .python(node.at.clone());
        report.push(match failure.why {
            None => Error::unsupported(at, &node.op),
            Some(why) => Error::lowering(at, &node.op, why.0),
        });
    }
}

/// Golden keys that the code does not show to a probe: what fusions and clean-up took away. Keys of
/// equal modules are one pattern with `*` for the index.
fn unrecorded(manifest: &Manifest, graph: &Graph, defs: &Defs) -> Vec<String> {
    let recorded = defs
        .defs
        .iter()
        .flat_map(|d| &d.calls)
        .flat_map(|(_, local)| &local.recorded);
    let recorded: BTreeSet<(CallId, usize)> = recorded.copied().collect();
    let mut keys: Vec<(String, String)> = Vec::new();
    for (c, call) in manifest.calls.iter().enumerate() {
        for i in 0..call.outputs.len() {
            if !recorded.contains(&(CallId(c), i)) {
                let path = graph.path(CallId(c));
                keys.push((path.to_owned(), format!("#{}.out.{i}", call.index)));
            }
        }
    }
    let mut suffixes: Vec<&String> = keys.iter().map(|(_, suffix)| suffix).collect();
    suffixes.sort_unstable();
    suffixes.dedup();
    let mut out = Vec::new();
    for suffix in suffixes {
        let paths = keys
            .iter()
            .filter(|(_, s)| s == suffix)
            .map(|(p, _)| p.as_str());
        for pattern in names::pattern(paths.clone()) {
            // A pattern must not cover a key that is recorded.
            let covered = |path: &str| names::pattern([path, path].into_iter()) == [&*pattern];
            let shown = recorded.iter().any(|(c, i)| {
                let call = &manifest.calls[c.0];
                format!("#{}.out.{i}", call.index) == **suffix && covered(graph.path(*c))
            });
            match shown {
                true => out.extend(
                    paths
                        .clone()
                        .filter(|p| covered(p))
                        .map(|p| p.to_owned() + suffix),
                ),
                false => out.push(pattern + suffix),
            }
        }
    }
    out
}
