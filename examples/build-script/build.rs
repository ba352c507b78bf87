//! Generates the quickstart's digit classifier; the errors of a wrong checkpoint appear here.

fn main() {
    pycandle_build::Builder::new()
        .manifest("../quickstart/model/digits_manifest.json")
        .weights("../quickstart/model/digits.safetensors")
        .name("Digits")
        .compile("digits");
}
