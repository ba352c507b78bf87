//! A crate that uses the attribute is built again when the manifest or the header of the weights
//! changes, and only then.

use std::fs;
use std::path::Path;

use super::{file, path, shared, text};

const SOURCE: &str = r#"
#[pycandle::pycandle_model(manifest = "mlp_manifest.json", weights = "mlp.safetensors")]
pub struct Mlp;
"#;

#[test]
fn an_edit_of_the_manifest_or_the_weights_is_seen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let package = folder.path();
    let [manifest, weights] = ["mlp_manifest.json", "mlp.safetensors"].map(|name| {
        let to = package.join(name);
        fs::copy(file("tests/models").join(name), &to).expect("a copy");
        to
    });
    let runtime = file("runtime");
    let toml = format!(
        "[package]\nname = \"rebuilt\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\npycandle = {{ path = {:?} }}\n\n[workspace]\n",
        path(&runtime)
    );
    fs::write(package.join("Cargo.toml"), toml).expect("a package");
    fs::copy(file("Cargo.lock"), package.join("Cargo.lock")).expect("a copy");
    fs::create_dir(package.join("src")).expect("a folder");
    fs::write(package.join("src/lib.rs"), SOURCE).expect("a source");

    builds(package);
    let (good, said) = build(package);
    assert!(good && !said.contains("Compiling"), "{said}");
    for file in [&manifest, &weights] {
        let before = fs::read(file).expect("a file");
        fs::write(file, renamed(&before)).expect("an edit");
        let (good, said) = build(package);
        assert!(!good && said.contains("down.bias"), "{said}");
        fs::write(file, before).expect("the edit undone");
        builds(package);
    }
}

/// The same bytes with another name for one parameter.
fn renamed(bytes: &[u8]) -> Vec<u8> {
    let (from, to) = (b"\"down.bias\"", b"\"down.bent\"");
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..]
        .windows(from.len())
        .position(|part| part == from)
    {
        at += found;
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

fn builds(package: &Path) {
    let (good, said) = build(package);
    assert!(good && said.contains("Compiling rebuilt"), "{said}");
}

/// Whether the package builds, and what cargo says.
fn build(package: &Path) -> (bool, String) {
    let output = shared(env!("CARGO"))
        .args(["build", "--release"])
        .current_dir(package)
        .output()
        .expect("cargo runs");
    (output.status.success(), text(&output.stderr))
}
