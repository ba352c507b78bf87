//! The scratch crate: where it lies, and what it is made of.

use std::path::{Path, PathBuf};
use std::process::Command;

use pycandle_build::write_if_changed;
use quote::{format_ident, quote};
use serde::Deserialize;

use super::find::Found;

/// The name that the models' structs have in the scratch crate.
pub const STRUCT: &str = "ParityModel";

/// The generated source of one model.
pub struct Source {
    /// Index of the model among all that were found.
    pub index: usize,
    /// Its source.
    pub source: String,
    /// Files that the source includes from the root of its package.
    pub side_files: Vec<PathBuf>,
}

/// Where the scratch crate is built, and against which `pycandle`.
pub struct Place {
    /// The crate's folder.
    pub folder: PathBuf,
    /// Its name; it differs between sets of models, which may be verified at the same time.
    pub name: String,
    /// Cargo's target directory.
    pub target: PathBuf,
    /// The dependency on `pycandle`, as TOML.
    dependency: String,
    /// A lock file to begin with.
    lock: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    manifest_path: PathBuf,
}

impl Place {
    /// Beside what Cargo builds for the current workspace, so that dependencies are built once.
    pub fn find(pycandle: Option<&Path>, models: &[Found]) -> Result<Self, String> {
        let metadata = match (metadata(), pycandle) {
            // Nothing has to be known of the workspace.
            (Err(_), Some(_)) => None,
            (known, _) => known?,
        };
        let here =
            std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
        let target = match (&metadata, std::env::var_os("CARGO_TARGET_DIR")) {
            (Some(metadata), _) => metadata.target_directory.clone(),
            (None, Some(target)) => here.join(target),
            (None, None) => here.join("target"),
        };
        let used = metadata
            .as_ref()
            .and_then(|m| m.packages.iter().find(|p| p.name == "pycandle"));
        let dependency = match (pycandle, used) {
            (Some(path), _) => path_dependency(&here.join(path)),
            (None, Some(package)) if package.source.is_none() => path_dependency(
                package
                    .manifest_path
                    .parent()
                    .unwrap_or(&package.manifest_path),
            ),
            (None, Some(package)) => format!("\"={}\"", package.version),
            (None, None) => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
        };
        let name = format!("pycandle-parity-{:08x}", hash(models, &dependency) as u32);
        let lock = metadata
            .map(|m| m.workspace_root.join("Cargo.lock"))
            .filter(|lock| lock.exists());
        Ok(Self {
            folder: target.join("pycandle-parity").join(&name),
            name,
            target,
            dependency,
            lock,
        })
    }

    /// Writes the crate with these models; files that are the same stay untouched.
    pub fn write(&self, sources: &[Source]) -> Result<(), String> {
        let src = self.folder.join("src");
        std::fs::create_dir_all(&src)
            .map_err(|error| format!("cannot make `{}`: {error}", src.display()))?;
        let lock = self.folder.join("Cargo.lock");
        if let (Some(from), false) = (&self.lock, lock.exists()) {
            // Without it Cargo resolves anew, which takes longer but works.
            let _ = std::fs::copy(from, lock);
        }
        let write = |path: PathBuf, text: &str| {
            write_if_changed(&path, text)
                .map(drop)
                .map_err(|report| report.to_string())
        };
        write(self.folder.join("Cargo.toml"), &self.cargo_toml())?;
        write(src.join("main.rs"), include_str!("scratch/main.rs.txt"))?;
        write(src.join("models.rs"), &models(sources))?;
        for Source {
            index,
            source,
            side_files,
        } in sources
        {
            write(src.join(format!("m{index}.rs")), source)?;
            for file in side_files {
                let copy = self.folder.join(file.file_name().unwrap_or_default());
                std::fs::copy(file, copy)
                    .map_err(|error| format!("cannot copy `{}`: {error}", file.display()))?;
            }
        }
        Ok(())
    }

    fn cargo_toml(&self) -> String {
        format!(
            "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
             [dependencies]\npycandle = {}\nserde_json = \"1\"\n\n[workspace]\n",
            self.name, self.dependency
        )
    }
}

/// The table of models; their own sources are files beside it.
fn models(sources: &[Source]) -> String {
    let name = format_ident!("{STRUCT}");
    let indices: Vec<_> = sources.iter().map(|source| source.index).collect();
    let modules: Vec<_> = indices
        .iter()
        .map(|index| format_ident!("m{index}"))
        .collect();
    let paths = indices.iter().map(|index| format!("m{index}.rs"));
    quote! {
        use pycandle::parity::{self, Goldens, ParityReport};
        use pycandle::{Device, Error, Result, Weights};
        #(#[path = #paths] #[allow(warnings)] mod #modules;)*
        pub fn run(index: usize, weights: &Weights, goldens: &Goldens) -> Result<ParityReport> {
            match index {
                #(#indices => parity::run::<#modules::#name>(weights, goldens, &Device::Cpu),)*
                _ => Err(Error::msg("no such model")),
            }
        }
    }
    .to_string()
}

/// What Cargo knows about the current workspace, if there is one.
///
/// Of the packages for other platforms Cargo would have to download what no build here needs.
fn metadata() -> Result<Option<Metadata>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = |args: &[&str]| {
        Command::new(&cargo)
            .args(args)
            .output()
            .map_err(|error| format!("cannot run `{}`: {error}", cargo.display()))
    };
    if !run(&["locate-project"])?.status.success() {
        return Ok(None);
    }
    let mut args = vec!["metadata", "--format-version", "1"];
    let host = host();
    if let Some(host) = &host {
        args.extend(["--filter-platform", host]);
    }
    let output = run(&args)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`cargo metadata` fails here: {}", said.trim()));
    }
    serde_json::from_slice(&output.stdout)
        .map(Some)
        .map_err(|error| format!("cannot read what `cargo metadata` prints: {error}"))
}

/// The target triple of this machine, as its compiler names it.
fn host() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "))?;
    Some(host.to_owned())
}

/// JSON strings are valid TOML strings for every path that is text.
fn path_dependency(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!(
        "{{ path = {} }}",
        serde_json::Value::from(path.to_string_lossy())
    )
}

/// FNV-1a over what distinguishes one scratch crate from another.
fn hash(models: &[Found], dependency: &str) -> u64 {
    let paths = models.iter().map(|model| {
        let path = model
            .manifest
            .canonicalize()
            .unwrap_or_else(|_| model.manifest.clone());
        path.to_string_lossy().into_owned()
    });
    let text = paths
        .chain([dependency.to_owned()])
        .collect::<Vec<_>>()
        .join("\n");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
