//! What is refused, what is replaced, and what is left when a run does not come to its end.

use std::path::Path;

use pycandle_checkpoint::Dtype;
use pycandle_checkpoint::extract::Options;

use super::{
    extract, extract_while, fixture, folder, names, needs_of, read, refused, write, written,
};

fn force() -> Options {
    Options {
        force: true,
        ..Options::default()
    }
}

/// The llama fixture, copied into a folder.
fn copy(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("source.safetensors");
    std::fs::copy(fixture("models/llama.safetensors"), &source).expect("a copy");
    source
}

#[test]
fn an_output_is_replaced_only_by_force() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let out = folder.path().join("out.safetensors");
    let needs = needs_of(&source);
    std::fs::write(&out, "mine").expect("a file");
    refused(
        extract(&needs, &source, &out, &Options::default()),
        "replace it with --force",
    );
    assert_eq!(std::fs::read(&out).expect("a file"), b"mine");
    written(extract(&needs, &source, &out, &force()));
    assert!(read(&out, true) == read(&source, false));
    assert_eq!(names(folder.path()), ["out.safetensors"]);
}

/// Who may not read the source may not read what is made of it.
#[cfg(unix)]
#[test]
fn an_output_is_as_private_as_its_source() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let source = copy(folder.path());
    let needs = needs_of(&source);
    let mode = |path: &Path| path.metadata().expect("a file").permissions().mode() & 0o777;
    let new = folder.path().join("new");
    std::fs::write(&new, "").expect("a file");
    let sharded = Options {
        shard_size: Some(50_000),
        ..force()
    };
    for (stored, expected) in [(0o600, 0o600), (0o440, 0o640), (0o777, 0o666)] {
        let permissions = std::fs::Permissions::from_mode(stored);
        std::fs::set_permissions(&source, permissions).expect("permissions");
        for options in [force(), sharded.clone()] {
            let out = folder.path().join("out.safetensors");
            for file in written(extract(&needs, &source, &out, &options)).files {
                // What this process gives no file is not given either.
                assert_eq!(mode(&file), expected & mode(&new) | expected & 0o600);
            }
        }
    }
}

/// Shards of an earlier run do not stay beside a single file, nor the other way round.
#[test]
fn nothing_of_an_earlier_output_stays() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let out = folder.path().join("out.safetensors");
    let needs = needs_of(&source);
    let sharded = |size| Options {
        shard_size: Some(size),
        ..force()
    };
    let many = written(extract(&needs, &source, &out, &sharded(10_000)))
        .files
        .len();
    std::fs::write(folder.path().join("out-notes.safetensors"), "mine").expect("a file");
    refused(
        extract(&needs, &source, &out, &Options::default()),
        "--force",
    );
    let few = written(extract(&needs, &source, &out, &sharded(30_000)))
        .files
        .len();
    assert!(few < many);
    assert_eq!(names(folder.path()).len(), few + 1);
    written(extract(&needs, &source, &out, &force()));
    assert_eq!(
        names(folder.path()),
        ["out-notes.safetensors", "out.safetensors"]
    );
    written(extract(&needs, &source, &out, &sharded(10_000)));
    assert_eq!(names(folder.path()).len(), many + 1);
    assert!(!out.exists());
}

/// Files that have the names of an earlier output, and are none, are somebody's checkpoint.
#[test]
fn what_nobody_extracted_is_not_removed() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let (out, needs) = (folder.path().join("out.safetensors"), needs_of(&source));
    let shard = folder.path().join("out-00001-of-00001.safetensors");
    let index = folder.path().join("out.safetensors.index.json");
    std::fs::copy(&source, &shard).expect("a copy");
    std::fs::write(&index, "{}").expect("a file");
    let text = extract(&needs, &source, &out, &force()).expect_err("two files of others");
    for name in [
        "out-00001-of-00001.safetensors",
        "out.safetensors.index.json",
    ] {
        let line = format!("`{name}` would be removed with an earlier output, and was not written");
        assert!(text.contains(&line), "{text}");
    }
    assert!(shard.exists() && index.exists() && !out.exists());

    // The one file that is named is replaced, whoever wrote it.
    std::fs::remove_file(&shard).expect("a file");
    std::fs::remove_file(&index).expect("a file");
    std::fs::copy(&source, &out).expect("a copy");
    written(extract(&needs, &source, &out, &force()));
}

#[test]
fn the_source_is_never_written_to() {
    let folder = folder();
    let source = copy(folder.path());
    let needs = needs_of(&source);
    let before = std::fs::read(&source).expect("a file");
    let own = "is the source itself";
    refused(extract(&needs, &source, &source, &force()), own);
    let roundabout = folder
        .path()
        .join("../")
        .join(folder.path().file_name().expect("a name"));
    refused(
        extract(
            &needs,
            &source,
            &roundabout.join("source.safetensors"),
            &force(),
        ),
        own,
    );
    let inside = folder.path().join("inner");
    std::fs::create_dir(&inside).expect("a folder");
    let within = "is the source: write somewhere else";
    for out in [
        folder.path().join("new.safetensors"),
        inside.join("new.safetensors"),
    ] {
        refused(extract(&needs, folder.path(), &out, &force()), within);
    }
    #[cfg(unix)]
    {
        let linked = folder.path().join("linked.safetensors");
        std::fs::hard_link(&source, &linked).expect("a link");
        refused(extract(&needs, &source, &linked, &force()), own);
        std::fs::remove_file(&linked).expect("a file");
        std::os::unix::fs::symlink(&source, &linked).expect("a link");
        refused(extract(&needs, &source, &linked, &force()), own);
        std::fs::remove_file(&linked).expect("a file");
        // A shard of the same family, though not the file that would be written.
        let shard = folder.path().join("out-00001-of-00002.safetensors");
        std::fs::hard_link(&source, &shard).expect("a link");
        refused(
            extract(
                &needs,
                &source,
                &folder.path().join("out.safetensors"),
                &force(),
            ),
            own,
        );
    }
    assert!(std::fs::read(&source).expect("a file") == before);
}

#[test]
fn all_problems_are_said_at_once() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    std::fs::write(&out, "mine").expect("a file");
    let needs = needs_of(&fixture("models/llama.safetensors"));
    let source = fixture("gguf/llama_Q8_0.gguf");
    let outcome = extract(&needs, &source, &out, &Options::default());
    refused(outcome.clone(), "--force");
    refused(outcome, "--dtype bf16, f16 or f32");
    for wrong in ["out.bin", "absent/out.safetensors", ".safetensors", ""] {
        let outcome = extract(
            &needs,
            &source,
            &folder.path().join(wrong),
            &Options::default(),
        );
        assert!(outcome.is_err(), "{wrong}");
    }
    assert_eq!(names(folder.path()), ["out.safetensors"]);
}

#[test]
fn a_stopped_run_leaves_nothing() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let out = folder.path().join("out.safetensors");
    let needs = needs_of(&source);
    for shard_size in [None, Some(10_000)] {
        let options = Options {
            shard_size,
            ..force()
        };
        let left = std::sync::atomic::AtomicUsize::new(8);
        let go_on = |_| {
            assert!(!out.exists());
            left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 1
        };
        assert_eq!(
            extract_while(&needs, &source, &out, &options, &go_on),
            Ok(None)
        );
        assert!(names(folder.path()).is_empty());
    }
    // What was there before a run that is stopped is still there.
    std::fs::write(&out, "mine").expect("a file");
    assert_eq!(
        extract_while(&needs, &source, &out, &force(), &|_| false),
        Ok(None)
    );
    assert_eq!(names(folder.path()), ["out.safetensors"]);
    assert_eq!(std::fs::read(&out).expect("a file"), b"mine");
}

/// A source that is cut under the reader's hands is an error, not a crash or half a file.
#[test]
fn a_source_that_is_cut_meanwhile_is_an_error() {
    let folder = folder();
    let source = folder.path().join("source.safetensors");
    let tensors: [(_, _, &[usize]); 2] =
        [("a", Dtype::U8, &[4 << 20]), ("b", Dtype::U8, &[64 << 20])];
    write(&source, &tensors);
    let out = folder.path().join("out.safetensors");
    let cut = |_| {
        let file = std::fs::File::options().write(true).open(&source);
        file.and_then(|file| file.set_len(5 << 20)).is_ok()
    };
    refused(
        extract_while(&needs_of(&source), &source, &out, &Options::default(), &cut),
        "are gone: the file was cut while it was read",
    );
    assert_eq!(names(folder.path()), ["source.safetensors"]);
}

#[test]
fn parts_of_dead_runs_are_removed_and_of_living_ones_kept() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let part = |number: u32| {
        folder
            .path()
            .join(format!(".x.safetensors.{number}.pycandle-part"))
    };
    std::fs::write(part(1), "dead").expect("a file");
    std::fs::write(part(2), "alive").expect("a file");
    let alive = std::fs::File::open(part(2)).expect("a file");
    alive.lock().expect("a lock");
    let out = folder.path().join("out.safetensors");
    written(extract(
        &needs_of(&source),
        &source,
        &out,
        &Options::default(),
    ));
    assert_eq!(
        names(folder.path()),
        [".x.safetensors.2.pycandle-part", "out.safetensors"]
    );
}
