//! How much memory all threads take together while a checkpoint of any size goes through.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use peak_alloc::PeakAlloc;
use pycandle_checkpoint::extract::{Options, Plan};
use pycandle_checkpoint::{Checkpoint, Dtype, Expected, Need, validate};

#[global_allocator]
static HELD: PeakAlloc = PeakAlloc;

/// A sparse file of this header and so many bytes of data.
fn sparse(path: &Path, json: &str, data: u64) {
    let mut file = File::create(path).expect("a file");
    file.write_all(&(json.len() as u64).to_le_bytes())
        .expect("a write");
    file.write_all(json.as_bytes()).expect("a write");
    file.set_len(8 + json.len() as u64 + data)
        .expect("a sparse file");
}

/// Extracts all of a checkpoint: tensors, bytes of them, and the most bytes that were held for it
/// beside what opening and validating it keeps; and those with it.
fn extract(source: &Path, options: &Options) -> (usize, u64, usize, usize) {
    HELD.reset_peak_usage();
    let before = HELD.current_usage();
    let checkpoint = Checkpoint::open(source).expect("a checkpoint");
    // As they are read of a manifest, beside a checkpoint that has the same names.
    let needs = checkpoint.iter().map(|tensor| Need {
        name: tensor.name().into(),
        shape: tensor.shape().into(),
        dtype: tensor.dtype(),
        tied_to: None,
    });
    let expected = Expected {
        needs: &needs.collect::<Vec<_>>(),
        ..Expected::DEFAULT
    };
    let found = validate(&expected, &checkpoint).expect("a match");
    let headers = HELD.peak_usage() - before;
    HELD.reset_peak_usage();
    let kept = HELD.current_usage();
    let out = source.with_file_name("out.safetensors");
    let plan = Plan::new(&expected, &checkpoint, &found, &out, options).expect("a plan");
    let done = plan.write(&|_| true).expect("no error").expect("no stop");
    let most = HELD.peak_usage();
    (
        done.tensors,
        done.bytes_in,
        most - kept,
        headers.max(most - before),
    )
}

// One test: the counters are those of the whole process.
#[test]
fn neither_large_tensors_nor_many_take_much() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("source.safetensors");
    // 2 GB in three tensors, the largest of 1.9 GB.
    let json = r#"{"a":{"dtype":"U8","shape":[1900000000],"data_offsets":[0,1900000000]},
        "b":{"dtype":"F64","shape":[12500000],"data_offsets":[1900000000,2000000000]},
        "c":{"dtype":"U8","shape":[3],"data_offsets":[2000000000,2000000003]}}"#;
    sparse(&source, json, 2_000_000_003);
    let options = Options {
        dtype: Some(Dtype::BF16),
        ..Options::default()
    };
    let (tensors, bytes, most, all) = extract(&source, &options);
    assert_eq!((bytes, tensors), (2_000_000_003, 3));
    assert!(all <= 64 << 20, "{all} bytes were held");
    assert!(most > 1 << 20, "{most} bytes are too few to be true");

    // As many tensors as a mixture of experts of 80 billion parameters has, in one file and in many.
    let name = |i: usize| format!("model.layers.{}.mlp.experts.{i}.up_proj.weight", i % 48);
    let entry = |i: usize| {
        let (name, start) = (name(i), 64 * i);
        let end = start + 64;
        format!(r#""{name}":{{"dtype":"U8","shape":[8,8],"data_offsets":[{start},{end}]}}"#)
    };
    let entries: Vec<String> = (0..TENSORS).map(entry).collect();
    let json = format!("{{{}}}", entries.join(","));
    drop(entries);
    sparse(&source, &json, 64 * TENSORS as u64);
    drop(json);
    for shard_size in [None, Some(2 << 20)] {
        let options = Options {
            shard_size,
            force: true,
            ..Options::default()
        };
        let (tensors, _, most, all) = extract(&source, &options);
        println!("{shard_size:?}: {most} bytes, with the headers {all}");
        assert_eq!(tensors, TENSORS);
        // The plan and what the threads hold.
        assert!(most <= 32 << 20, "{most} bytes were held");
        // Names and places of every tensor of the source, and where every need is in it.
        assert!(all <= 260 * TENSORS, "{all} bytes were held");
    }
}

const TENSORS: usize = 442_369;
