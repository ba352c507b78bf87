//! `lock` and `check` as a user and a CI machine run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pycandle_test_checkpoints::cases;
use serde_json::Value;

/// A package with a model, its weights and `build.rs`.
struct Package(tempfile::TempDir);

const ATTRIBUTE: &str = r#"
/// Not `#[pycandle_model(manifest = "in/a/comment.json")]`.
#[pycandle::pycandle_model(manifest = "m/llama_manifest.json", weights = "m/model.safetensors")]
/// Documented.
pub struct Llama;
"#;

impl Package {
    fn new() -> Self {
        let package = Self(tempfile::tempdir().expect("a folder"));
        let tied = cases().into_iter().find(|case| case.report.is_empty());
        tied.expect("a case that fits")
            .write(&package.path("m"))
            .expect("files");
        package.write("Cargo.toml", "");
        package.write("src/lib.rs", ATTRIBUTE);
        package
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
        command
            .current_dir(self.0.path())
            .args(args)
            .output()
            .expect("the program runs")
    }

    /// Runs it, and returns what it prints.
    #[track_caller]
    fn gives(&self, args: &[&str], code: i32, parts: &[&str]) -> String {
        let output = self.run(args);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        assert_eq!(output.status.code(), Some(code), "{text}");
        for part in parts {
            assert!(text.contains(part), "expected `{part}` in\n{text}");
        }
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.run(args).stdout).expect("JSON")
    }
}

const WEIGHTS: &str = "m/model.safetensors";
const LOCK: &str = "m/model.safetensors.lock.json";

#[test]
fn a_build_goes_on_without_the_weights() {
    let package = Package::new();
    let codegen = [
        "codegen",
        "--manifest",
        "m/llama_manifest.json",
        "--weights",
        WEIGHTS,
        "--out",
        "-",
    ];
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
    assert!(!lock.contains(package.0.path().to_str().expect("text")));
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
    let codegen = [
        "codegen",
        "--manifest",
        "m/llama_manifest.json",
        "--weights",
        WEIGHTS,
    ];
    package.gives(&[&codegen[..], &["--out", "-"]].concat(), 0, &[said]);
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
#[test]
fn check_proposes_what_the_source_can_hold() {
    let package = Package::new();
    let case = cases()
        .into_iter()
        .find(|case| case.name == "prefix_doubled");
    case.expect("a case")
        .write(&package.path("m"))
        .expect("files");
    package.gives(
        &["check"],
        1,
        &[r#"add rename = [("^model\\.model\\.", "model.")]"#],
    );
    package.write("src/lib.rs", "");
    let script = r#"use pycandle_build::Builder;
        fn main() {
            Builder::new().manifest("m/llama_manifest.json").weights("m/model.safetensors")
                .rename("^absent", "").compile("llama");
        }"#;
    package.write("build.rs", script);
    let mend = r#"add .rename("^model\\.model\\.", "model.")"#;
    let idle = r#"warning: the rename .rename("^absent", "") matches no key of the checkpoint"#;
    let text = package.gives(&["check"], 1, &[mend, idle]);
    assert_eq!(
        text.matches("m/llama_manifest.json + m/model").count(),
        1,
        "{text}"
    );
    let json = package.json(&["check", "--json"]);
    assert_eq!(
        json["checks"][0]["warnings"].as_array().map(Vec::len),
        Some(1)
    );
    let renames = &json["checks"][0]["findings"][0]["renames"];
    assert_eq!(
        renames,
        &serde_json::json!([["^model\\.model\\.", "model."]])
    );

    // The option that is shown is what a shell takes.
    let args = [
        "check",
        "--manifest=m/llama_manifest.json",
        "--weights=m/model.safetensors",
    ];
    package.gives(&args, 1, &[r"add --rename '^model\.model\.=model.'"]);
    let rename = r"--rename=^model\.model\.=model.";
    package.gives(&[&args[..], &[rename]].concat(), 0, &["agree"]);
    package.gives(
        &["check", "--manifest=m/llama_manifest.json", "--strict"],
        2,
        &["--weights"],
    );
}

/// A model that is named in another way than can be read is a failure, unless that is allowed.
#[test]
fn check_does_not_skip_models_in_silence() {
    let package = Package::new();
    let literal = r#".manifest("m/llama_manifest.json").weights("m/model.safetensors")"#;
    let scripts = [
        (
            format!("let b = Builder::new(); b{literal}.compile(\"a\");"),
            "do not go on to",
        ),
        (
            format!("let b = Builder::new(){literal}; b.compile(\"a\");"),
            "do not go on to",
        ),
        (format!("f(Builder::default(){literal})"), "do not go on to"),
        (
            "Builder::new().manifest(m).compile(\"a\");".to_owned(),
            "`Builder::manifest` is given is no literal",
        ),
        (
            format!("Builder::new(){literal}.fuse(f()).compile(\"a\");"),
            "`Builder::fuse` is given",
        ),
        (
            "Builder::new().compile(\"a\");".to_owned(),
            "not followed by `.manifest(…)`",
        ),
        (
            "pycandle_build::generate(&config);".to_owned(),
            "in another way than",
        ),
        ("let x = \";".to_owned(), "is no Rust that can be read"),
    ];
    for (body, why) in &scripts {
        let source = format!("use pycandle_build::{{Config, Builder}};\nfn main() {{ {body} }}");
        package.write("build.rs", &source);
        let skipped = "SKIPPED build.rs: ";
        let text = package.gives(
            &["check"],
            1,
            &[skipped, why, "ok      src/lib.rs", "--allow-skipped"],
        );
        assert!(!text.contains("FAILED"), "{text}");
        package.gives(&["check", "--allow-skipped"], 0, &[skipped, why]);
        let json = package.json(&["check", "--json"]);
        assert_eq!(
            (&json["ok"], json["skipped"].as_array().map(Vec::len)),
            (&false.into(), Some(1))
        );
    }
    for source in [
        "use pycandle_build::Builder as B; fn main() { B::new(); }",
        "use pycandle_build as p; fn main() { p::Builder::new(); }",
    ] {
        package.write("build.rs", source);
        package.gives(&["check"], 1, &["SKIPPED build.rs: gives ", "another name"]);
    }
    // Another tool's `Builder` is none of ours.
    let other = format!(
        "fn main() {{ bindgen::Builder::default().header(h); pycandle_build::Builder::new(){literal}.compile(\"a\"); }}"
    );
    package.write("build.rs", &other);
    package.gives(&["check"], 0, &["ok      build.rs: m/llama"]);
    // The build script may have another name; other sources are not ones.
    package.write(
        "Cargo.toml",
        "[package]\nname = \"a\"\nbuild = \"build/main.rs\"\n",
    );
    package.write(
        "build/main.rs",
        "fn main() { pycandle_build::Builder::new(); }",
    );
    package.gives(&["check"], 1, &["SKIPPED build/main.rs: "]);
    std::fs::remove_file(package.path("build/main.rs")).expect("removed");

    let when = ATTRIBUTE
        .replace(
            "#[pycandle::pycandle_model(m",
            "#[cfg_attr(feature = \"x\", pycandle::pycandle_model(m",
        )
        .replace(")]\n///", "))]\n///");
    package.write("src/lib.rs", &when);
    package.gives(
        &["check"],
        0,
        &["ok      src/lib.rs (Llama): m/llama_manifest.json"],
    );
    for source in [
        "use pycandle::pycandle_model as model;",
        "#[pycandle_model] struct A;",
        "#[pycandle_model(manifest = PATH)] struct A;",
    ] {
        package.write("src/lib.rs", source);
        package.gives(&["check"], 1, &["SKIPPED src/lib.rs: "]);
    }
    let long = format!("/*{}*/ #[pycandle_model()] struct A;", " ".repeat(5 << 20));
    package.write("src/lib.rs", &long);
    package.gives(
        &["check", "--allow-skipped"],
        2,
        &["was not looked through", "nothing to check"],
    );
}

#[test]
fn check_finds_what_a_package_names() {
    let package = Package::new();
    package.write("src/lib.rs", "");
    package.gives(&["check"], 2, &["nothing to check"]);
    package.write(
        "build.rs",
        r#"
        fn main() {
            // pycandle_build::Builder::new().manifest("in/a/comment.json").compile("x");
            pycandle_build::Builder::new().manifest("m/llama_manifest.json").name("L")
                .weights("m/model.safetensors").rename("^absent", "").strict(true).compile("llama");
            pycandle_build::Builder::new().manifest(chosen()).compile("other");
        }
    "#,
    );
    let text = package.gives(
        &["check", "--allow-skipped"],
        0,
        &[
            "build.rs (L): m/llama_manifest.json + m/model.safetensors",
            "what `Builder::manifest` is given is no literal",
        ],
    );
    assert!(!text.contains("comment"), "{text}");

    package.write("inner/Cargo.toml", "");
    package.write("inner/src/lib.rs", &ATTRIBUTE.replace("m/", "../m/"));
    package.write("target/src/lib.rs", ATTRIBUTE);
    package.gives(&["lock", "--weights", WEIGHTS], 0, &[]);
    std::fs::copy(
        package.path(LOCK),
        package.path("m/lone.safetensors.lock.json"),
    )
    .expect("copied");
    let json = package.json(&["check", "--json", "--allow-skipped"]);
    let names: Vec<_> = json["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .map(|check| check["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "build.rs (L): m/llama_manifest.json + m/model.safetensors",
            "inner/src/lib.rs (Llama): m/llama_manifest.json + m/model.safetensors",
            "m/lone.safetensors",
        ]
    );
    assert_eq!(json["ok"], true, "{json}");
    assert_eq!(json["skipped"].as_array().map(Vec::len), Some(1));
}

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
