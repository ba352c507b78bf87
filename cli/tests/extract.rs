//! `cargo pycandle extract` as a user runs it, to the end and not to the end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pycandle_checkpoint::{Checkpoint, Dtype};
use pycandle_deepen::memory;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(name)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn command(manifest: &Path, weights: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
    command.args(["pycandle", "extract", "--manifest"]);
    command.arg(manifest).arg("--weights").arg(weights);
    command.arg("--out").arg(out).args(more);
    command
}

#[track_caller]
fn check(mut command: Command, code: i32, stderr: &str) -> Output {
    let output = command.output().expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(stderr), "expected `{stderr}` in `{error}`");
    output
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<_> = names.map(|name| name.expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_extracted_converted_and_counted() {
    let folder = folder();
    let out = folder.path().join("small.safetensors");
    let (manifest, weights) = (
        fixture("models/llama_manifest.json"),
        fixture("models/llama.safetensors"),
    );
    let run =
        |code, stderr, more: &[&str]| check(command(&manifest, &weights, &out, more), code, stderr);
    let done = run(0, "", &["--dtype", "bf16", "--json"]);
    let done = json(&done);
    assert_eq!(done["tensors"], 21);
    assert_eq!(done["files"][0], out.to_str().expect("text"));
    assert_eq!(done["bytes_in"], 72_320);
    assert!(done["seconds"].as_f64().is_some_and(|seconds| seconds > 0.));
    let checkpoint = Checkpoint::open(&out).expect("a checkpoint");
    assert_eq!(checkpoint.len(), 21);
    assert!(
        checkpoint
            .iter()
            .all(|tensor| tensor.dtype() == Dtype::BF16)
    );

    run(2, "replace it with --force", &[]);
    let done = run(0, "", &["--force", "--shard-size", "40kB"]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        text.contains("small-00001-of-00002.safetensors\n"),
        "{text}"
    );
    assert!(text.contains("small.safetensors.index.json\n"), "{text}");
    assert!(text.contains("21 tensors"), "{text}");
    run(2, "is no size", &["--shard-size", "5XB"]);
    run(2, "invalid value", &["--dtype", "int8"]);
}

/// The same bytes each time; `recorder/tests/test_extracted.py` reads these files with Python.
#[test]
fn extracted_files_are_those_that_python_reads() {
    for model in ["cnn", "gpt2"] {
        let folder = folder();
        let out = folder.path().join("out.safetensors");
        let (manifest, weights) = (
            fixture(&format!("models/{model}_manifest.json")),
            fixture(&format!("models/{model}.safetensors")),
        );
        check(command(&manifest, &weights, &out, &[]), 0, "");
        let kept = fixture(&format!("extracted/{model}.safetensors"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::copy(&out, &kept).expect("a writable folder");
        }
        let (ours, kept) = (std::fs::read(&out), std::fs::read(&kept));
        assert!(
            ours.expect("a file") == kept.expect("a file"),
            "{model} differs"
        );
    }
}

/// Keys with another prefix are found by a rule, and written under the trace's names.
#[test]
fn keys_are_renamed() {
    let folder = folder();
    let (renamed, out) = (
        folder.path().join("renamed.safetensors"),
        folder.path().join("out.safetensors"),
    );
    let source = fixture("models/llama.safetensors");
    let bytes = std::fs::read(&source).expect("a file");
    let (len, rest) = bytes.split_first_chunk().expect("8 bytes");
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let header = std::str::from_utf8(header).expect("text");
    let header = header.replace("\"model.layers.", "\"decoder.h.");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    std::fs::write(&renamed, file).expect("a file");
    let manifest = fixture("models/llama_manifest.json");
    let told = r"if so, add --rename '^decoder\.h\.=model.layers.'";
    check(command(&manifest, &renamed, &out, &[]), 1, told);
    let rule = ["--rename", r"^decoder\.h\.=model.layers."];
    check(command(&manifest, &renamed, &out, &rule), 0, "");
    let ours = Checkpoint::open(&out).expect("a checkpoint");
    let theirs = Checkpoint::open(&source).expect("a checkpoint");
    assert_eq!(ours.len(), theirs.len());
    assert!(
        theirs
            .iter()
            .all(|tensor| ours.get(tensor.name()).is_some())
    );
}

/// From llama.cpp's names and rows to the trace's, and what stands in its way, all at once.
#[test]
fn gguf_is_extracted_by_dequantizing_on_request() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    let manifest = fixture("models/llama_manifest.json");
    let weights = fixture("gguf/llama_Q8_0.gguf");
    let told = check(
        command(&manifest, &weights, &out, &["--json"]),
        2,
        "--dtype bf16",
    );
    assert!(
        json(&told)["error"]
            .as_str()
            .is_some_and(|text| text.contains("blocks"))
    );
    check(
        command(&manifest, &weights, &out, &["--dtype", "f32"]),
        0,
        "",
    );
    let ours = Checkpoint::open(&out).expect("a checkpoint");
    assert!(ours.iter().all(|tensor| tensor.dtype() == Dtype::F32));
    assert!(ours.get("model.layers.1.self_attn.q_proj.weight").is_some());
}

#[test]
fn a_checkpoint_that_does_not_fit_is_told_in_full() {
    let folder = folder();
    let out = folder.path().join("out.safetensors");
    let (manifest, bert) = (
        fixture("models/llama_manifest.json"),
        fixture("models/bert.safetensors"),
    );
    let told = check(
        command(&manifest, &bert, &out, &["--json"]),
        1,
        "missing (21)",
    );
    assert_eq!(json(&told)["findings"][0]["class"], "missing");
    assert_eq!(json(&told)["findings"][0]["count"], 21);
    check(command(&bert, &bert, &out, &[]), 1, "bert.safetensors");
    let absent = Path::new("absent.safetensors");
    check(
        command(&manifest, absent, &out, &[]),
        1,
        "absent.safetensors",
    );
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_pickled_checkpoint_is_answered_with_the_command_that_converts_it() {
    let folder = folder();
    let pickled = folder.path().join("pytorch_model.bin");
    std::fs::write(&pickled, b"\x80\x02}q\0.").expect("a file");
    let out = folder.path().join("out.safetensors");
    let manifest = fixture("models/llama_manifest.json");
    for weights in [&*pickled, folder.path()] {
        let told = check(
            command(&manifest, weights, &out, &[]),
            1,
            "holds what PyTorch pickled",
        );
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        let line = format!("python -m pycandle unpickle {}", pickled.display());
        assert!(told.contains(&line), "{told}");
    }
    assert_eq!(names(folder.path()), ["pytorch_model.bin"]);
}

/// A model of one large tensor, which takes a while to write, and a sparse file with it.
fn large(folder: &Path, gigabytes: u64) -> (PathBuf, PathBuf) {
    let rows = gigabytes * 250_000;
    let text = std::fs::read_to_string(fixture("ui/fixtures/tiny_manifest.json"));
    let mut manifest: serde_json::Value =
        serde_json::from_str(&text.expect("a manifest")).expect("JSON");
    let mut other = manifest["parameters"][0].clone();
    other["name"] = "large".into();
    other["shape"] = serde_json::json!([rows, 1000]);
    manifest["parameters"]
        .as_array_mut()
        .expect("a list")
        .push(other);
    let path = folder.join("large_manifest.json");
    std::fs::write(&path, manifest.to_string()).expect("a file");

    let end = 48 + rows * 4000;
    let header = serde_json::json!({
        "fc.weight": { "dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48] },
        "large": { "dtype": "F32", "shape": [rows, 1000], "data_offsets": [48, end] },
    });
    let header = header.to_string();
    let weights = folder.join("large.safetensors");
    let mut file = std::fs::File::create(&weights).expect("a file");
    let len = header.len() as u64;
    file.write_all(&len.to_le_bytes()).expect("a write");
    file.write_all(header.as_bytes()).expect("a write");
    file.set_len(8 + len + end).expect("a sparse file");
    (path, weights)
}

/// A run that has begun to write: its part is there.
fn started(mut command: Command, into: &Path) -> Child {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program runs");
    let begun = Instant::now();
    while !names(into)
        .iter()
        .any(|name| name.ends_with(".pycandle-part"))
    {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing was begun"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn a_killed_run_leaves_a_part_that_the_next_one_removes() {
    let (source, target) = (folder(), folder());
    let (manifest, weights) = large(source.path(), 4);
    let out = target.path().join("out.safetensors");
    let mut child = started(command(&manifest, &weights, &out, &[]), target.path());
    child.kill().expect("a kill");
    let status = child.wait().expect("an end");
    assert!(!status.success(), "it was done before it was killed");
    let left = names(target.path());
    assert!(
        left.len() == 1 && left[0].ends_with(".pycandle-part"),
        "{left:?}"
    );
    let (manifest, weights) = (
        fixture("models/llama_manifest.json"),
        fixture("models/llama.safetensors"),
    );
    check(command(&manifest, &weights, &out, &[]), 0, "");
    assert_eq!(names(target.path()), ["out.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_cancelled_run_leaves_nothing() {
    let hangup = cfg!(target_os = "linux").then_some("HUP");
    for signal in ["INT", "TERM"].into_iter().chain(hangup) {
        let (source, target) = (folder(), folder());
        let (manifest, weights) = large(source.path(), 4);
        let out = target.path().join("out.safetensors");
        let plain = command(&manifest, &weights, &out, &[]);
        // Whoever runs the tests may have had it ignored.
        let command = match signal {
            "HUP" => {
                let mut command = Command::new("env");
                command.arg("--default-signal=HUP").arg(plain.get_program());
                command.args(plain.get_args());
                command
            }
            _ => plain,
        };
        let child = started(command, target.path());
        let sent = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        let output = child.wait_with_output().expect("an end");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{signal}: {error}");
        assert!(error.contains("cancelled: nothing was written"), "{error}");
        assert!(
            names(target.path()).is_empty(),
            "{:?}",
            names(target.path())
        );
    }
}

/// Whoever closes the terminal of a run that is to outlive it does not end it.
#[cfg(unix)]
#[test]
fn a_run_goes_on_when_its_terminal_is_closed() {
    let (source, target) = (folder(), folder());
    let (manifest, weights) = large(source.path(), 4);
    let out = target.path().join("out.safetensors");
    let plain = command(&manifest, &weights, &out, &[]);
    let mut command = Command::new("nohup");
    command.arg(plain.get_program()).args(plain.get_args());
    let child = started(command, target.path());
    let sent = Command::new("kill")
        .args(["-s", "HUP", &child.id().to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("an end");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(names(target.path()), ["out.safetensors"]);
}

/// A limit of the file size stands for a full disk: the write fails in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    let (source, target) = (folder(), folder());
    let (manifest, weights) = large(source.path(), 1);
    let out = target.path().join("out.safetensors");
    std::fs::write(&out, "earlier").expect("a file");
    let inner = command(&manifest, &weights, &out, &["--force"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 65536; exec \"$0\" \"$@\""]);
    limited.arg(inner.get_program()).args(inner.get_args());
    let output = check(limited, 2, "out.safetensors: File too large");
    let error = String::from_utf8_lossy(&output.stderr);
    let needed = "the output takes 1000000048 bytes, make room for all of it";
    assert!(error.contains(needed), "{error}");
    assert_eq!(names(target.path()), ["out.safetensors"]);
    assert_eq!(std::fs::read(&out).expect("a file"), b"earlier");
}

/// The whole program, as the system counts it, stays small beside a large model.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_model() {
    let (source, target) = (folder(), folder());
    let (manifest, weights) = large(source.path(), 2);
    let out = target.path().join("out.safetensors");
    let mut child = started(command(&manifest, &weights, &out, &[]), target.path());
    let process = child.id().to_string();
    let mut most = 0;
    while child.try_wait().expect("a child").is_none() {
        most = most.max(memory::of(&process, "VmHWM"));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().expect("an end").success());
    assert!(most > 1 << 20, "nothing was measured");
    assert!(most < 64 << 20, "{most}");
    let bytes = out.metadata().expect("a file").len();
    assert!(bytes > 2_000_000_000, "{bytes}");
}
