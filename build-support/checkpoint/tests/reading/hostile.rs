//! Whatever the bytes: no panic, a file and a byte in every refusal, and no more memory than the
//! bytes justify.

use proptest::prelude::*;

use crate::memory::peak;
use crate::written::{Gguf, Tensor, array, text};
use crate::{header, outcome};

const JSON: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}"#;

/// The buffer of the reader, and what a small file's messages and maps take.
const BASE: usize = (1 << 20) + (64 << 10);

/// Opens the bytes and says whether that worked.
#[track_caller]
fn exercise(bytes: &[u8]) -> bool {
    let (outcome, held) = peak(|| outcome(bytes));
    // A byte of a header makes at most an eighth of an entry in a map that was just enlarged.
    let limit = BASE + 40 * bytes.len();
    assert!(held <= limit, "{held} bytes held for {}", bytes.len());
    match outcome {
        Ok(checkpoint) => {
            for tensor in checkpoint.iter() {
                let end = tensor.range().end;
                assert!(tensor.range().start <= end && end <= bytes.len() as u64);
                assert_eq!(Some(tensor.bytes()), tensor.dtype().bytes(tensor.shape()));
            }
            true
        }
        Err(error) => {
            assert!(error.starts_with("w/hostile: "), "{error}");
            assert!(crate::names_a_byte(&error), "{error}");
            false
        }
    }
}

#[test]
fn truncation_at_every_byte() {
    let safetensors = header(JSON, 26);
    let gguf = Gguf::default().bytes();
    for good in [safetensors, gguf] {
        assert!(exercise(&good));
        for len in 0..good.len() {
            assert!(!exercise(&good[..len]), "opened with {len} bytes");
        }
    }
}

#[test]
fn every_flipped_bit() {
    let safetensors = header(JSON, 26);
    let gguf = Gguf::default();
    for (good, end) in [
        (safetensors, 8 + JSON.len()),
        (gguf.bytes(), gguf.header().len()),
    ] {
        for bit in 0..end * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            exercise(&bytes);
        }
    }
}

/// A long sparse file whose zeros read as entries does not keep anyone busy.
#[test]
fn a_long_file_of_zeros() {
    for counts in [(1u64 << 34, 0u64), (0, 1 << 34)] {
        let folder = crate::folder();
        let path = folder.path().join("zeros.gguf");
        let file = Gguf {
            counts: Some(counts),
            metadata: Vec::new(),
            tensors: Vec::new(),
            ..Gguf::default()
        };
        std::fs::write(&path, file.header()).expect("a writable folder");
        let file = std::fs::File::options().write(true).open(&path);
        file.and_then(|file| file.set_len(1 << 40))
            .expect("a sparse file");
        let (result, held) = peak(|| pycandle_checkpoint::Checkpoint::open(&path));
        let error = result.expect_err("twenty problems").to_string();
        assert!(error.contains("20 problems"), "{error}");
        assert!(held < 2 << 20, "{held}");
    }
}

#[test]
fn a_header_longer_than_any_is_left() {
    let folder = crate::folder();
    let path = folder.path().join("long.gguf");
    let file = Gguf {
        metadata: vec![(b"key".to_vec(), 9, array(12, 1 << 32, &[]))],
        ..Gguf::default()
    };
    std::fs::write(&path, file.header()).expect("a writable folder");
    let file = std::fs::File::options().write(true).open(&path);
    file.and_then(|file| file.set_len(1 << 40))
        .expect("a sparse file");
    let error = pycandle_checkpoint::Checkpoint::open(&path).expect_err("too long");
    let expected = "header is longer than 1073741824 bytes, with the elements of `key` at byte 51";
    assert!(error.to_string().contains(expected), "{error}");
}

/// Numbers that lengths, counts and offsets break at.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..40,
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 32),
        any::<u64>(),
    ]
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let name = prop::collection::vec(prop_oneof![Just(b'a'), Just(b'.'), any::<u8>()], 0..3);
    let sizes = prop::collection::vec(number(), 0..4);
    let offset = prop_oneof![(0u64..8).prop_map(|n| n * 32), number()];
    (name, sizes, 0u32..42, offset).prop_map(|(name, sizes, kind, offset)| Tensor {
        name,
        sizes,
        kind,
        offset,
    })
}

fn entry() -> impl Strategy<Value = (Vec<u8>, u32, Vec<u8>)> {
    let key = prop_oneof![
        Just(b"general.alignment".to_vec()),
        prop::collection::vec(any::<u8>(), 0..4)
    ];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..16),
        "[a-z]{0,4}".prop_map(|word| text(&word)),
        (0u32..14, number()).prop_map(|(kind, len)| array(kind, len, &[1, 2, 3, 4])),
    ];
    (key, 0u32..14, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn gguf_made_of_hostile_parts(
        metadata in prop::collection::vec(entry(), 0..3),
        tensors in prop::collection::vec(tensor(), 0..4),
        counts in prop::option::weighted(0.2, (number(), number())),
        data in 0usize..300,
    ) {
        let file = Gguf { metadata, tensors, counts, data, ..Gguf::default() };
        exercise(&file.bytes());
    }

    #[test]
    fn flipped_bits(
        gguf in any::<bool>(),
        flips in prop::collection::vec((0usize..10_000, 0u8..8), 1..5),
    ) {
        let mut bytes = if gguf { Gguf::default().bytes() } else { header(JSON, 26) };
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        let ours = exercise(&bytes);
        // What the reference implementation refuses, we refuse.
        if !gguf && safetensors::SafeTensors::deserialize(&bytes).is_err() {
            prop_assert!(!ours);
        }
    }

    #[test]
    fn random_bytes(magic in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let start: &[u8] = if magic { b"GGUF\x03\0\0\0" } else { &[] };
        exercise(&[start, &bytes].concat());
    }

    #[test]
    fn random_json(json in r#"\{("[ab]":(\{("(dtype|shape|data_offsets|x)":("F32"|"BOOL"|"F4"|\[[0-9]?\]|\[0,[0-9]{1,20}\]|null),?){0,4}\}|[0-9]|"s"),?){0,3}\}"#) {
        exercise(&header(&json, 8));
    }
}
