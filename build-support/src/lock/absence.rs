//! Whether the weights are there: on a build machine they often are not, in one of several ways.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path};

use pycandle_checkpoint::open_file;

/// How a file that Git LFS has not fetched begins.
const POINTER: &[u8] = b"version https://git-lfs";
/// Such a file is shorter than this.
const LONGEST_POINTER: u64 = 1024;

/// What stands where the weights should be, when none of them is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nothing, or a folder without weights, or an index, without the files that it names.
    Nothing,
    /// What Git LFS keeps in place of the files: their sizes by path from the folder.
    Pointers(Vec<(String, u64)>),
}

/// Says what is there instead, when none of the checkpoint's weights is.
///
/// A part of the weights, or weights that cannot be read, are not absent: to open them is an error.
pub(crate) fn absent(path: &Path) -> Option<Absent> {
    let (folder, names) = match std::fs::metadata(path) {
        Err(error) => {
            return (error.kind() == ErrorKind::NotFound).then_some(Absent::Nothing);
        }
        Ok(meta) if meta.is_dir() => (path, in_folder(path)?),
        Ok(_) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            match path.extension().is_some_and(|ext| ext == "json") {
                true => (folder, in_index(path)?),
                false => (
                    folder,
                    vec![path.file_name()?.to_string_lossy().into_owned()],
                ),
            }
        }
    };
    let mut pointers = Vec::new();
    for name in names {
        let file = folder.join(&name);
        match pointer(&file) {
            Some(bytes) => pointers.push((name, bytes)),
            None if file.exists() => return None,
            None => {}
        }
    }
    Some(match pointers.is_empty() {
        true => Absent::Nothing,
        false => Absent::Pointers(pointers),
    })
}

/// The weight files of a folder; `None` when it cannot be read.
fn in_folder(folder: &Path) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).ok()? {
        names.extend(entry.ok()?.file_name().into_string().ok());
    }
    names.sort();
    let weights = |name: &String| name.ends_with(".safetensors") || name.ends_with(".gguf");
    names.retain(weights);
    Some(names)
}

/// The files that an index names; `None` when it is none.
fn in_index(index: &Path) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let mut text = Vec::new();
    open_file(index).ok()?.read_to_end(&mut text).ok()?;
    let index: Index = serde_json::from_slice(&text).ok()?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    // What lies outside the folder is no part of the checkpoint: to open it says so.
    let is_inside = |name: &String| {
        let mut parts = Path::new(name).components();
        !name.contains(['\\', ':']) && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    names
        .iter()
        .all(is_inside)
        .then(|| names.into_iter().collect())
}

/// The size that a pointer of Git LFS states; `None` when the file is not one.
fn pointer(file: &Path) -> Option<u64> {
    let mut file = open_file(file).ok()?;
    let mut text = String::new();
    if file.metadata().ok()?.len() > LONGEST_POINTER {
        return None;
    }
    file.by_ref()
        .take(LONGEST_POINTER)
        .read_to_string(&mut text)
        .ok()?;
    let size = text.lines().find_map(|line| line.strip_prefix("size "))?;
    text.as_bytes()
        .starts_with(POINTER)
        .then(|| size.parse().ok())?
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Nobody writes to the pipe: to open it is to wait for ever.
    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["m.safetensors", "n.safetensors.index.json"] {
            let path = folder.path().join(name);
            let status = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(status.is_ok_and(|status| status.success()), "no pipe");
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::spawn(move || sender.send(absent(&path)));
            let waited = receiver.recv_timeout(std::time::Duration::from_secs(60));
            assert_eq!(waited, Ok(None), "{name}");
        }
    }
}
