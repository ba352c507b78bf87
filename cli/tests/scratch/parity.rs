//! `cargo pycandle parity` from files to exit code: the scratch crate is written, built and run.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::{file, path, shared, text};

fn parity(args: &[&str]) -> Output {
    shared(env!("CARGO_BIN_EXE_cargo-pycandle"))
        .arg("parity")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program runs")
}

/// The arguments that name one model.
fn model<'a>(manifest: &'a Path, weights: &'a Path, golden: &'a Path) -> [&'a str; 6] {
    let [manifest, weights, golden] = [manifest, weights, golden].map(path);
    [
        "--manifest",
        manifest,
        "--weights",
        weights,
        "--golden",
        golden,
    ]
}

/// Copies the small model that PyTorch recorded, under another name.
fn copy(folder: &Path, name: &str) {
    for ending in ["_manifest.json", ".safetensors", "_trace.safetensors"] {
        let to = folder.join(format!("{name}{ending}"));
        std::fs::copy(file(&format!("tests/models/mlp{ending}")), to).expect("a copy");
    }
}

/// Makes the first number of a tensor another one.
fn spoil(path: &Path, tensor: &str) {
    let mut bytes = std::fs::read(path).expect("a file");
    let (length, _) = bytes.split_first_chunk::<8>().expect("a length");
    let header = 8 + usize::try_from(u64::from_le_bytes(*length)).expect("a length");
    let json: Value = serde_json::from_slice(&bytes[8..header]).expect("a header");
    let offset = json[tensor]["data_offsets"][0].as_u64().expect("an offset");
    let at = header + usize::try_from(offset).expect("an offset");
    bytes[at..at + 4].copy_from_slice(&3.5f32.to_le_bytes());
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn models_pass_fail_or_are_unsupported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for name in ["astray", "good", "retrained"] {
        copy(folder, name);
    }
    spoil(&folder.join("astray_trace.safetensors"), "input.x");
    spoil(&folder.join("retrained.safetensors"), "down.bias");
    let fixtures = file("tests/ui/fixtures");
    for (from, to) in [
        ("unsupported_manifest.json", "fft_manifest.json"),
        ("good.safetensors", "fft.safetensors"),
        ("good.safetensors", "fft_trace.safetensors"),
    ] {
        std::fs::copy(fixtures.join(from), folder.join(to)).expect("a copy");
    }

    let runtime = file("runtime");
    let output = parity(&["--json", path(folder), "--pycandle-path", path(&runtime)]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let json: Value = serde_json::from_slice(&output.stdout).expect(&said);
    let models = json["models"].as_array().expect("a list");
    let of = |key: &str| models.iter().map(|m| m[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["astray", "fft", "good", "retrained"], "{said}");
    assert_eq!(
        of("status"),
        ["fail", "unsupported", "pass", "fail"],
        "{said}"
    );
    assert_eq!(models[1]["detail"], "aten.fft_rfft.default");

    let good = &models[2];
    assert_eq!((&good["modules"], &good["detail"]), (&4.into(), &"".into()));
    let rel = good["worst"]["rel"].as_f64().expect("a number");
    assert!(rel < 1e-6, "{said}");

    let detail = |model: usize| models[model]["detail"].as_str().expect("a text");
    assert!(detail(0).contains("first divergence: up"), "{said}");
    assert!(detail(3).contains("recorded with other weights"), "{said}");
    for model in [0, 3] {
        let rel = models[model]["worst"]["rel"].as_f64().expect("a number");
        assert!(rel > 1e-2, "{said}");
    }
}

#[test]
fn one_model_passes() {
    let [manifest, weights, golden, other] = [
        "mlp_manifest.json",
        "mlp.safetensors",
        "mlp_trace.safetensors",
        "mlp_trace.other.safetensors",
    ]
    .map(|name| file(&format!("tests/models/{name}")));
    let more = ["--golden", path(&other)];
    let args = [&model(&manifest, &weights, &golden)[..], &more].concat();
    let output = parity(&args);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let table = text(&output.stdout);
    let rows: Vec<_> = table.lines().collect();
    let [head, row] = rows[..] else {
        panic!("{said}");
    };
    assert!(head.starts_with("model  modules  worst"), "{said}");
    assert!(row.starts_with("mlp          8  "), "{said}");
    assert!(row.ends_with("  pass"), "{said}");
    // No colours, no progress: nobody watches.
    assert!(
        output.stderr.is_empty() && !table.contains('\u{1b}'),
        "{said}"
    );
}

/// What lies inside a fusion is compared when there is none.
#[test]
fn without_fusions_more_is_compared() {
    let [manifest, weights, golden] = ["_manifest.json", ".safetensors", "_trace.safetensors"]
        .map(|ending| file(&format!("tests/models/llama{ending}")));
    let compared = |more: &[&str]| {
        let files = model(&manifest, &weights, &golden);
        let output = parity(&[&["--json"], &files[..], more].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let json: Value = serde_json::from_slice(&output.stdout).expect(&said);
        json["models"][0]["modules"].as_u64().expect("a number")
    };
    assert!(compared(&["--no-fuse"]) > compared(&[]));
}
