//! Checkpoints that only Python reads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The endings of pickled checkpoints.
const ENDINGS: [&str; 4] = ["bin", "pt", "pth", "ckpt"];

/// Which command makes a checkpoint readable that PyTorch pickled; `None` when it is none.
pub fn needs_python(weights: &Path, out: &Path) -> Option<String> {
    let pickled = find(weights)?;
    let unpickled = out.with_extension("unpickled.safetensors");
    let (pickled, unpickled) = (shown(&pickled), shown(&unpickled));
    Some(format!(
        "`{pickled}` was pickled by PyTorch, which only Python reads: run\n  \
         python -m pycandle unpickle {} --out {}\nand extract from `{unpickled}`",
        quoted(&pickled),
        quoted(&unpickled)
    ))
}

/// What is pickled: the file itself, the index of several, or one of a folder without safetensors.
fn find(weights: &Path) -> Option<PathBuf> {
    if !weights.is_dir() {
        return is_pickled(weights).then(|| weights.to_path_buf());
    }
    let entries = std::fs::read_dir(weights).ok()?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let ends = |path: &PathBuf, ending: &str| path.to_string_lossy().ends_with(ending);
    let readable = |path: &PathBuf| {
        [".safetensors", ".safetensors.index.json", ".gguf"]
            .iter()
            .any(|end| ends(path, end))
    };
    if files.iter().any(readable) {
        return None;
    }
    let index = files.iter().position(|path| ends(path, ".bin.index.json"));
    let index = index.or_else(|| files.iter().position(|path| is_pickled(path)));
    index.map(|index| files.swap_remove(index))
}

/// A zip archive or a bare pickle with one of the usual endings, or an index of such.
fn is_pickled(path: &Path) -> bool {
    if path.to_string_lossy().ends_with(".bin.index.json") {
        return path.is_file();
    }
    let usual = path
        .extension()
        .is_some_and(|end| ENDINGS.iter().any(|&known| end == known));
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && (start == *b"PK\x03\x04" || usual && start[0] == 0x80)
}

fn shown(path: &Path) -> String {
    // Paths in messages use `/` on every system.
    path.display().to_string().replace('\\', "/")
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickled_checkpoints_are_recognised() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("write");
            path
        };
        assert!(is_pickled(&write("a.anything", b"PK\x03\x04rest")));
        assert!(is_pickled(&write("old.pt", b"\x80\x02}q")));
        assert!(!is_pickled(&write("b.bin", b"\x08\0\0\0\0\0\0\0{}")));
        assert_eq!(find(folder.path()), Some(folder.path().join("a.anything")));
        let index = write("pytorch_model.bin.index.json", b"{}");
        assert_eq!(find(folder.path()), Some(index));
        write("model.safetensors", b"");
        assert_eq!(find(folder.path()), None);
    }

    #[test]
    fn the_command_can_be_pasted() {
        assert_eq!(quoted("weights/a.bin"), "weights/a.bin");
        assert_eq!(quoted("my model's.bin"), r"'my model'\''s.bin'");
    }
}
