//! Files whose names rules change, and files that were written for a trace before.

use pycandle_checkpoint::extract::{Options, Plan};
use pycandle_checkpoint::{Checkpoint, Expected, Needs, validate};

use super::{fixture, folder, needs_of, read, written};

/// Extracts with rename rules, as they are resolved.
fn extract(
    needs: &dyn Needs,
    renames: &[(&str, &str)],
    source: &std::path::Path,
    out: &std::path::Path,
) {
    let text = |error: pycandle_checkpoint::Error| error.to_string();
    let checkpoint = Checkpoint::open(source).expect("a checkpoint");
    let expected = Expected {
        trace: "test_manifest.json",
        needs,
        renames,
        ..Expected::DEFAULT
    };
    let found = validate(&expected, &checkpoint).expect("it fits");
    let plan = Plan::new(&expected, &checkpoint, &found, out, &Options::default());
    let outcome = plan.and_then(|plan| plan.write(&|_| true));
    written(outcome.map_err(text));
}

#[test]
fn rows_of_a_renamed_gguf_are_put_back_too() {
    let folder = folder();
    let model = fixture("models/llama.safetensors");
    let out = folder.path().join("f32.safetensors");
    let renames = [
        (
            "model.layers.*.self_attn.q_proj.weight",
            "blk.*.attn_q.weight",
        ),
        (
            "model.layers.*.self_attn.k_proj.weight",
            "blk.*.attn_k.weight",
        ),
    ];
    let source = fixture("gguf/llama_F32.gguf");
    extract(&needs_of(&model), &renames, &source, &out);
    assert!(read(&out, true) == read(&model, false));
}

/// What was extracted by rules that swap names is not swapped back by them.
#[test]
fn what_was_extracted_has_the_names_of_the_trace() {
    let folder = folder();
    let model = fixture("models/llama.safetensors");
    let needs = needs_of(&model);
    let (gate, up) = (
        "model.layers.*.mlp.gate_proj.weight",
        "model.layers.*.mlp.up_proj.weight",
    );
    let renames = [(gate, up), (up, gate)];
    let [once, again] =
        ["once", "again"].map(|name| folder.path().join(format!("{name}.safetensors")));
    extract(&needs, &renames, &model, &once);
    extract(&needs, &renames, &once, &again);
    let (model, once, again) = (read(&model, false), read(&once, true), read(&again, true));
    assert!(once == again);
    let in_first = |name: &str| name.replace('*', "0");
    assert!(once[&in_first(gate)].2 == model[&in_first(up)].2);
}
