//! What people have instead of safetensors: they are told what it is, and which command helps.

use std::fs;
use std::path::Path;

use pycandle_checkpoint::Checkpoint;

/// As torch 2.15 begins a file.
const ARCHIVE: &[u8] =
    b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0d\0\x15\0model/data.pklFB";
/// As torch began one before 1.6.
const PICKLE: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";

/// Writes these files into a folder and opens one of them, or the folder; `w` stands for it.
#[track_caller]
fn check(files: &[(&str, &[u8])], open: &str, expected: &str) {
    let folder = crate::folder();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("a writable folder");
    }
    let (path, shown) = match open {
        "" => (folder.path().to_path_buf(), Path::new("w").to_path_buf()),
        name => (folder.path().join(name), Path::new("w").join(name)),
    };
    let error = Checkpoint::open_shown(&path, &shown).expect_err("no checkpoint");
    assert_eq!(error.to_string(), expected);
}

fn command(held: &str, from: &str, to: &str) -> String {
    format!(
        "{held}, which only Python reads: run `python -m pycandle unpickle {from} --out {to}`, and \
         name {to} instead"
    )
}

#[test]
fn a_pickled_file_is_named_with_the_command_that_converts_it() {
    let held = "holds what PyTorch pickled, from byte 0";
    for (name, bytes) in [("m.bin", ARCHIVE), ("m.zip", ARCHIVE), ("m.pt", PICKLE)] {
        let said = command(held, &format!("w/{name}"), "w/m.safetensors");
        check(&[(name, bytes)], name, &format!("w/{name}: {said}"));
        check(&[(name, bytes)], "", &format!("w: {said}"));
    }
    let said = command(held, "w/pytorch_model.bin", "w/pytorch_model.safetensors");
    let files = [
        ("config.json", &b"{}"[..]),
        ("optimizer.pt", ARCHIVE),
        ("pytorch_model.bin", ARCHIVE),
    ];
    check(&files, "", &format!("w: {said}"));
}

#[test]
fn an_index_of_pickled_files_is_one_problem() {
    let name = "pytorch_model.bin.index.json";
    let index = br#"{"weight_map":{"a":"pytorch_model-00001-of-00002.bin"}}"#;
    let said = command(
        "names files that PyTorch pickled",
        &format!("w/{name}"),
        "w/pytorch_model.safetensors",
    );
    let files = [
        (name, &index[..]),
        ("pytorch_model-00001-of-00002.bin", ARCHIVE),
    ];
    check(&files, name, &format!("w/{name}: {said}"));
    check(&files, "", &format!("w: {said}"));
}

/// As torch 2.15 writes a scripted module: weights, pickle, code, constants; the list of them last.
#[test]
fn a_program_of_torchscript_is_no_checkpoint() {
    let mut script = b"PK\x03\x04\0\0\x08\x08model/data/0".to_vec();
    script.extend(vec![0; 100_000]);
    let listed = script.len();
    for name in [
        "data/0",
        "data.pkl",
        "code/__torch__/m.py",
        "constants.pkl",
        "version",
    ] {
        script.extend([b"PK\x01\x02model/", name.as_bytes()].concat());
    }
    let said = "holds TorchScript, from byte 0, a program that only PyTorch runs: where you trust it, \
                write its weights in Python, `torch.save(torch.jit.load(\"w/m.pt\").state_dict(), \
                \"w/m.state_dict.bin\")`, run `python -m pycandle unpickle w/m.state_dict.bin --out \
                w/m.safetensors`, and name w/m.safetensors instead";
    check(&[("m.pt", &script)], "m.pt", &format!("w/m.pt: {said}"));
    check(&[("m.pt", &script)], "", &format!("w: {said}"));
    let without = &script[..listed];
    let zip = "holds a zip archive, from byte 0: unpack it, and name the checkpoint in it";
    check(&[("m.pt", without)], "m.pt", &format!("w/m.pt: {zip}"));
}

#[test]
fn what_else_is_found_in_place_of_weights() {
    check(
        &[("m.safetensors", b"PK\x03\x04of something else")],
        "m.safetensors",
        "w/m.safetensors: holds a zip archive, from byte 0: unpack it, and name the checkpoint in it",
    );
    for open in ["m.safetensors", ""] {
        check(
            &[("m.safetensors", POINTER)],
            open,
            "w/m.safetensors: holds a pointer of Git LFS, from byte 0, in place of the weights: run \
             `git lfs pull`",
        );
    }
}

/// A good file is read whatever its first bytes say: they are the length of its header.
#[test]
fn a_good_header_of_an_odd_length_is_no_pickle() {
    let json = format!("{{}}{}", " ".repeat(0x0280 - 2));
    let bytes = crate::header(&json, 0);
    assert!(bytes.starts_with(&[0x80, 2]));
    assert!(crate::outcome(&bytes).is_ok());
}

#[test]
fn an_interrupted_download_is_named_by_what_is_absent() {
    let file = crate::header("{}", 0);
    let check = |names: &[&str], expected: &str| {
        let files: Vec<_> = names.iter().map(|name| (*name, &*file)).collect();
        let rest = "not there, by the names of the shards that are: download the rest of the \
                    checkpoint into this folder";
        check(&files, "", &format!("w: {expected} {rest}"));
    };
    check(
        &["model-00001-of-00002.safetensors"],
        "`model-00002-of-00002.safetensors` is",
    );
    check(
        &["a-00002-of-00003.gguf"],
        "`a-00001-of-00003.gguf`, `a-00003-of-00003.gguf` are",
    );
    check(
        &[
            "m-00002-of-00061.safetensors",
            "m-00061-of-00061.safetensors",
            "other.safetensors",
        ],
        "`m-00001-of-00061.safetensors`, `m-00003-of-00061.safetensors`, \
         `m-00004-of-00061.safetensors` and 56 more are",
    );
    check(
        &["m-00007-of-18446744073709551615.safetensors"],
        "`m-00000000000000000001-of-18446744073709551615.safetensors`, \
         `m-00000000000000000002-of-18446744073709551615.safetensors`, \
         `m-00000000000000000003-of-18446744073709551615.safetensors` and 18446744073709551611 more \
         are",
    );
}

#[test]
fn names_that_only_look_like_those_of_shards() {
    let folder = crate::folder();
    let whole = [
        "m-00001-of-00002",
        "m-00002-of-00002",
        "x-3-of-2",
        "x-1-of-0",
        "best-of-3",
    ];
    for (i, name) in whole.iter().enumerate() {
        let json = format!(r#"{{"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#);
        let path = folder.path().join(format!("{name}.safetensors"));
        fs::write(path, crate::header(&json, 0)).expect("a writable folder");
    }
    // Of `x` there is no second, and no first of two.
    let error = Checkpoint::open(folder.path())
        .expect_err("gaps")
        .to_string();
    assert!(
        error.contains("`x-1-of-2.safetensors`, `x-2-of-2.safetensors` are"),
        "{error}"
    );
    fs::remove_file(folder.path().join("x-3-of-2.safetensors")).expect("removed");
    assert_eq!(Checkpoint::open(folder.path()).map(|c| c.len()), Ok(4));
}

/// Nobody writes to these pipes: to open one is to wait for ever.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    for (pipe, open, text) in [
        ("m.safetensors", "m.safetensors", "is neither"),
        ("m.safetensors", "", "m.safetensors: is neither"),
        (
            "m.safetensors.index.json",
            "",
            "m.safetensors.index.json: is neither",
        ),
        ("pytorch_model.bin", "", "folder holds no"),
    ] {
        let folder = crate::folder();
        let status = std::process::Command::new("mkfifo")
            .arg(folder.path().join(pipe))
            .status();
        assert!(status.is_ok_and(|status| status.success()), "no pipe");
        let path = folder.path().join(open);
        let error = in_time(move || Checkpoint::open(path)).expect_err("no file");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_config_that_is_no_file_is_not_waited_for() {
    let folder = crate::folder();
    let path = folder.path().join("config.json");
    let status = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(status.is_ok_and(|status| status.success()), "no pipe");
    let error = in_time(move || pycandle_checkpoint::config_at(&path, Path::new("c")));
    let text = error.expect_err("no file").to_string();
    assert_eq!(text, "c: is neither a file nor a folder");
}

/// What a function returns that would else never do so.
#[cfg(unix)]
fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(run()));
    let waited = receiver.recv_timeout(std::time::Duration::from_secs(60));
    waited.expect("an answer, without waiting for the pipe")
}
