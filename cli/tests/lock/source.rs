//! What `check` reads out of the source of a package.

use pycandle_test_checkpoints::cases;

use super::package::{ATTRIBUTE, LOCK, Package, WEIGHTS};

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
