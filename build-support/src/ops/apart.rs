//! Operators without a row that PyTorch takes apart into operators with one.

/// By name without overload, each with what has to be named besides it; a golden of each is under
/// `tests/ops`, from `recorder/fixtures/ops_apart.py`.
const COMES_APART: &[(&str, &[&str])] = &[
    ("aten._native_batch_norm_legit", &[]),
    ("aten.addmv", &[]),
    ("aten.addr", &[]),
    ("aten.binary_cross_entropy_with_logits", &[]),
    ("aten.block_diag", &[]),
    ("aten.count_nonzero", &[]),
    (
        "aten.cross_entropy_loss",
        &["aten.nll_loss", "aten.nll_loss_nd"],
    ),
    ("aten.diag", &["aten.diagonal_copy"]),
    ("aten.diag_embed", &[]),
    ("aten.dist", &["aten.norm"]),
    ("aten.hardshrink", &[]),
    ("aten.heaviside", &[]),
    ("aten.huber_loss", &[]),
    ("aten.inner", &["aten.tensordot"]),
    ("aten.isclose", &[]),
    ("aten.isin", &["aten.any"]),
    ("aten.isneginf", &[]),
    ("aten.isposinf", &[]),
    ("aten.kl_div", &[]),
    ("aten.kron", &[]),
    ("aten.l1_loss", &[]),
    ("aten.linalg_cross", &[]),
    ("aten.linalg_matrix_norm", &[]),
    ("aten.linalg_multi_dot", &[]),
    ("aten.linalg_norm", &[]),
    ("aten.linalg_vecdot", &[]),
    ("aten.logit", &[]),
    ("aten.logspace", &[]),
    ("aten.mse_loss", &[]),
    ("aten.msort", &[]),
    ("aten.nanmean", &["aten.nansum"]),
    ("aten.nansum", &[]),
    ("aten.nll_loss_nd", &["aten.nll_loss"]),
    ("aten.quantile", &[]),
    ("aten.renorm", &[]),
    ("aten.sinc", &[]),
    ("aten.smooth_l1_loss", &[]),
    ("aten.softshrink", &[]),
    ("aten.special_expit", &[]),
    ("aten.tensordot", &[]),
    ("aten.trace", &["aten.diag", "aten.diagonal_copy"]),
    ("aten.trapezoid", &[]),
];

/// For each operator, what `decompose` names, as Python writes it.
pub fn all() -> impl Iterator<Item = String> {
    COMES_APART.iter().map(|(name, besides)| {
        let names = std::iter::once(name).chain(*besides);
        written(names.copied())
    })
}

/// Names as Python writes them in a list.
pub fn written<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}

/// What `decompose` names so that these ops come apart, each once, and how many of them do not.
pub fn decomposition<'a>(ops: impl Iterator<Item = &'a str>) -> (Vec<&'static str>, usize) {
    let (mut names, mut whole) = (Vec::new(), 0);
    for op in ops {
        let name = op.rsplit_once('.').map_or(op, |(name, _)| name);
        let Ok(at) = COMES_APART.binary_search_by_key(&name, |(name, _)| name) else {
            whole += 1;
            continue;
        };
        let (name, besides) = COMES_APART[at];
        for name in besides.iter().copied().chain([name]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    (names, whole)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The operators of a recorded trace; `None` where there is no such recording.
    fn recorded(stem: &str) -> Option<Vec<String>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ops");
        let text = std::fs::read_to_string(folder.join(format!("{stem}_manifest.json"))).ok()?;
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = manifest["nodes"].as_array().unwrap().iter();
        Some(
            nodes
                .map(|node| node["op"].as_str().unwrap().to_owned())
                .collect(),
        )
    }

    #[test]
    fn every_one_was_recorded_and_came_apart() {
        assert!(COMES_APART.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, _) in COMES_APART {
            let stem = name.trim_start_matches("aten.").trim_start_matches('_');
            let overloads = [
                "",
                "_tensor",
                "_vec",
                "_input",
                "_correction",
                "_tensor_tensor",
                "_scalar",
                "_dx",
                "_no_stats",
            ];
            let mut stems = overloads.iter().map(|o| format!("apart_{stem}{o}"));
            let ops = stems.find_map(|stem| recorded(&stem));
            let ops = ops.unwrap_or_else(|| panic!("no `{name}` in tests/ops"));
            let own = format!("{name}.");
            for op in ops {
                assert!(crate::ops::row(&op).is_some(), "{name} leaves {op}");
                assert!(!op.starts_with(&own), "{name} is still there as {op}");
            }
        }
    }

    #[test]
    fn names_are_given_once_and_the_rest_is_counted() {
        let ops = [
            "aten.trace.default",
            "aten.diag.default",
            "aten.conv3d.default",
            "aten.dist.default",
        ];
        let expected = [
            "aten.diag",
            "aten.diagonal_copy",
            "aten.dist",
            "aten.norm",
            "aten.trace",
        ];
        assert_eq!(decomposition(ops.into_iter()), (expected.to_vec(), 1));
    }
}
