//! The kept source is what the generator writes, and computes what PyTorch computes.

use std::path::Path;

use kept_source::Llama;
use pycandle_build::{Config, generate};

#[test]
fn the_source_is_what_the_generator_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config::new("../../tests/models/llama_manifest.json")
        .root(root)
        .name("Llama");
    let generated = match generate(&config) {
        Ok(generated) => generated.source,
        Err(report) => panic!("{report}"),
    };
    let path = root.join("src/llama.rs");
    let kept = std::fs::read_to_string(&path).expect("the source can be read");
    assert!(
        kept == generated,
        "src/llama.rs is not what the generator writes: run `make bless` and look at the difference"
    );
}

#[test]
fn every_module_agrees_with_pytorch() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    pycandle::assert_golden!(
        Llama,
        models.join("llama.safetensors"),
        models.join("llama_trace.safetensors")
    );
}
