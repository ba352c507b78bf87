//! What the rules take for their pattern, and what is almost that. `tests/parity` holds the same
//! model against PyTorch, with fusions and without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fuse;
use crate::graph::Graph;
use crate::{manifest::Manifest, raw};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn patterns() -> Manifest {
    raw::read(&file("../tests/models/near_misses_manifest.json")).expect("a manifest")
}

/// The nodes of every child of `hits` or `misses`, as texts, before and after fusing.
fn children(manifest: &Manifest, of: &str) -> BTreeMap<String, [Vec<String>; 2]> {
    let unfused = Graph::new(manifest);
    let mut fused = unfused.clone();
    fuse(&mut fused);
    let mut children: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    for (i, graph) in [&unfused, &fused].into_iter().enumerate() {
        for node in &graph.nodes {
            if let Some(name) = graph.path(node.call).strip_prefix(of) {
                let nodes = children.entry(name.to_owned()).or_default();
                nodes[i].push(format!("{} {:?} {:?}", node.op, node.out, node.args));
            }
        }
    }
    children
}

/// What each pattern that is to be found becomes.
const FUSED: &[(&str, &str)] = &[
    ("arange", "aten.arange.start"),
    ("gated_gelu", "pycandle.gelu_mul"),
    ("gated_gelu_tanh", "pycandle.gelu_tanh_mul"),
    ("gated_silu", "pycandle.swiglu"),
    ("gelu", "aten.gelu.default"),
    ("gqa", "aten.scaled_dot_product_attention.default"),
    ("gqa_by_hand", "pycandle.matmul_heads"),
    ("gqa_by_hand_interleaved", "pycandle.matmul_heads"),
    (
        "gqa_repeat_interleave",
        "aten.scaled_dot_product_attention.default",
    ),
    ("linear", "pycandle.addmm"),
    ("mask_causal", "pycandle.causal_mask"),
    ("mask_causal_padding", "pycandle.causal_mask"),
    ("mask_padding", "pycandle.padding_mask"),
    ("mask_unneeded", "aten.scaled_dot_product_attention.default"),
    ("mask_window", "pycandle.causal_mask"),
    ("rms_norm", "pycandle.rms_norm"),
    ("rms_norm_f32_scale", "pycandle.rms_norm"),
    ("rms_norm_f32_scale_narrow", "pycandle.rms_norm"),
    ("rms_norm_f32_scale_offset", "pycandle.rms_norm"),
    ("rms_norm_offset", "pycandle.rms_norm"),
    ("rms_norm_offset_two", "pycandle.rms_norm"),
    ("rms_norm_product", "pycandle.rms_norm"),
    ("rms_norm_promoted", "pycandle.rms_norm"),
    ("rms_norm_square", "pycandle.rms_norm"),
    ("rms_norm_type_as", "pycandle.rms_norm"),
    ("rope", "pycandle.rope"),
    ("rope_chunk", "pycandle.rope"),
    ("rope_swapped_tables", "pycandle.rope"),
];

#[test]
fn patterns_are_fused() {
    let manifest = patterns();
    let hits = children(&manifest, "hits.");
    assert_eq!(hits.len(), FUSED.len(), "{:?}", hits.keys());
    for (name, op) in FUSED {
        let [before, after] = &hits[*name];
        assert!(after.len() < before.len(), "{name}: {after:#?}");
        let there = after.iter().any(|node| node.starts_with(op));
        assert!(there, "{name}: {after:#?}");
    }
}

#[test]
fn near_misses_stay_as_they_are() {
    let manifest = patterns();
    let misses = children(&manifest, "misses.");
    for (name, [before, after]) in &misses {
        assert_eq!(
            before, after,
            "{name} is taken for a pattern that it is not"
        );
    }
    let names: BTreeSet<_> = manifest
        .modules
        .iter()
        .map(|module| &*module.path)
        .collect();
    let recorded = names.iter().filter_map(|name| name.strip_prefix("misses."));
    assert!(recorded.eq(misses.keys()), "{:?}", misses.keys());
}

#[test]
fn every_rule_has_a_pattern_and_near_misses() {
    let manifest = patterns();
    let folder = std::fs::read_dir(file("src/fuse")).expect("a folder");
    let rules = folder.map(|entry| entry.expect("an entry").path());
    let rules: Vec<_> = rules
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|rule| rule != "tests")
        .collect();
    assert!(rules.len() >= 8, "{rules:?}");
    for rule in rules {
        for of in ["hits.", "misses."] {
            let children = children(&manifest, of);
            let own = children.keys().any(|name| name.starts_with(&rule));
            assert!(own, "`{rule}` has none of `{of}`");
        }
    }
}
