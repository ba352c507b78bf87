//! The whole pipeline.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
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
use crate::ir::Lowered;
use crate::lower::{Unsupported, lower};
use crate::manifest::{CallId, Manifest};
use crate::mark;
use crate::names;
use crate::report::{At, Error, Report};
use crate::tree::tree;
use crate::{checkpoint, constants, raw};

/// The generated model, as source; see [`generate`].
///
/// ```
/// fn tell(generated: &pycandle_build::Generated) {
///     for path in &generated.tracked {
///         println!("cargo::rerun-if-changed={}", path.display());
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Generated {
    /// Formatted source, with the header line.
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

/// The generated model, as the compiler takes it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Expanded {
    /// Its items.
    pub tokens: TokenStream,
    /// Files to watch: when one changes, expand again.
    pub tracked: Vec<PathBuf>,
    /// What is probably a mistake, though the checkpoint fits.
    pub warnings: Vec<String>,
    /// What is wrong with the checkpoint alone; the code does without one.
    pub problems: Report,
}

/// What generated code says of the checkpoints that it loads, beside what it needs of them.
///
/// ```
/// let expects = pycandle_build::Expects { strict: true, ..Default::default() };
/// assert!(expects.renames.is_empty() && expects.config.is_none());
/// ```
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
/// ```
/// use pycandle_build::{Config, Expects, Generated, generate};
/// let config = Config::new("mlp_manifest.json")
///     .root("../tests/models")
///     .weights("mlp.safetensors");
/// let generated: Generated = generate(&config)?;
/// assert_eq!(generated.name, "Mlp");
/// assert!(generated.source.contains("pub struct Mlp"));
/// assert!(generated.warnings.is_empty() && generated.notes.is_empty());
/// assert_eq!(generated.tracked.len(), 2); // the manifest and the checkpoint
/// assert_eq!(generated.expects, Expects::default()); // nothing renamed, no config
/// # Ok::<(), pycandle_build::Report>(())
/// ```
pub fn generate(config: &Config) -> Result<Generated, Report> {
    let (mut model, mut report) = Model::read(config)?;
    let lowered = model.lower(&mut report);
    let lowered = report.into_result(lowered)?;
    let tokens = lowered.map(|lowered| model.tokens(lowered));
    let text = format::format(&tokens.unwrap_or_default()).map_err(|err| {
        let text = format!("the generated code is not Rust: {err}: please report this");
        Error::whole(At::file(&model.manifest.file), text)
    })?;
    Ok(Generated {
        source: mark::marked(&model.manifest.file, &text),
        tracked: std::mem::take(&mut model.tracked),
        notes: std::mem::take(&mut model.checked.notes),
        warnings: std::mem::take(&mut model.checked.warnings),
        expects: model.expects(),
        name: config.model_name(&model.manifest),
    })
}

/// [`generate`] for the attribute, which can say what is wrong with the checkpoint and still give
/// the code, so that what uses it is no mistake as well; nothing is formatted.
///
/// # Errors
/// Everything that is wrong, when that is not the checkpoint alone.
#[doc(hidden)]
pub fn expand(config: &Config) -> Result<Expanded, Report> {
    let (model, mut problems) = Model::read(config)?;
    match model.lower(&mut problems) {
        Some(lowered) if problems.is_empty() || problems.is_about_weights() => Ok(Expanded {
            tokens: model.tokens(lowered),
            tracked: model.tracked,
            warnings: model.checked.warnings,
            problems,
        }),
        _ => Err(problems),
    }
}

/// Finds everything that [`generate`] fails for, and writes no code.
///
/// # Errors
/// Those of [`generate`].
#[doc(hidden)]
pub fn check(config: &Config) -> Result<Checked, Report> {
    let (model, mut report) = Model::read(config)?;
    model.lower(&mut report);
    report.into_result(model.checked)
}

/// The ops of a manifest that have no lowering, as errors; empty when the model can be generated.
///
/// ```
/// let path = "../tests/ui/fixtures/unsupported_manifest.json";
/// let manifest = pycandle_build::raw::read(path.as_ref())?;
/// let report = pycandle_build::unsupported(&manifest);
/// assert_eq!(report.unsupported_ops(), [("aten.fft_rfft.default", 1)]);
/// # Ok::<(), pycandle_build::Report>(())
/// ```
pub fn unsupported(manifest: &Manifest) -> Report {
    let mut graph = Graph::new(manifest);
    fuse(&mut graph);
    let mut report = Report::new();
    if let Err(failed) = lower(&graph) {
        describe(&graph, failed, &mut report);
    }
    report
}

/// A manifest, and what is known of the files beside it.
struct Model<'a> {
    config: &'a Config,
    manifest: Manifest,
    checked: Checked,
    tracked: Vec<PathBuf>,
}

impl<'a> Model<'a> {
    /// Reads all files, and closes them: what is kept of a checkpoint does not grow with it.
    fn read(config: &'a Config) -> Result<(Self, Report), Report> {
        let path = config.manifest_path();
        let manifest = raw::read_shown(&path, &config.manifest)?;
        let mut report = Report::new();
        let mut tracked = vec![path.clone()];
        report.extend(config.problems(&manifest));
        match constants::check(&manifest, &path) {
            Ok(files) => tracked.extend(files),
            Err(problems) => report.extend(problems),
        }
        let mut checked = checkpoint::check(&manifest, config).unwrap_or_else(|problems| {
            report.extend(problems);
            Checked::default()
        });
        tracked.append(&mut checked.files);
        let model = Self {
            config,
            manifest,
            checked,
            tracked,
        };
        Ok((model, report))
    }

    /// The graph, lowered; `None` when the report says why not.
    fn lower(&self, report: &mut Report) -> Option<(Graph<'_>, Vec<Lowered>)> {
        let mut graph = Graph::new(&self.manifest);
        if self.config.fuse {
            fuse(&mut graph);
        }
        match lower(&graph) {
            Ok(lowered) => Some((graph, lowered)),
            Err(failed) => {
                describe(&graph, failed, report);
                None
            }
        }
    }

    fn expects(&self) -> Expects {
        Expects {
            renames: self.checked.renames.clone(),
            config: checkpoint::facts(&self.manifest),
            strict: self.config.strict,
        }
    }

    fn tokens(&self, (graph, lowered): (Graph<'_>, Vec<Lowered>)) -> TokenStream {
        let tree = tree(&graph);
        let defs = dedup(&graph, &tree, &lowered);
        let fused = unrecorded(&self.manifest, &graph, &defs);
        let root = Root {
            name: &self.config.model_name(&self.manifest),
            fused: &fused,
            folder: &self.config.manifest_folder(),
            expects: &self.expects(),
            hash: &hash(&self.config.manifest_path()),
        };
        emit(&graph, defs, &root)
    }
}

/// SHA-256 of a file in hexadecimal, as goldens name their manifest; empty when it is gone.
fn hash(path: &Path) -> String {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let read = File::open(path).and_then(|mut file| {
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                n => sha.update(&buffer[..n]),
            }
        }
    });
    match read {
        Ok(()) => sha.finalize().iter().map(|b| format!("{b:02x}")).collect(),
        Err(_) => String::new(),
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
