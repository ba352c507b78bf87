//! Building and running the scratch crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::find::Found;
use super::result::Run;
use super::scratch::{Place, Source};

/// Lines of a compiler's or program's complaint that are passed on.
const SHOWN: usize = 40;

/// What was built.
pub struct Built {
    /// The program.
    pub program: PathBuf,
    /// Indices of the models in it.
    pub models: Vec<usize>,
    /// Models whose source does not compile, with the compiler's text.
    pub broken: BTreeMap<usize, String>,
}

/// Builds the models; those that do not compile are left out and reported.
pub fn build(place: &Place, mut sources: Vec<Source>) -> Result<Built, String> {
    let mut broken = BTreeMap::new();
    loop {
        place.write(&sources)?;
        let errors = match compile(place)? {
            None => {
                let models = sources.iter().map(|source| source.index).collect();
                let program = place.target.join("release").join(format!(
                    "{}{}",
                    place.name,
                    std::env::consts::EXE_SUFFIX
                ));
                return Ok(Built {
                    program,
                    models,
                    broken,
                });
            }
            Some(errors) => errors,
        };
        let before = sources.len();
        sources.retain(|source| {
            let file = format!("m{}.rs", source.index);
            let own: Vec<_> = errors
                .iter()
                .filter(|(at, _)| at.ends_with(&file))
                .map(|(_, text)| &**text)
                .collect();
            if !own.is_empty() {
                broken.insert(source.index, first_lines(&own.join("\n")));
            }
            own.is_empty()
        });
        if sources.len() == before {
            let texts: Vec<_> = errors.into_iter().map(|(_, text)| text).collect();
            return Err(format!(
                "the scratch crate in `{}` does not build:\n{}",
                place.folder.display(),
                first_lines(&texts.join("\n"))
            ));
        }
        if sources.is_empty() {
            return Ok(Built {
                program: PathBuf::new(),
                models: Vec::new(),
                broken,
            });
        }
    }
}

/// Compiles in release; `None` when it worked, otherwise each error with the file it is in.
fn compile(place: &Place) -> Result<Option<Vec<(String, String)>>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--message-format",
            "json-diagnostic-short",
        ])
        .arg("--manifest-path")
        .arg(place.folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&place.target)
        .stdin(Stdio::null())
        .stderr(match std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            true => Stdio::inherit(),
            false => Stdio::piped(),
        })
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        return Ok(None);
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let mut errors: Vec<_> = stdout.lines().filter_map(error_of).collect();
    if errors.is_empty() {
        errors.push((
            String::new(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    Ok(Some(errors))
}

/// The error in a line of Cargo's output: its file and its text.
fn error_of(line: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let message = value.get("message")?;
    if message.get("level")?.as_str()? != "error" {
        return None;
    }
    let file = message
        .pointer("/spans/0/file_name")
        .and_then(|file| file.as_str())
        .unwrap_or_default();
    let text = message.get("rendered")?.as_str()?;
    Some((file.replace('\\', "/"), text.trim_end().to_owned()))
}

/// Runs one model on one file of goldens.
pub fn run(program: &Path, index: usize, model: &Found, goldens: &Path) -> Result<Run, String> {
    let output = Command::new(program)
        .arg(index.to_string())
        .args([&model.weights, goldens, &model.manifest])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", program.display()))?;
    if let (true, Ok(run)) = (
        output.status.success(),
        serde_json::from_slice(&output.stdout),
    ) {
        return Ok(run);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "the model stopped ({}):\n{}",
        output.status,
        first_lines(&stderr)
    ))
}

fn first_lines(text: &str) -> String {
    text.lines().take(SHOWN).collect::<Vec<_>>().join("\n")
}
