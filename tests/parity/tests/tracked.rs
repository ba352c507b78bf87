//! A build that used the attribute is made again when the files that it read have changed.

#[pycandle::pycandle_model(
    manifest = "../models/mlp_manifest.json",
    weights = "../models/mlp.safetensors"
)]
pub struct Mlp;

/// The compiler writes beside every artifact what it was made of, and cargo compares the times.
#[test]
fn a_build_depends_on_the_manifest_and_the_weights() {
    let program = std::env::current_exe().expect("the path of this test");
    let made_of = std::fs::read_to_string(program.with_extension("d")).expect("dependencies");
    for file in ["mlp_manifest.json", "mlp.safetensors"] {
        let named = made_of.contains(&format!("models/{file}:"));
        assert!(named, "{file} is not in:\n{made_of}");
    }
    assert!(!made_of.contains("mlp_trace.safetensors"));
}
