//! `lock` and `check` as a user and a CI machine run them.

mod package;
mod source;

use std::path::Path;
use std::process::{Command, Output};

use pycandle_test_checkpoints::cases;

use package::{ATTRIBUTE, CODEGEN, LOCK, Package, WEIGHTS};

#[test]
fn a_build_goes_on_without_the_weights() {
    let package = Package::new();
    let codegen = [CODEGEN, &["--out", "-"]].concat();
    let source = package.gives(&codegen, 0, &["pub struct Llama"]);
    package.gives(
        &["lock", "--weights", WEIGHTS],
        0,
        &["wrote m/model.safetensors.lock.json"],
    );
    let lock = package.read(LOCK);
    package.gives(&["lock", "--weights", WEIGHTS], 0, &["is up to date"]);
    assert_eq!(
        package.gives(&["lock", "--weights", WEIGHTS, "--out", "-"], 0, &[]),
        lock
    );
    let folder = package.path("");
    let folder = folder.to_str().expect("text").trim_end_matches('/');
    assert!(!lock.contains(folder));
    package.gives(&["check"], 0, &["src/lib.rs (Llama): m/llama_manifest.json + m/model.safetensors: manifest, lock and weights agree"]);

    std::fs::rename(package.path(WEIGHTS), package.path("elsewhere")).expect("renamed");
    assert_eq!(package.gives(&codegen, 0, &[]), source);
    package.gives(
        &["check"],
        0,
        &["manifest and lock agree", "the weights are absent"],
    );
    package.gives(
        &["lock", "--weights", WEIGHTS],
        1,
        &["no checkpoint at `m/model.safetensors`"],
    );
    assert_eq!(package.read(LOCK), lock);

    std::fs::remove_file(package.path(LOCK)).expect("removed");
    package.gives(
        &["check"],
        1,
        &[
            "FAILED",
            "no lock `m/model.safetensors.lock.json`",
            "run: cargo pycandle lock --weights m/model.safetensors",
        ],
    );
}

#[test]
fn check_tells_ci_what_does_not_agree() {
    let package = Package::new();
    package.gives(&["check"], 0, &["there is no lock"]);
    package.gives(&["lock", "--weights", WEIGHTS], 0, &[]);
    let lock = package.read(LOCK);
    let stale = cases()
        .into_iter()
        .find(|case| case.name == "shape")
        .expect("a case");
    stale.write(&package.path("m")).expect("files");
    package.gives(
        &["check"],
        1,
        &[
            "does not describe the checkpoint",
            " in the lock, ",
            "lock it again: cargo pycandle lock --weights m/model.safetensors",
        ],
    );
    let json = package.json(&["check", "--json"]);
    assert_eq!(
        (&json["ok"], &json["checks"][0]["ok"]),
        (&false.into(), &false.into())
    );

    // Locked again, it is the model that it does not fit.
    package.gives(&["lock", "--weights", WEIGHTS], 0, &["wrote"]);
    package.gives(
        &["check"],
        1,
        &["checkpoint does not match the model", "shape: "],
    );
    let json = package.json(&["check", "--json"]);
    assert_eq!(json["checks"][0]["findings"][0]["class"], "shape");
    // The weights alone agree with their lock.
    package.gives(
        &["check", "--weights", WEIGHTS],
        0,
        &["lock and weights agree"],
    );
    package.gives(
        &["check", "--manifest", "m/llama_manifest.json"],
        0,
        &["the manifest is sound"],
    );

    package.write(
        LOCK,
        &lock.replacen("  \"files\"", "<<<<<<< HEAD\n  \"files\"", 1),
    );
    package.gives(
        &["check"],
        1,
        &[
            "line 5: is in the middle of a merge conflict",
            "write it again where the weights are",
        ],
    );
    package.gives(&["lock", "--weights", WEIGHTS], 0, &["wrote"]);
    // What is spoiled where builds look for a lock can be written again, another file cannot.
    for spoiled in ["", "{\"mine\": 1}"] {
        package.write(LOCK, spoiled);
        let error = ["is not a lock that can be used", "write it again"];
        package.gives(&["check"], 1, &error);
        package.gives(&["lock", "--weights", WEIGHTS], 0, &["wrote"]);
    }
    package.write("mine.json", "{\"mine\": 1}");
    package.gives(
        &["lock", "--weights", WEIGHTS, "--out", "mine.json"],
        2,
        &["is no lock: choose another file"],
    );
}

/// A lock that nothing names is found by its name too, when it is spoiled.
/// Layers that changed places are the same to a build, which reads them by their names.
#[test]
fn check_sees_that_the_file_is_another() {
    let package = Package::new();
    package.gives(&["lock", "--weights", WEIGHTS], 0, &[]);
    let bytes = std::fs::read(package.path(WEIGHTS)).expect("weights");
    let (len, rest) = bytes.split_at(8);
    let end = u64::from_le_bytes(len.try_into().expect("a length")) as usize;
    let header = std::str::from_utf8(&rest[..end]).expect("a header");
    let swapped = header.replace("layers.0.", "layers.X.");
    let swapped = swapped.replace("layers.1.", "layers.0.");
    let swapped = swapped.replace("layers.X.", "layers.1.");
    assert_ne!(swapped, header);
    let swapped = [len, swapped.as_bytes(), &rest[end..]].concat();
    std::fs::write(package.path(WEIGHTS), swapped).expect("written");
    package.gives(
        &[CODEGEN, &["--out", "-"]].concat(),
        0,
        &["pub struct Llama"],
    );
    package.gives(
        &["check"],
        1,
        &[
            "file model.safetensors: its header is not the one that was locked",
            "lock it again: cargo pycandle lock --weights m/model.safetensors",
        ],
    );
    package.gives(&["lock", "--weights", WEIGHTS], 0, &["wrote"]);
    package.gives(&["check"], 0, &["manifest, lock and weights agree"]);
}

#[test]
fn check_finds_spoiled_locks() {
    let package = Package::new();
    package.write("src/lib.rs", "");
    package.write("packages.lock.json", "{\"another\": \"tool\"}");
    package.gives(&["check"], 2, &["nothing to check"]);
    package.write("m/other.safetensors.lock.json", "{}");
    package.write("folder.lock.json", "");
    let text = package.gives(
        &["check"],
        1,
        &[
            "FAILED  folder\n        `folder.lock.json` is not a lock that can be used",
            "FAILED  m/other.safetensors\n",
        ],
    );
    assert_eq!(text.matches("m/other.safetensors\n").count(), 2, "{text}");
}

/// What cannot be read is said, and is no agreement in silence.
#[test]
fn check_says_what_was_not_compared() {
    let package = Package::new();
    for (config, said) in [
        (
            "{",
            "unread: m/config.json is no JSON object, and was not compared",
        ),
        (
            "[1]",
            "unread: m/config.json is no JSON object, and was not compared",
        ),
    ] {
        package.write("m/config.json", config);
        package.gives(&["check"], 0, &[&format!("        warning: {said}")]);
        let json = package.json(&["check", "--json"]);
        assert_eq!(json["checks"][0]["warnings"], serde_json::json!([said]));
    }
    std::fs::remove_file(package.path("m/config.json")).expect("removed");
    std::fs::create_dir(package.path("m/config.json")).expect("a folder");
    let said = "warning: unread: no config was compared: m/config.json: ";
    package.gives(&["check"], 0, &[said]);
    package.gives(&[CODEGEN, &["--out", "-"]].concat(), 0, &[said]);
    let inspect = [
        "inspect",
        "--manifest",
        "m/llama_manifest.json",
        "--weights",
        WEIGHTS,
    ];
    package.gives(&inspect, 0, &[said]);
    // A note is no warning, and is shown.
    let json = package.json(&["check", "--json"]);
    let tied = cases().into_iter().find(|case| case.name == "fits_tied");
    tied.expect("a case")
        .write(&package.path("t"))
        .expect("files");
    assert_eq!(json["checks"][0]["notes"], serde_json::json!([]));
    package.write("src/lib.rs", &ATTRIBUTE.replace("m/", "t/"));
    package.gives(&["check"], 0, &["        tied: lm_head.weight is absent"]);
    let json = package.json(&["check", "--json"]);
    assert_eq!(json["checks"][0]["notes"].as_array().map(Vec::len), Some(1));
}

/// What mends a model is written as the source that names it.
/// A lock says of every checkpoint that does not fit what the files say of it.
#[test]
fn a_lock_is_judged_as_the_files_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = || Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
    let said = |output: Output| {
        let text = String::from_utf8(output.stderr).expect("text");
        // Where the checkpoint and its config are differs, and with it what to record again.
        let lines = text
            .lines()
            .filter(|line| !line.contains("--> ") && !line.contains("record again"));
        lines
            .map(|line| line.replace("model.safetensors.lock.json", "config.json"))
            .map(|line| line.replace("model.gguf.lock.json", "model.gguf"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let mut compared = 0;
    for case in cases() {
        let here = folder.path().join(case.name);
        case.write(&here).expect("files");
        let run = |args: &[&str]| {
            program()
                .current_dir(&here)
                .args(args)
                .output()
                .expect("it runs")
        };
        let codegen = || {
            let mut args = vec![
                "codegen".to_owned(),
                "--manifest=llama_manifest.json".into(),
            ];
            args.push(format!("--weights={}", case.weights));
            args.extend(
                case.rename
                    .iter()
                    .map(|(from, to)| format!("--rename={from}={to}")),
            );
            args.extend(case.strict.then(|| "--strict".to_owned()));
            args.push("--out=-".into());
            run(&args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        if case.weights == "." {
            continue;
        }
        let with_files = codegen();
        let locked = run(&["lock", "--weights", case.weights]);
        let cannot = |line: &&str| line.starts_with("cannot use the checkpoint");
        if case.report.first().is_some_and(cannot) {
            assert_eq!(said(locked), said(with_files), "{}", case.name);
            continue;
        }
        assert!(locked.status.success(), "{}: {}", case.name, said(locked));
        for (name, _) in &case.files {
            if Path::new(name) != Path::new("llama_manifest.json") {
                std::fs::remove_file(here.join(name)).expect("removed");
            }
        }
        let with_lock = codegen();
        assert_eq!(with_lock.stdout, with_files.stdout, "{}", case.name);
        assert_eq!(said(with_lock), said(with_files), "{}", case.name);
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
}
