//! What a generated model asks for is what its manifest lists.

use std::collections::BTreeMap;
use std::path::Path;

use pycandle::{RequiredKey, Result};
use pycandle_parity_tests::models;
use serde_json::Value;

fn check(name: &str, keys: Result<Vec<RequiredKey>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let text = std::fs::read_to_string(folder.join(format!("{name}_manifest.json")));
    let manifest: Value = serde_json::from_str(&text.expect("a manifest")).expect("JSON");
    let parameters = manifest["parameters"].as_array().expect("a list");
    let expected: BTreeMap<String, String> = parameters
        .iter()
        .map(|p| {
            let dtype = match p["dtype"].as_str().expect("a dtype") {
                "float64" => "F64",
                "float32" => "F32",
                "float16" => "F16",
                "bfloat16" => "BF16",
                "bool" | "uint8" => "U8",
                _ => "I64",
            };
            let name = p["name"].as_str().expect("a name").to_owned();
            let tied = p["tied_to"].as_str();
            let shape = p["shape"].to_string().replace(',', ", ");
            (name, format!("{dtype} {shape} {tied:?}"))
        })
        .collect();
    let keys: BTreeMap<String, String> = keys
        .expect("a model that is built on nothing")
        .into_iter()
        .map(|key| {
            let (shape, tied) = (key.shape.dims(), key.tied_to.as_deref());
            let text = format!("{:?} {shape:?} {tied:?}", key.dtype);
            (key.name, text)
        })
        .collect();
    assert_eq!(keys, expected);
}

include!(concat!(env!("OUT_DIR"), "/models_keys.rs"));
