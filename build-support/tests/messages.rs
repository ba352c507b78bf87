//! What is said of arguments that no lowering has.

use std::path::Path;

use pycandle_build::{Config, generate};

/// What generating says of a recorded operator whose manifest is edited.
fn refusal(name: &str, recorded: &str, edited: &str) -> String {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ops");
    let text = std::fs::read_to_string(ops.join(format!("{name}_manifest.json")));
    let text = text.expect("a manifest");
    assert!(text.contains(recorded), "{text}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("m_manifest.json");
    std::fs::write(file, text.replace(recorded, edited)).expect("a written file");
    let refused = generate(&Config::new("m_manifest.json").root(folder.path()));
    refused.expect_err("an argument out of range").to_string()
}

#[test]
fn arguments_are_shown_as_they_stand_in_the_manifest() {
    for (name, recorded, edited, says) in [
        (
            "div_tensor_mode_floor",
            r#""rounding_mode": "floor""#,
            r#""rounding_mode": "ceil""#,
            "argument `rounding_mode` is `ceil`, expected `floor`, `trunc` or none",
        ),
        (
            "gelu_tanh",
            r#""approximate": "tanh""#,
            r#""approximate": "erf""#,
            "argument `approximate` is `erf`, expected `none` or `tanh`",
        ),
        (
            "avg_pool2d_padded",
            r#""kernel_size": [3, 3]"#,
            r#""kernel_size": [3, -3]"#,
            "argument `kernel_size` is [3, -3], expected one size or 2, none below 0",
        ),
        (
            "arange_start_step",
            r#""step": -2"#,
            r#""step": -2.5"#,
            "aten.arange.start_step: makes integers of fractions: give whole numbers",
        ),
    ] {
        let text = refusal(name, recorded, edited);
        assert!(text.contains(says), "{text}");
    }
}
