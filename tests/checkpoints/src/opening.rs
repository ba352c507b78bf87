//! Checkpoints of several files, and files that are none: what is said before anything is compared.

use crate::{Case, safetensors};

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

/// The layers of the first shard, and what else the second one holds.
const LAYERS: [(&str, &[usize]); 3] = [
    ("input_layernorm", &[32]),
    ("mlp.gate_proj", &[96, 32]),
    ("mlp.down_proj", &[32, 96]),
];
const REST: [(&str, &[usize]); 3] = [
    ("lm_head.weight", &[64, 32]),
    ("model.embed_tokens.weight", &[64, 32]),
    ("model.norm.weight", &[32]),
];

/// The tensors of each of [`SHARDS`].
fn shards() -> [Vec<(String, &'static str, Vec<usize>)>; 2] {
    let layer = |layer: usize| {
        LAYERS.iter().map(move |(part, shape)| {
            let name = format!("model.layers.{layer}.{part}.weight");
            (name, "F16", shape.to_vec())
        })
    };
    let rest = REST.map(|(name, shape)| (name.to_owned(), "F16", shape.to_vec()));
    [(0..2).flat_map(layer).collect(), rest.to_vec()]
}

fn index() -> Vec<u8> {
    let shards = shards();
    let entries = shards.iter().zip(SHARDS).flat_map(|(tensors, file)| {
        let entry = move |(name, ..): &(String, _, _)| format!("\"{name}\": \"{file}\"");
        tensors.iter().map(entry)
    });
    let entries: Vec<_> = entries.collect();
    format!("{{\"weight_map\": {{{}}}}}", entries.join(", ")).into_bytes()
}

/// The table of this file, of which each case has the trace of `fits`, which fits.
pub(crate) fn cases(fits: &Case) -> Vec<Case> {
    let trace: Vec<_> = fits.files.iter().take(1).cloned().collect();
    let case = |name, weights, files: &[(&'static str, Vec<u8>)], report: &[&'static str]| Case {
        name,
        weights,
        files: trace.iter().chain(files).cloned().collect(),
        report: report.to_vec(),
        ..fits.clone()
    };
    let [first, second] = shards().map(|tensors| safetensors(&tensors));
    let (first, second) = ((SHARDS[0], first), (SHARDS[1], second));
    let index = (INDEX, index());
    // As torch 2.15 begins a file.
    let pickle = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x16\0\x0c\0\
        pytorch_model/data.pklFB";
    vec![
        case(
            "fits_index",
            INDEX,
            &[index.clone(), first.clone(), second.clone()],
            &[],
        ),
        case(
            "fits_folder",
            ".",
            &[index.clone(), first.clone(), second.clone()],
            &[],
        ),
        case("fits_shards", ".", &[first.clone(), second.clone()], &[]),
        case(
            "index_without_shard",
            INDEX,
            &[index, first.clone()],
            &[
                "cannot use the checkpoint: CASE/model.safetensors.index.json: `lm_head.weight` at \
                 byte 470 and 2 more are in the file `model-00002-of-00002.safetensors`, which is \
                 not there: download it into the folder of the index",
            ],
        ),
        case(
            "one_shard",
            SHARDS[0],
            &[first.clone(), second],
            &[
                "missing (3):",
                "lm_head.weight",
                "model.embed_tokens.weight",
                "model.norm.weight",
                "lm_head.weight is tied to model.embed_tokens.weight: one of the two has to be there",
                "this is shard 1 of 2: open the folder of all of them, `CASE`",
            ],
        ),
        case(
            "shards_without_second",
            ".",
            &[first],
            &[
                "cannot use the checkpoint: CASE/.: `model-00002-of-00002.safetensors` is not there, \
                 by the names of the shards that are: download the rest of the checkpoint into this \
                 folder",
            ],
        ),
        case(
            "pickled",
            "pytorch_model.bin",
            &[("pytorch_model.bin", pickle.to_vec())],
            &[
                "cannot use the checkpoint: CASE/pytorch_model.bin: holds what PyTorch pickled, from \
                 byte 0, which only Python reads: run `python -m pycandle unpickle \
                 CASE/pytorch_model.bin --out CASE/pytorch_model.safetensors`, and name \
                 CASE/pytorch_model.safetensors instead",
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let cases = crate::cases();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
    }
}
