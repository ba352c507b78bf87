//! The files of large constants beside a manifest, held against it before anything is built.
//!
//! In: the manifest and its folder; of the files only headers are read. Out: the files to watch, or
//! one error per constant that its file does not hold as the manifest says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pycandle_checkpoint::Checkpoint;

use crate::checkpoint;
use crate::manifest::{Constant, Data, Manifest};
use crate::report::{At, Error, Report};

/// Checks every constant that lies in a file beside the manifest at `path`.
///
/// # Errors
/// A file that is absent or broken; a constant that it lacks or holds in another shape or dtype.
pub fn check(manifest: &Manifest, path: &Path) -> Result<Vec<PathBuf>, Report> {
    let mut by_file: BTreeMap<&str, Vec<&Constant>> = BTreeMap::new();
    for constant in &manifest.constants {
        if let Data::File(file) = &constant.data {
            by_file.entry(file).or_default().push(constant);
        }
    }
    let mut report = Report::new();
    let mut files = Vec::new();
    for (name, constants) in by_file {
        let file = path.with_file_name(name);
        let mut problem = |text: String| {
            let text = format!("{text}: record the model again, and keep both files together");
            report.push(Error::whole(At::file(&manifest.file), text));
        };
        match Checkpoint::open_shown(&file, Path::new(name)) {
            Ok(held) => constants
                .iter()
                .filter_map(|constant| misfit(constant, name, &held))
                .for_each(problem),
            Err(_) if !file.exists() => problem(format!(
                "no file `{name}` beside the manifest, which holds {} of its constants",
                constants.len()
            )),
            Err(error) => problem(format!("cannot read the constants: {error}")),
        }
        files.push(file);
    }
    report.into_result(files)
}

/// What the file has instead of the constant.
fn misfit(constant: &Constant, file: &str, held: &Checkpoint) -> Option<String> {
    let name = &constant.name;
    let Some(tensor) = held.get(name) else {
        return Some(format!("constant `{name}` is not in `{file}`"));
    };
    let (dtype, shape) = (checkpoint::dtype(constant.dtype), &*constant.shape);
    if (tensor.dtype(), tensor.shape()) == (dtype, shape) {
        return None;
    }
    Some(format!(
        "constant `{name}` is {} {:?} in `{file}` and {} {shape:?} in the manifest",
        tensor.dtype().name(),
        tensor.shape(),
        dtype.name(),
    ))
}
