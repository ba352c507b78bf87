//! `inspect` on checkpoints: what is needed of them, as text, as JSON and as a page.

use std::path::PathBuf;
use std::process::{Command, Output};

use pycandle_test_checkpoints::{Case, cases, safetensors};
use serde_json::{Value, json};

struct Folder(tempfile::TempDir);

impl Folder {
    /// The files of the case with this name.
    fn new(name: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        case(name).write(folder.0.path()).expect("files");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
        let command = command.current_dir(self.0.path()).arg("inspect");
        command.args(args).output().expect("the program runs")
    }

    #[track_caller]
    fn shows(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{error}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.shows(args)).expect("JSON")
    }

    /// The page that is written, and the data in it.
    #[track_caller]
    fn page(&self, args: &[&str]) -> (String, Value) {
        self.shows(&[args, &["--html", "page.html"]].concat());
        let page = std::fs::read_to_string(self.path("page.html")).expect("a page");
        let start = "<script type=\"application/json\" id=\"data\">";
        let data = page.split_once(start).expect("data").1;
        let data = data.split_once("</script>").expect("an end").0;
        let data = serde_json::from_str(data).expect("JSON");
        (page, data)
    }
}

fn case(name: &str) -> Case {
    let mut cases = cases().into_iter();
    cases.find(|case| case.name == name).expect("a case")
}

const BOTH: [&str; 4] = [
    "--manifest",
    "llama_manifest.json",
    "--weights",
    "model.safetensors",
];

#[test]
fn a_checkpoint_that_does_not_fit_is_shown_with_what_is_missing() {
    let folder = Folder::new("missing");
    let text = folder.shows(&BOTH);
    for part in [
        "of what the model needs",
        "  missing",
        "formats",
        "modules of the checkpoint",
        "checkpoint does not match the model",
    ] {
        assert!(text.contains(part), "expected `{part}` in\n{text}");
    }
    let value = folder.json(&[&BOTH[..], &["--json"]].concat());
    assert_eq!(value["class"], "Llama");
    let checkpoint = &value["checkpoint"];
    let count = |key: &str| checkpoint[key].as_array().map_or(0, Vec::len);
    assert!(count("missing") > 0, "{checkpoint}");
    assert_eq!(checkpoint["findings"][0]["class"], "missing");
    assert_eq!(checkpoint["findings"][0]["count"], count("missing"));
    let needed = checkpoint["needed"]["tensors"].as_u64().expect("a number");
    let all = checkpoint["tensors"].as_u64().expect("a number");
    assert_eq!(needed + count("unneeded") as u64, all);
    let root = &checkpoint["modules"][0];
    assert_eq!(
        (&root["path"], &root["tensors"], &root["bytes"]),
        (&"".into(), &checkpoint["tensors"], &checkpoint["bytes"])
    );
    let formats = checkpoint["formats"].as_object().expect("an object");
    let bytes: u64 = formats
        .values()
        .filter_map(|format| format["bytes"].as_u64())
        .sum();
    assert_eq!(checkpoint["bytes"], bytes);
    let (page, data) = folder.page(&BOTH);
    assert!(
        page.contains("The checkpoint does not fit.") && page.contains("missing ("),
        "{page}"
    );
    assert_eq!(data["model"], true);
}

#[test]
fn the_keys_of_json_are_these() {
    let folder = Folder::new("shape");
    let keys = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    let alone = [
        "bytes",
        "files",
        "formats",
        "from_lock",
        "lock",
        "modules",
        "place",
        "tensors",
    ];
    let value = folder.json(&["--weights", "model.safetensors", "--json"]);
    assert_eq!(keys(&value), ["checkpoint"]);
    assert_eq!(keys(&value["checkpoint"]), alone);
    assert_eq!(
        keys(&value["checkpoint"]["files"][0]),
        ["bytes", "name", "tensor_bytes", "tensors"]
    );
    assert_eq!(
        keys(&value["checkpoint"]["modules"][0]),
        ["bytes", "files", "path", "tensors"]
    );
    let value = folder.json(&[&BOTH[..], &["--json"]].concat());
    let more = [
        "findings", "mismatch", "missing", "needed", "tied", "unneeded",
    ];
    let mut both: Vec<_> = alone
        .iter()
        .chain(&more)
        .map(|key| (*key).to_owned())
        .collect();
    both.sort();
    assert_eq!(keys(&value["checkpoint"]), both);
}

#[test]
fn a_lock_is_shown_where_the_weights_are_absent() {
    let folder = Folder::new("shape");
    let files = folder.json(&["--weights", "model.safetensors", "--json"]);
    let mut lock = Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
    let lock = lock
        .current_dir(folder.0.path())
        .args(["lock", "--weights", "model.safetensors"]);
    assert!(lock.status().expect("it runs").success());
    std::fs::remove_file(folder.path("model.safetensors")).expect("removed");
    let locked = folder.json(&["--weights", "model.safetensors", "--json"]);
    assert_eq!(
        (
            &files["checkpoint"]["from_lock"],
            &locked["checkpoint"]["from_lock"]
        ),
        (&false.into(), &true.into())
    );
    assert_eq!(
        files["checkpoint"]["formats"],
        locked["checkpoint"]["formats"]
    );
    assert_eq!(files["checkpoint"]["bytes"], locked["checkpoint"]["bytes"]);
    let text = folder.shows(&["--weights", "model.safetensors"]);
    assert!(
        text.contains("the weights are absent, this is what their lock says"),
        "{text}"
    );
    let (page, data) = folder.page(&["--weights", "model.safetensors"]);
    assert!(page.contains("from its lock; the weights are absent"));
    assert!(
        !data.to_string().contains("\"o\""),
        "a lock does not know where tensors are"
    );
}

#[test]
fn equal_layers_are_one_line_and_places_are_exact() {
    let folder = Folder::new("shape");
    let tensor = |name: &str, dtype, shape: &[usize]| (name.to_owned(), dtype, shape.to_vec());
    let tensors = [
        tensor("l.0.w", "F32", &[4, 2]),
        tensor("l.1.w", "F32", &[4, 2]),
        tensor("l.1.w.absmax", "U8", &[3]),
        tensor("l.2.w", "F32", &[4, 2]),
    ];
    std::fs::write(folder.path("a.safetensors"), safetensors(&tensors)).expect("written");
    let text = folder.shows(&["--weights", "a.safetensors"]);
    assert!(
        text.contains("{0,2}") && text.contains("32 B each"),
        "{text}"
    );
    let (_, data) = folder.page(&["--weights", "a.safetensors"]);
    let layer = &data["root"]["c"][0]["c"][1];
    assert_eq!(layer["n"], "1");
    let [first, second] = [&layer["c"][0], &layer["c"][1]];
    assert_eq!(
        (&first["n"], &second["n"]),
        (&json!("w"), &json!("w.absmax"))
    );
    assert_eq!(
        (&first["s"], &first["b"], &first["f"]),
        (&json!([4, 2]), &json!(32), &json!(0))
    );
    let at = |node: &Value, i: usize| node["o"][i].as_u64().expect("an offset");
    assert_eq!(at(first, 1) - at(first, 0), 32);
    assert_eq!(at(second, 1) - at(second, 0), 3);
    let len = std::fs::metadata(folder.path("a.safetensors"))
        .expect("a file")
        .len();
    assert!(at(second, 1) <= len);
}

/// Names that would be markup, code or another name in a page.
#[test]
fn no_name_gets_out_of_its_text() {
    let names = [
        "</script><script>alert(1)</script>",
        "</title><img src=x onerror=alert(1)>.weight",
        "\"' onfocus=alert(1) autofocus x=\"",
        "&lt;b&gt;<!-- <script>",
        "\u{2028}\u{2029}\u{202e}\u{0}",
        "constructor.__proto__.toString",
        "",
        ".",
    ];
    let folder = Folder::new("shape");
    let tensors = names.map(|name| (name.to_owned(), "F32", vec![1]));
    let weights = "<b>&'\u{202e}.safetensors";
    std::fs::write(folder.path(weights), safetensors(&tensors)).expect("written");
    let (page, data) = folder.page(&["--weights", weights]);
    assert_eq!(
        page.matches("<script").count(),
        2,
        "the data and the page's own"
    );
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<img") && !page.contains("<b>&") && !page.contains("<!--"));
    assert!(page.contains("&lt;b&gt;&amp;&#39;\u{fffd}.safetensors"));
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        let own = page
            .replace("http://www.w3.org/2000/svg", "")
            .replace("\\u003cimg src=x", "");
        assert!(!own.contains(outside), "{outside}");
    }
    let mut found = Vec::new();
    collect(&data["root"], None, &mut found);
    found.sort();
    let mut expected: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// Either a manifest or a checkpoint is enough, and a usage line says so.
#[test]
fn what_has_to_be_named_is_said() {
    let folder = Folder::new("missing");
    let usage = "Usage: cargo pycandle inspect [OPTIONS] [MANIFEST] [--weights <WEIGHTS>]\n";
    for (args, required) in [
        (
            &[][..],
            "\n  <MANIFEST|--manifest <MANIFEST>|--weights <WEIGHTS>>\n",
        ),
        (
            &["--html", "x.html", "llama_manifest.json"],
            "\n  --weights <WEIGHTS>\n",
        ),
    ] {
        let output = folder.run(args);
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(required) && error.contains(usage), "{error}");
    }
    for args in [&["llama_manifest.json"][..], &BOTH[..2], &BOTH[2..], &BOTH] {
        folder.shows(args);
    }
}

/// Names that would clear a terminal, forge a line or turn one around.
#[test]
fn no_name_reaches_a_terminal() {
    let names = ["a.\u{1b}[31mred", "a.b\nc.d", "\u{202e}e", "f\r\u{9b}2J.g"];
    let folder = Folder::new("shape");
    let tensors = names.map(|name| (name.to_owned(), "F32", vec![1]));
    let weights = "w\u{1b}\u{202e}.safetensors";
    std::fs::write(folder.path(weights), safetensors(&tensors)).expect("written");
    let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    let alone = folder.shows(&["--weights", weights]);
    assert!(!alone.contains(hidden), "{alone}");
    for name in [r"\u{1b}[31mred", r"b\nc", r"\u{202e}e", r"f\r\u{9b}2J"] {
        assert!(alone.contains(name), "{name} is not in {alone}");
    }
    let beside = folder.shows(&["llama_manifest.json", "--weights", weights]);
    assert!(!beside.contains(hidden), "{beside}");
    assert!(beside.contains("\n  a.b\\nc.d\n"), "{beside}");
}

/// The full names of all tensors below a node.
fn collect(node: &Value, path: Option<&str>, found: &mut Vec<String>) {
    if node["s"].is_array() {
        found.extend(path.map(str::to_owned));
    }
    for child in node["c"].as_array().into_iter().flatten() {
        let name = child["n"].as_str().expect("a name");
        let name = path.map_or(name.to_owned(), |path| format!("{path}.{name}"));
        collect(child, Some(&name), found);
    }
}

#[test]
fn large_and_deep_checkpoints_are_pages_of_bounded_size() {
    let folder = Folder::new("shape");
    // Every tensor has a shape of its own, so that no two are equal.
    let flat = (0..60_000).map(|i| (format!("m.{}.{i}", i % 7), "U8", vec![i + 1, 0]));
    let deep = (vec!["d"; 20_000].join("."), "U8", vec![5]);
    let tensors: Vec<_> = flat.chain([deep]).collect();
    std::fs::write(folder.path("a.safetensors"), safetensors(&tensors)).expect("written");
    let (page, data) = folder.page(&["--weights", "a.safetensors"]);
    assert!(page.len() < 4_000_000, "{}", page.len());
    assert!(
        data.to_string().contains(" more\""),
        "what is left out is counted"
    );
    folder.shows(&["--weights", "a.safetensors"]);
}

#[test]
fn a_page_replaces_a_page_and_nothing_else() {
    let folder = Folder::new("shape");
    let args = ["--weights", "model.safetensors", "--html", "page.html"];
    assert!(folder.shows(&args).contains("wrote page.html"));
    assert!(folder.shows(&args).contains("is up to date"));
    let page = std::fs::read_to_string(folder.path("page.html")).expect("a file");
    let shown = folder.shows(&["--weights", "model.safetensors", "--html", "-"]);
    assert_eq!(shown.trim_end(), page.trim_end());
    assert!(!folder.path("-").exists());
    std::fs::write(folder.path("page.html"), "<p>mine</p>").expect("written");
    let output = folder.run(&args);
    assert_eq!(output.status.code(), Some(2));
    let kept = std::fs::read_to_string(folder.path("page.html")).expect("a file");
    assert_eq!(kept, "<p>mine</p>");
    assert_eq!(folder.run(&["--html", "x.html"]).status.code(), Some(2));
}
