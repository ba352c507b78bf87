//! A mixture of experts of 80 billion parameters, quantized in parts: 512 experts in 48 layers, three
//! matrices of six tensors each.

use std::fs::File;
use std::io::Write;
use std::path::Path;

const LAYERS: usize = 48;
const EXPERTS: usize = 512;
const MATRICES: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];
/// Parts of a matrix, with their dtypes in a manifest and in a file, sizes and bytes.
const PARTS: [(&str, &str, &str, &str, u64); 6] = [
    ("weight", "float32", "F32", "32,32", 4096),
    ("weight.absmax", "uint8", "U8", "24576", 24576),
    ("weight.nested_absmax", "float32", "F32", "96", 384),
    ("weight.nested_quant_map", "float32", "F32", "256", 1024),
    ("weight.quant_map", "float32", "F32", "16", 64),
    (
        "weight.quant_state.bitsandbytes__nf4",
        "uint8",
        "U8",
        "100",
        100,
    ),
];
/// Tensors of the model, all with the last.
pub const TENSORS: usize = LAYERS * EXPERTS * MATRICES.len() * PARTS.len() + 1;

/// Every matrix by its module's path.
fn matrices() -> impl Iterator<Item = String> {
    (0..LAYERS * EXPERTS * MATRICES.len()).map(|i| {
        let (layer, expert, matrix) = (i / EXPERTS / 3, i / 3 % EXPERTS, MATRICES[i % 3]);
        format!("model.layers.{layer}.mlp.experts.{expert}.{matrix}")
    })
}

/// The name and part of every tensor but the last.
fn tensors() -> impl Iterator<Item = (String, usize)> {
    matrices().flat_map(|matrix| {
        let parts = PARTS.iter().enumerate();
        parts.map(move |(i, (part, ..))| (format!("{matrix}.{part}"), i))
    })
}

/// The manifest of a model of all the tensors. It reads one of them, or a part of every matrix, each
/// in a module of its own.
pub fn manifest(reads: bool) -> String {
    let mut modules = vec![r#"{"path":"","class":"m.M"}"#.to_owned()];
    let mut calls = vec![r#"{"module":"","index":0,"parent":null,"outputs":["out"]}"#.to_owned()];
    let mut nodes = Vec::new();
    let mut x = "x".to_owned();
    let mut parents: Vec<(String, usize)> = Vec::new();
    for (i, matrix) in matrices().enumerate().filter(|_| reads) {
        // The modules around this one that the one before was not in.
        let ends = matrix.match_indices('.').map(|(dot, _)| &matrix[..dot]);
        for path in ends.chain([&*matrix]) {
            if parents.iter().any(|(known, _)| known == path) {
                continue;
            }
            let around = path.rsplit_once('.').map_or("", |(around, _)| around);
            parents
                .retain(|(known, _)| around == known || around.starts_with(&format!("{known}.")));
            let (class, of_nodes) = match path.rsplit('.').next().unwrap_or_default() {
                "layers" | "experts" => ("torch.nn.modules.container.ModuleList", false),
                last if last.starts_with(|c: char| c.is_ascii_digit()) => ("m.Numbered", true),
                last => (
                    if last.ends_with("proj") {
                        "m.Linear4bit"
                    } else {
                        "m.Block"
                    },
                    true,
                ),
            };
            modules.push(format!(r#"{{"path":"{path}","class":"{class}"}}"#));
            let parent = parents.last().map_or(0, |(_, call)| *call);
            let call = if of_nodes { calls.len() } else { parent };
            parents.push((path.to_owned(), call));
            if of_nodes {
                let inside = MATRICES.len()
                    * match path.matches('.').count() {
                        0 => LAYERS * EXPERTS,
                        2 | 3 => EXPERTS,
                        5 => 1,
                        _ => 0,
                    };
                let output = (i + inside.max(1)) - 1;
                calls.push(format!(
                    r#"{{"module":"{path}","index":0,"parent":{parent},"outputs":["y{output}"]}}"#
                ));
            }
        }
        nodes.push(linear(&x, &matrix, &format!("y{i}"), 32, calls.len() - 1));
        x = format!("y{i}");
    }
    nodes.push(linear(&x, "fc", "out", 64, 0));
    let params = tensors().map(|(name, i)| (name, PARTS[i].1, PARTS[i].3));
    let params = params.chain([("fc.weight".to_owned(), "float32", "64,32")]).map(|(name, dtype, shape)| {
        format!(r#"{{"name":"{name}","kind":"parameter","dtype":"{dtype}","shape":[{shape}],"tied_to":null}}"#)
    });
    let params: Vec<String> = params.collect();
    format!(
        r#"{{"version":[1,0],"recorder":{{}},"model":{{"name":"big","class":"m.M","output_class":null}},
"dtype":"float32","symbols":[{{"name":"batch","min":1,"max":64}}],
"inputs":[{{"name":"x","path":"args[0]","dtype":"float32","shape":["batch",32]}}],
"fixed_inputs":[],
"outputs":[{{"name":"out","path":"","value":{{"v":"out"}}}}],"states":[],"constants":[],
"parameters":[{}],
"modules":[{}],
"calls":[{}],
"nodes":[{}]}}"#,
        params.join(",\n"),
        modules.join(",\n"),
        calls.join(",\n"),
        nodes.join(",\n")
    )
}

fn linear(input: &str, path: &str, out: &str, size: usize, call: usize) -> String {
    format!(
        r#"{{"op":"aten.linear.default","args":{{"input":{{"v":"{input}"}},"weight":{{"param":"{path}.weight"}}}},"out":[{{"name":"{out}","dtype":"float32","shape":["batch",{size}]}}],"call":{call},"at":"m.py:3"}}"#
    )
}

/// Writes a sparse checkpoint of all tensors, with this in front of the names of all but one.
///
/// # Errors
/// When the file cannot be written.
pub fn write_checkpoint(path: &Path, prefix: &str) -> std::io::Result<()> {
    let mut json =
        r#"{"fc.weight":{"dtype":"F32","shape":[64,32],"data_offsets":[0,8192]}"#.to_owned();
    let mut at = 8192;
    for (name, i) in tensors() {
        let (_, _, dtype, shape, bytes) = PARTS[i];
        json += &format!(
            r#","{prefix}{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{at},{}]}}"#,
            at + bytes
        );
        at += bytes;
    }
    json.push('}');
    let mut to = File::create(path)?;
    to.write_all(&(json.len() as u64).to_le_bytes())?;
    to.write_all(json.as_bytes())?;
    to.set_len(8 + json.len() as u64 + at)
}
