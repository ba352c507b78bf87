//! The runtime from the outside: files that lie, caches, layers and parity.

mod blocks;
mod cache;
mod files;
mod layers;
mod load;
mod params;
mod parity;
mod reported;
mod silent;
mod which;

use std::path::Path;

/// A safetensors file written by hand, so that it can be wrong.
pub fn write(path: &Path, json: &str, data: &[u8]) {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend_from_slice(data);
    std::fs::write(path, bytes).expect("a writable folder");
}

/// A file with one f32 tensor per name, shape and values.
pub fn save(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        values.iter().for_each(|v| data.extend(v.to_le_bytes()));
        let end = data.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
    }
    write(path, &format!("{{{}}}", entries.join(",")), &data);
}

/// A folder that goes away when it is dropped.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
