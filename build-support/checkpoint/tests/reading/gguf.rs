//! Headers of GGUF files; what is true of good ones is what the Python package `gguf` wrote.

use std::path::{Path, PathBuf};

use pycandle_checkpoint::{Checkpoint, Dtype, Value};

use crate::written::{Gguf, Tensor, array, text};
use crate::{outcome, refused};

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../../tests/gguf").join(name)
}

#[track_caller]
fn check(change: impl FnOnce(&mut Gguf), expected: &str) {
    let mut file = Gguf::default();
    change(&mut file);
    refused(&file.bytes(), expected);
}

#[test]
fn metadata_of_every_kind() {
    let checkpoint = Checkpoint::open(fixture("kinds.gguf")).expect("a good file");
    let integer = |n: i128| Value::Integer(n);
    let expected = [
        ("general.architecture", Value::Text("test".into())),
        ("general.alignment", integer(64)),
        ("kind.u8", integer(255)),
        ("kind.i8", integer(-128)),
        ("kind.u16", integer(65535)),
        ("kind.i16", integer(-32768)),
        ("kind.u32", integer(u32::MAX.into())),
        ("kind.i32", integer(i32::MIN.into())),
        ("kind.u64", integer(u64::MAX.into())),
        ("kind.i64", integer(i64::MIN.into())),
        ("kind.f32", Value::Float(0.5)),
        ("kind.f64", Value::Float(-0.1)),
        ("kind.bool", Value::Bool(true)),
        ("kind.text", Value::Text("grün".into())),
        // Too long to be kept.
        ("kind.long_text", Value::Text(String::new())),
        ("kind.numbers", Value::Array(3)),
        ("kind.texts", Value::Array(3)),
        ("kind.nested", Value::Array(2)),
    ];
    for (key, value) in expected {
        assert_eq!(checkpoint.metadata(key), Some(&value), "{key}");
    }
    assert!(checkpoint.is_gguf());
}

/// Every tensor is where the package put it: the values written there are read back.
#[test]
fn plain_tensors() {
    let path = fixture("kinds.gguf");
    let bytes = std::fs::read(&path).expect("the file");
    let checkpoint = Checkpoint::open(path).expect("a good file");
    let check = |name: &str, dtype, last: &[u8]| {
        let tensor = checkpoint.get(name).expect("a tensor");
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[2, 3][..]));
        // They are -2, -1, 0, 1, 2, 3.
        let range = tensor.range();
        assert_eq!(range.start % 64, 0);
        assert!(bytes[range.start as usize..range.end as usize].ends_with(last));
    };
    check("plain.int8", Dtype::I8, &3i8.to_le_bytes());
    check("plain.int16", Dtype::I16, &3i16.to_le_bytes());
    check("plain.int32", Dtype::I32, &3i32.to_le_bytes());
    check("plain.int64", Dtype::I64, &3i64.to_le_bytes());
    check("plain.float16", Dtype::F16, &[0x00, 0x42]);
    check("plain.float32", Dtype::F32, &3f32.to_le_bytes());
    check("plain.float64", Dtype::F64, &3f64.to_le_bytes());
    assert_eq!(checkpoint.len(), 7);
}

#[test]
fn block_types() {
    let checkpoint = Checkpoint::open(fixture("blocks.gguf")).expect("a good file");
    assert!(checkpoint.len() > 15);
    for tensor in checkpoint.iter() {
        assert_eq!(tensor.dtype().name(), tensor.name());
        assert_eq!(tensor.shape(), [3, 512]);
    }
}

#[test]
fn the_default_alignment_and_llama_cpps_names() {
    let checkpoint = Checkpoint::open(fixture("llama_Q8_0.gguf")).expect("a good file");
    let tensor = |name| checkpoint.get(name).expect("a tensor");
    assert_eq!(tensor("blk.1.attn_k.weight").shape(), [16, 32]);
    assert_eq!(tensor("blk.1.attn_k.weight").dtype(), Dtype::Q8_0);
    assert_eq!(tensor("output_norm.weight").dtype(), Dtype::F32);
    assert_eq!(tensor("output_norm.weight").range().start % 32, 0);
}

#[test]
fn what_is_allowed() {
    let good = Gguf::default();
    let header = good.header().len().next_multiple_of(32) as u64;
    for version in [2, 3] {
        let file = Gguf {
            version,
            ..good.clone()
        };
        let checkpoint = outcome(&file.bytes()).expect("a good file");
        let b = checkpoint.get("b").expect("a tensor");
        assert_eq!((b.dtype(), b.shape()), (Dtype::Q8_0, &[2, 64][..]));
        assert_eq!(b.range(), header + 32..header + 32 + 136);
    }
    // Between tensors and after the last there is less than the alignment; empty tensors and scalars
    // are tensors.
    let file = Gguf {
        tensors: vec![
            Tensor::new("scalar", &[], 0, 0),
            Tensor::new("empty", &[0, 3], 0, 32),
        ],
        data: 63,
        ..good.clone()
    };
    let checkpoint = outcome(&file.bytes()).expect("a good file");
    assert_eq!(
        checkpoint.get("empty").map(|t| t.shape()),
        Some(&[3, 0][..])
    );
    let none = Gguf {
        tensors: Vec::new(),
        metadata: Vec::new(),
        data: 0,
        ..good
    };
    assert!(outcome(&none.header()).expect("no tensor").is_empty());
}

#[test]
fn not_a_file_that_is_read() {
    check(|f| f.version = 1, "GGUF version at byte 4 is 1");
    check(|f| f.version = 4, "GGUF version at byte 4 is 4");
    let mend =
        "big-endian by its version at byte 4, which llama.cpp's `gguf_convert_endian.py` mends";
    check(|f| f.version = 3u32.swap_bytes(), mend);
    let big = Gguf {
        version: 3u32.swap_bytes(),
        ..Gguf::default()
    };
    let text = outcome(&big.bytes()).expect_err("another order of bytes");
    assert!(text.ends_with(mend), "{text}");
}

#[test]
fn counts_lie() {
    let max = u64::MAX;
    check(
        |f| f.counts = Some((max, 0)),
        "the number of tensors at byte 8 is 18446744073709551615, but the 408 bytes that follow hold at most 17: download",
    );
    check(
        |f| f.counts = Some((0, max / 13)),
        "the number of metadata entries at byte 16 is",
    );
    // Few enough for the bytes that are there, too many for what a tensor takes.
    let file = Gguf {
        counts: Some((1, 0)),
        ..Gguf::default()
    };
    refused(
        &file.header()[..34],
        "the number of tensors at byte 8 is 1, but the 18 bytes that follow hold at most 0",
    );
    // One more than there are: what follows is read as one.
    check(|f| f.counts = Some((3, 3)), "at byte");
    check(|f| f.counts = Some((2, 4)), "at byte");
    // One fewer: the tensors begin too early.
    check(|f| f.counts = Some((2, 2)), "at byte");
    // The same where the last is the only one of its name, so that nothing else is wrong with it.
    check(
        |f| f.counts = Some((1, 3)),
        "belong to no tensor: the number of tensors at byte 8 may be wrong",
    );
    check(
        |f| {
            f.tensors[1].offset += 32;
            f.data += 32;
        },
        "40 bytes before `b`, up to byte 320, belong to no tensor",
    );
}

#[test]
fn lengths_lie() {
    let long = |len: u64| [&len.to_le_bytes(), &b"abc"[..]].concat();
    let set = |f: &mut Gguf, kind, value| f.metadata[0] = (b"key".to_vec(), kind, value);
    check(
        |f| set(f, 8, long(u64::MAX)),
        "the length of the text of `key` at byte 39 is 18446744073709551615, but",
    );
    check(
        |f| set(f, 9, array(5, u64::MAX / 2, &[])),
        "the number of elements of `key` at byte 43 is 9223372036854775807, but",
    );
    check(
        |f| set(f, 9, array(8, 1, &long(1 << 40))),
        "the length of a text of `key` at byte 51 is 1099511627776, but",
    );
    check(
        |f| f.tensors[1].name = vec![b'x'; 5000],
        "has 5000 bytes, at most 4096 are read: download the file again, or convert",
    );
    let mut bytes = Gguf::default().bytes();
    bytes[24..32].copy_from_slice(&(1u64 << 62).to_le_bytes());
    refused(
        &bytes,
        "the length of a metadata key at byte 24 is 4611686018427387904",
    );
}

#[test]
fn values_that_are_none() {
    let set = |f: &mut Gguf, kind, value| f.metadata[0] = (b"key".to_vec(), kind, value);
    check(
        |f| set(f, 13, vec![]),
        "`key` at byte 39 has the unknown type 13",
    );
    check(|f| set(f, 7, vec![2]), "`key` at byte 39 is the boolean 2");
    check(
        |f| set(f, 9, array(13, 1, &[])),
        "`key` at byte 39 is an array of the unknown type 13",
    );
    let deep = (0..6).fold(array(4, 0, &[]), |inner, _| array(9, 1, &inner));
    check(
        |f| set(f, 9, deep),
        "`key` at byte 87 is an array in 4 others: too deep",
    );
    check(
        |f| set(f, 8, [text("ab").as_slice(), &[]].concat().replaced()),
        "the text of `key` is not UTF-8 at byte 48",
    );
    check(
        |f| f.metadata[0].0 = vec![b'a', 0xff],
        "a metadata key is not UTF-8 at byte 33",
    );
    check(
        |f| f.tensors[0].name = vec![0xc0],
        "the name of a tensor is not UTF-8 at byte",
    );
    for value in [0u32, 3, 48, 1 << 21] {
        check(
            |f| {
                f.metadata[0] = (
                    b"general.alignment".to_vec(),
                    4,
                    value.to_le_bytes().to_vec(),
                );
            },
            "`general.alignment` at byte 24 is no power of two",
        );
    }
}

trait Replaced {
    fn replaced(self) -> Self;
}

impl Replaced for Vec<u8> {
    /// The same with a last byte that no UTF-8 has.
    fn replaced(mut self) -> Self {
        if let Some(last) = self.last_mut() {
            *last = 0xff;
        }
        self
    }
}

#[test]
fn names_listed_twice() {
    check(
        |f| f.tensors[1].name = b"a".to_vec(),
        "`a` at byte 185 is listed twice",
    );
    check(
        |f| f.metadata[1] = f.metadata[0].clone(),
        "metadata `general.architecture` at byte 68 is listed twice",
    );
}

#[test]
fn shapes_and_types() {
    check(
        |f| f.tensors[0].sizes = vec![1; 9],
        "has 9 dimensions, at most 8 are read",
    );
    check(
        |f| f.tensors[0].sizes = vec![u64::MAX, 2],
        "F32 [2, 18446744073709551615] takes more bytes than 64 bits can count",
    );
    check(
        |f| f.tensors[1].sizes = vec![1 << 40, 1 << 40],
        "Q8_0 [1099511627776, 1099511627776] takes more bytes than 64 bits can count",
    );
    check(
        |f| f.tensors[1].sizes = vec![33],
        "Q8_0 [33] has rows of 33, which are no whole blocks of 32",
    );
    check(|f| f.tensors[1].kind = 99, "has the unknown type 99");
    // Types that were taken out of the format.
    check(|f| f.tensors[1].kind = 4, "has the unknown type 4");
}

#[test]
fn offsets() {
    let file = Gguf::default();
    let data = file.header().len().next_multiple_of(32);
    check(
        |f| f.tensors[1].offset = 16,
        &format!(
            "`b` starts at byte {}, no multiple of the alignment 32",
            data + 16
        ),
    );
    check(
        |f| f.tensors[1].offset = 0,
        &format!("overlaps `a` at byte {data}"),
    );
    check(
        |f| f.tensors[1].offset = 64,
        &format!(
            "`b` ends at byte {}, the file at byte {}: the file was cut",
            data + 64 + 136,
            data + 168
        ),
    );
    check(
        |f| f.tensors[1].offset = u64::MAX,
        "ends 136 bytes after 18446744073709551615, which 64 bits cannot count",
    );
    check(|f| f.tensors[1].offset = u64::MAX - 255, "the file was cut");
    // All of it at once.
    let mut many = Gguf::default();
    many.tensors[0].offset = 16;
    many.tensors[1].offset = 80;
    let error = outcome(&many.bytes()).expect_err("three problems");
    assert!(error.starts_with("w/hostile: 3 problems\n"), "{error}");
}

/// What a file says of every layer is one value where all layers are alike.
#[test]
fn an_array_of_equal_integers_is_that_integer() {
    let layers = |numbers: &[u32]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        array(4, numbers.len() as u64, &bytes)
    };
    for (value, expected) in [
        (layers(&[2, 2, 2]), Value::Integer(2)),
        (layers(&[2]), Value::Integer(2)),
        (layers(&[2, 2, 3]), Value::Array(3)),
        (layers(&[]), Value::Array(0)),
        (layers(&[7; 5000]), Value::Array(5000)),
        (array(7, 2, &[1, 1]), Value::Array(2)),
    ] {
        let mut file = Gguf::default();
        file.metadata.push((b"heads".to_vec(), 9, value));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, file.bytes()).expect("written");
        let checkpoint = Checkpoint::open(path).expect("a good file");
        assert_eq!(checkpoint.metadata("heads"), Some(&expected));
    }
}
