//! Files of a few tensors, all zeros.

use std::collections::BTreeMap;

use serde_json::{Map, json};

/// A tensor: its name, its type, the bytes of a block and the elements in it, its shape.
type Tensor = (String, &'static str, Vec<usize>);

/// A value of a GGUF's metadata.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text.
    Text(&'static str),
    /// An unsigned 32-bit integer.
    Integer(u32),
    /// A 32-bit float.
    Float(f32),
    /// An array of unsigned 32-bit integers.
    Integers(&'static [u32]),
}

/// A safetensors file.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let start = end;
        let width = match *dtype {
            "F64" | "I64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" => 2,
            _ => 1,
        };
        end += width * shape.iter().product::<usize>();
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + end, 0);
    bytes
}

/// A GGUF file, version 3.
pub fn gguf(metadata: &[(&str, Value)], tensors: &[Tensor]) -> Vec<u8> {
    // The code of a type, the bytes of a block and the elements in it.
    let types = BTreeMap::from([
        ("F32", (0_u32, 4, 1)),
        ("F16", (1, 2, 1)),
        ("Q4_0", (2, 18, 32)),
        ("Q8_0", (8, 34, 32)),
        ("MXFP4", (39, 17, 32)),
    ]);
    let mut bytes = b"GGUF".to_vec();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut bytes, key);
        match value {
            Value::Integer(value) => {
                bytes.extend(4_u32.to_le_bytes());
                bytes.extend(value.to_le_bytes());
            }
            Value::Float(value) => {
                bytes.extend(6_u32.to_le_bytes());
                bytes.extend(value.to_le_bytes());
            }
            Value::Integers(values) => {
                bytes.extend(9_u32.to_le_bytes());
                bytes.extend(4_u32.to_le_bytes());
                bytes.extend((values.len() as u64).to_le_bytes());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Value::Text(value) => {
                bytes.extend(8_u32.to_le_bytes());
                text(&mut bytes, value);
            }
        }
    }
    let mut end = 0_u64;
    for (name, dtype, shape) in tensors {
        let (code, block, elements) = types[dtype];
        text(&mut bytes, name);
        bytes.extend((shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            bytes.extend((*dim as u64).to_le_bytes());
        }
        bytes.extend(code.to_le_bytes());
        bytes.extend(end.to_le_bytes());
        let size = shape.iter().product::<usize>() / elements * block;
        end += (size as u64).next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32) + end as usize, 0);
    bytes
}
