//! `cargo pycandle codegen`: source to keep and edit.

use std::path::{Path, PathBuf};

use pycandle_build::{Config, Kept, RenameRule, Syntax};

use crate::outcome::{Outcome, print, print_warning, progress};

/// Write a model's Rust source to a file.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest that was recorded
    #[arg(long)]
    manifest: PathBuf,
    /// A checkpoint that has to fit: a safetensors or GGUF file, an index or a folder
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Rename keys of the checkpoint: a regular expression and what stands for its matches, `$1`
    /// for a group and `\x3D` for a `=` in the expression; several rules apply in the order in which
    /// they are given
    #[arg(long, value_name = "PATTERN=REPLACEMENT", value_parser = rule)]
    rename: Vec<RenameRule>,
    /// Make keys that the model does not need an error: in the checkpoint, and in those that the
    /// generated code loads
    #[arg(long)]
    strict: bool,
    /// Name of the model's struct [default: its Python class]
    #[arg(long)]
    name: Option<String>,
    /// Leave out all fusions
    #[arg(long)]
    no_fuse: bool,
    /// File to write, or `-` for stdout
    #[arg(long)]
    out: PathBuf,
    /// Replace a file even if it was edited or is not marked as generated
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let mut config = Config::new(&args.manifest)
        .syntax(Syntax::Options)
        .fuse(!args.no_fuse)
        .strict(args.strict);
    if let Some(weights) = &args.weights {
        config = config.weights(weights);
    }
    for rule in &args.rename {
        config = config.rename(rule.clone());
    }
    if let Some(name) = &args.name {
        config = config.name(name);
    }
    let generated = match pycandle_build::generate(&config) {
        Ok(generated) => generated,
        Err(report) => return Outcome::of_report(&report),
    };
    generated.warnings.iter().for_each(print_warning);
    for note in &generated.notes {
        progress(note);
    }
    if args.out == Path::new("-") {
        print(generated.source.trim_end());
        return Outcome::Ok;
    }
    let out = args.out.display();
    let kept = match args.force {
        true => Ok(Kept::Generated),
        false => kept(&args.out),
    };
    let why = match kept {
        Ok(Kept::Generated) => None,
        Ok(Kept::Edited) => Some("was edited since it was generated"),
        Ok(Kept::Foreign) => Some("is not marked as generated"),
        Err(error) => return Outcome::Broken(format!("cannot read `{out}`: {error}")),
    };
    if let Some(why) = why {
        return Outcome::Broken(format!(
            "`{out}` {why}: choose another file, or replace it with --force"
        ));
    }
    match pycandle_build::write_if_changed(&args.out, &generated.source) {
        Ok(true) => progress(format!("wrote {out}")),
        Ok(false) => progress(format!("{out} is up to date")),
        Err(report) => return Outcome::Broken(report.to_string()),
    }
    Outcome::Ok
}

/// A rename rule as it is given: all before the first `=`, and all behind it.
pub fn rule(text: &str) -> Result<RenameRule, String> {
    let (pattern, replacement) = text
        .split_once('=')
        .ok_or("expected a regular expression, `=`, and what stands for its matches")?;
    RenameRule::new(pattern, replacement).map_err(|why| {
        if pattern.ends_with("(?") || pattern.ends_with("(?<") {
            return format!(
                "`{pattern}=…` looks around, which regular expressions here do not: make a group of what \
                 stands there, and put it back with `${{1}}`"
            );
        }
        match replacement.contains('=') {
            true => format!(
                "{why}; the first `=` ends the pattern, write `\\x3D` for one that belongs to it"
            ),
            false => why,
        }
    })
}

/// What stands in the file; one that is absent is as good as one that was generated.
fn kept(path: &Path) -> std::io::Result<Kept> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Kept::of(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::Generated),
        Err(error) => Err(error),
    }
}
