//! Files that are no safetensors, and are known all the same: what they are, and what to do with them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::de::IgnoredAny;

use crate::files::{self, Place};
use crate::text::quoted;

/// How an index of pickled shards ends.
pub(crate) const PICKLED_INDEX: &str = ".bin.index.json";
/// How a zip archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// Bytes of a file that tell what it is.
const START: u64 = 256;
/// The end of a zip archive, where the list of its entries is.
const END: u64 = 1 << 16;
/// An entry that every program of TorchScript has, and nothing else of `torch.save`.
const SCRIPT: &[u8] = b"/constants.pkl";

/// The first bytes of a file, as many as tell what it is.
pub(crate) fn start(file: impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.take(START).read_to_end(&mut start)?;
    Ok(start)
}

/// What a file is that cannot be read, by its first bytes and the names in an archive; `None` when
/// nobody knows it.
pub(crate) fn known(place: &Place, file: &File, start: &[u8]) -> Option<String> {
    if is_script(file, start) {
        return Some(script(&place.shown));
    }
    if is_pickled(start) {
        let out = place.shown.with_extension("safetensors");
        let what = "holds what PyTorch pickled, from byte 0";
        return Some(needs_python(what, &place.shown, &out));
    }
    if start.starts_with(ZIP) {
        let text = "holds a zip archive, from byte 0: unpack it, and name the checkpoint in it";
        return Some(text.into());
    }
    start.starts_with(b"version https://git-lfs").then(|| {
        let text = "holds a pointer of Git LFS, from byte 0, in place of the weights: run \
                    `git lfs pull`";
        text.into()
    })
}

/// What a JSON file is that is no index; `None` when nobody knows it.
pub(crate) fn known_json(text: &str) -> Option<&'static str> {
    #[derive(serde::Deserialize)]
    struct Known {
        recorder: Option<IgnoredAny>,
        pycandle_lock: Option<IgnoredAny>,
    }
    let known: Known = serde_json::from_str(text).ok()?;
    match (known.recorder, known.pycandle_lock) {
        (Some(_), _) => Some(
            "is the manifest of a trace, not a checkpoint: give it as the manifest, and as the weights \
             the file, index or folder that holds them",
        ),
        (_, Some(_)) => Some("is a lock, not a checkpoint: give the weights that it is of"),
        _ => None,
    }
}

/// What is said of an index of pickled shards.
pub(crate) fn pickled_index(place: &Place) -> String {
    let shown = place.shown.to_string_lossy();
    let stem = shown.strip_suffix(PICKLED_INDEX).unwrap_or(&shown);
    let out = format!("{stem}.safetensors");
    let what = "names files that PyTorch pickled";
    needs_python(what, &place.shown, Path::new(&out))
}

/// The pickled checkpoint of a folder that has no other: the index before its shards, and a model
/// before what a training run leaves beside it.
pub(crate) fn pickled_in(folder: &Place, names: &[String]) -> Option<String> {
    if let Some(index) = names.iter().find(|name| name.ends_with(PICKLED_INDEX)) {
        return Some(pickled_index(&folder.join(index)));
    }
    let mut names: Vec<_> = names.iter().collect();
    names.sort_by_key(|name| !name.contains("model"));
    let mut places = names.into_iter().map(|name| folder.join(name));
    places.find_map(|place| {
        let file = files::open_file(&place.path).ok()?;
        let start = start(&file).ok()?;
        (is_pickled(&start) || is_script(&file, &start)).then(|| known(&place, &file, &start))?
    })
}

/// Whether `torch.save` wrote it: an archive whose first entry is its pickle, or a bare pickle.
fn is_pickled(start: &[u8]) -> bool {
    let pickle = b"/data.pkl";
    let archive = start.starts_with(ZIP) && start.windows(pickle.len()).any(|part| part == pickle);
    archive || matches!(start, [0x80, 2..=5, ..])
}

/// Whether an archive is a program: its weights come first in it, under names like anyone's.
fn is_script(file: &File, start: &[u8]) -> bool {
    let has_script = |end: Vec<u8>| end.windows(SCRIPT.len()).any(|part| part == SCRIPT);
    start.starts_with(ZIP) && end(file).is_ok_and(has_script)
}

/// The last bytes of a file, as many as list what an archive holds.
fn end(mut file: &File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end)?;
    Ok(end)
}

/// What is said of a program of TorchScript.
fn script(weights: &Path) -> String {
    let (state, out) = (
        weights.with_extension("state_dict.bin"),
        weights.with_extension("safetensors"),
    );
    let text = |path: &Path| format!("{:?}", path.display().to_string().replace('\\', "/"));
    format!(
        "holds TorchScript, from byte 0, a program that only PyTorch runs: where you trust it, write \
         its weights in Python, `torch.save(torch.jit.load({}).state_dict(), {})`, run \
         `python -m pycandle unpickle {} --out {}`, and name {} instead",
        text(weights),
        text(&state),
        quoted(&state),
        quoted(&out),
        quoted(&out)
    )
}

fn needs_python(what: &str, weights: &Path, out: &Path) -> String {
    let (weights, out) = (quoted(weights), quoted(out));
    format!(
        "{what}, which only Python reads: run `python -m pycandle unpickle {weights} --out {out}`, \
         and name {out} instead"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_torch_saves_is_recognised() {
        // As torch 2.15 begins a file, and as it did before 1.6.
        let mut archive =
            b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0d".to_vec();
        assert!(!is_pickled(&archive));
        archive.extend(b"\0\x15\0model/data.pklFB");
        assert!(is_pickled(&archive));
        assert!(is_pickled(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."));
        assert!(!is_pickled(b"\x08\0\0\0\0\0\0\0{}"));
        assert!(!is_pickled(b""));
    }
}
