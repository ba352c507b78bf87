//! The values, against PyTorch's and the `gguf` package's; names, shards and alignment.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pycandle_checkpoint::extract::{LARGE, Options, PAGE};
use pycandle_checkpoint::{Checkpoint, Dtype, Expected, validate};

use super::{
    extract, extract_while, fixture, folder, names, need, needs_of, read, refused, write, written,
};

fn to(dtype: Dtype) -> Options {
    Options {
        dtype: Some(dtype),
        ..Options::default()
    }
}

#[test]
fn kept_tensors_are_those_of_the_source() {
    let folder = folder();
    for model in ["llama", "llama_bf16", "gpt2", "bert", "cnn", "vit"] {
        let source = fixture(&format!("models/{model}.safetensors"));
        let out = folder.path().join(format!("{model}.safetensors"));
        let done = written(extract(
            &needs_of(&source),
            &source,
            &out,
            &Options::default(),
        ));
        assert_eq!(done.files, [&*out]);
        assert_eq!(done.bytes_out, out.metadata().expect("a file").len());
        let (ours, theirs) = (read(&out, true), read(&source, false));
        assert_eq!(done.tensors, theirs.len());
        assert!(ours == theirs, "{model} differs");
    }
}

/// Numbers on both sides of every tie, random bits and all of F8_E4M3.
#[test]
fn conversions_are_those_of_pytorch() {
    let folder = folder();
    let source = fixture("conversions/stored.safetensors");
    let out = folder.path().join("out.safetensors");
    for (name, dtype) in [
        ("float32", Dtype::F32),
        ("float16", Dtype::F16),
        ("bfloat16", Dtype::BF16),
    ] {
        let options = Options {
            force: true,
            overflow: true,
            ..to(dtype)
        };
        written(extract(&needs_of(&source), &source, &out, &options));
        let (ours, theirs) = (
            read(&out, true),
            read(&fixture(&format!("conversions/{name}.safetensors")), false),
        );
        assert_eq!(theirs.len(), 5);
        for (stored, theirs) in &theirs {
            assert!(
                ours.get(stored) == Some(theirs),
                "{stored} to {name} differs"
            );
        }
    }
}

/// A weight that is infinite where it was not is another model's, unless someone asks for it.
#[test]
fn finite_values_do_not_become_infinite() {
    let folder = folder();
    let at = |name| folder.path().join(name);
    let (source, out) = (at("source.safetensors"), at("out.safetensors"));
    // What was not finite before does not count.
    let small = [
        65504f32,
        -65520.0,
        1e30,
        f32::NAN,
        f32::NEG_INFINITY,
        65519.0,
    ];
    let large = [f64::from(f32::MAX), 1e300, f64::INFINITY];
    write(&source, &[("a", Dtype::F64, &[3]), ("b", Dtype::F32, &[6])]);
    let mut file = std::fs::read(&source).expect("a file");
    let large: Vec<u8> = large.iter().flat_map(|v| v.to_le_bytes()).collect();
    let small: Vec<u8> = small.iter().flat_map(|v| v.to_le_bytes()).collect();
    let data = file.len() - large.len() - small.len();
    file[data..].copy_from_slice(&[large, small].concat());
    std::fs::write(&source, &file).expect("written");
    let needs = needs_of(&source);
    for (dtype, expected) in [
        (Dtype::F16, "in `a` (2), `b` (2): take --dtype bf16 or f32"),
        (Dtype::BF16, "in `a` (2): take --dtype f32"),
        (Dtype::F32, "in `a` (1): leave --dtype out"),
    ] {
        let outcome = extract(&needs, &source, &out, &to(dtype));
        refused(
            outcome,
            &format!("would make finite values infinite, {expected}, or"),
        );
        assert_eq!(names(folder.path()), ["source.safetensors"]);
    }
    written(extract(&needs, &source, &out, &Options::default()));
}

/// What is refused is refused at the first file that shows it, not after hours of writing.
#[test]
fn nothing_is_written_after_a_file_with_infinite_values() {
    let folder = folder();
    let at = |name| folder.path().join(name);
    let (source, out) = (at("source.safetensors"), at("out.safetensors"));
    let tensor = |name| (name, Dtype::F32, &[2][..]);
    write(&source, &["a", "b", "c", "d"].map(tensor));
    let mut file = std::fs::read(&source).expect("a file");
    let data = file.len() - 4 * 8;
    for (at, value) in [0f32, 0., 1e6, 0., 0., 0., 1e6, 1e6].iter().enumerate() {
        file[data + 4 * at..][..4].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(&source, &file).expect("written");
    let options = Options {
        shard_size: Some(4),
        ..to(Dtype::F16)
    };
    let bytes = AtomicU64::new(0);
    let count = |more| {
        bytes.fetch_add(more, Relaxed);
        true
    };
    refused(
        extract_while(&needs_of(&source), &source, &out, &options, &count),
        "infinite, in `b` (1) (2 of 4 files were not looked at): take --dtype bf16 or f32, or",
    );
    assert_eq!(bytes.into_inner(), 8);
    assert_eq!(names(folder.path()), ["source.safetensors"]);
}

#[test]
fn integers_are_not_converted() {
    let folder = folder();
    let (source, out) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    let tensors: [(_, _, &[usize]); 3] = [
        ("count", Dtype::I64, &[]),
        ("mask", Dtype::Bool, &[3]),
        ("w", Dtype::F32, &[2, 2]),
    ];
    write(&source, &tensors);
    written(extract(&needs_of(&source), &source, &out, &to(Dtype::F16)));
    let out = read(&out, true);
    assert_eq!(
        (&*out["count"].0, &*out["mask"].0, &*out["w"].0),
        ("I64", "BOOL", "F16")
    );
}

/// Every block type that loading can multiply by comes out as the `gguf` package has it.
#[test]
fn blocks_are_dequantized_exactly() {
    let folder = folder();
    let (source, out) = (
        fixture("gguf/blocks.gguf"),
        folder.path().join("out.safetensors"),
    );
    let mut theirs = read(&fixture("gguf/blocks.safetensors"), false);
    theirs.retain(|kind, _| kind.starts_with('Q'));
    assert_eq!(theirs.len(), 10);
    let needs: Vec<_> = theirs
        .keys()
        .map(|name| need(name, Dtype::F32, &[3, 512]))
        .collect();
    refused(
        extract(&needs, &source, &out, &Options::default()),
        "10 tensors are stored in blocks that safetensors has no dtype for",
    );
    written(extract(&needs, &source, &out, &to(Dtype::F32)));
    let ours = read(&out, true);
    for (kind, theirs) in &theirs {
        assert!(ours.get(kind) == Some(theirs), "{kind} differs");
    }
}

/// llama.cpp's names become those of the trace, and its order of the rows of q and k is undone.
#[test]
fn gguf_is_put_back_into_the_order_of_the_trace() {
    let folder = folder();
    let model = fixture("models/llama.safetensors");
    let out = folder.path().join("f32.safetensors");
    let source = fixture("gguf/llama_F32.gguf");
    written(extract(
        &needs_of(&model),
        &source,
        &out,
        &Options::default(),
    ));
    assert!(read(&out, true) == read(&model, false));

    let out = folder.path().join("q8.safetensors");
    let source = fixture("gguf/llama_Q8_0.gguf");
    written(extract(&needs_of(&model), &source, &out, &to(Dtype::F32)));
    let theirs = read(&fixture("gguf/llama_Q8_0.safetensors"), false);
    assert!(read(&out, true) == theirs);
}

#[test]
fn tied_tensors_are_written_once() {
    let folder = folder();
    let (source, out) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    let tensors: [(_, _, &[usize]); 2] = [("embed", Dtype::F32, &[4]), ("other", Dtype::F32, &[4])];
    write(&source, &tensors);
    let mut needs = vec![
        need("embed", Dtype::F32, &[4]),
        need("head", Dtype::F32, &[4]),
    ];
    needs[1].tied_to = Some(0);
    let options = Options {
        force: true,
        ..Options::default()
    };
    let done = written(extract(&needs, &source, &out, &options));
    assert_eq!((done.tensors, read(&out, true).len()), (1, 1));
    let metadata = |key: &str| {
        let checkpoint = Checkpoint::open(&out).expect("a checkpoint");
        checkpoint
            .metadata(key)
            .and_then(|value| value.as_text().map(str::to_owned))
    };
    assert_eq!(metadata("head").as_deref(), Some("embed"));
    assert_eq!(metadata("format").as_deref(), Some("pt"));
    assert_eq!(
        metadata("pycandle.manifest").as_deref(),
        Some("test_manifest.json")
    );

    // One that is tied takes no room, and no file, behind one that is larger than a file may be.
    let small = Options {
        shard_size: Some(8),
        ..options.clone()
    };
    let done = written(extract(&needs, &source, &out, &small));
    assert_eq!(done.files, std::slice::from_ref(&out));

    // The source has both, and they are not equal: the output is left as it was.
    needs[1].name = "other".into();
    let before = std::fs::read(&out).expect("a file");
    refused(
        extract(&needs, &source, &out, &options),
        "`embed` and `other` are one tensor in the trace, but differ here",
    );
    assert!(std::fs::read(&out).expect("a file") == before);
}

#[test]
fn what_is_not_needed_stays_behind() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let out = folder.path().join("out.safetensors");
    let mut needs = needs_of(&source);
    needs.truncate(3);
    written(extract(&needs, &source, &out, &Options::default()));
    assert!(
        read(&out, true)
            .into_keys()
            .eq(needs.iter().map(|need| need.name.to_string()))
    );
    let missing = need("model.layers.9.up", Dtype::F32, &[2]);
    refused(
        extract(&[missing], &source, &out, &Options::default()),
        "missing: model.layers.9.up",
    );
}

#[test]
fn large_tensors_lie_on_pages() {
    let folder = folder();
    let (source, out) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    let (large, page) = (LARGE as usize, PAGE as usize);
    let tensors: [(_, _, &[usize]); 6] = [
        ("norm", Dtype::U8, &[page / 2]),
        ("bias", Dtype::U8, &[3]),
        ("a", Dtype::U8, &[large + page / 2]),
        ("b", Dtype::U8, &[large + page / 2]),
        ("none", Dtype::F32, &[0, 4]),
        ("c", Dtype::U8, &[2 * large]),
    ];
    write(&source, &tensors);
    let done = written(extract(
        &needs_of(&source),
        &source,
        &out,
        &Options::default(),
    ));
    assert_eq!(done.paddings, 0, "order alone does it");
    assert!(read(&out, true) == read(&source, false));
}

#[test]
fn padding_is_counted_and_can_be_left_out() {
    let folder = folder();
    let source = fixture("models/cnn.safetensors");
    let out = folder.path().join("out.safetensors");
    let mut options = Options {
        force: true,
        ..Options::default()
    };
    let done = written(extract(&needs_of(&source), &source, &out, &options));
    let held = Checkpoint::open(&out).expect("a checkpoint").len();
    assert!(done.paddings > 0 && held == done.tensors + done.paddings);
    let strict = Expected {
        needs: &needs_of(&source),
        strict: true,
        ..Expected::DEFAULT
    };
    let padded = Checkpoint::open(&out).expect("a checkpoint");
    assert!(
        validate(&strict, &padded).is_ok(),
        "padding is no unexpected key"
    );
    // Padding is not needed, so extracting again leaves it behind and makes the same file.
    let again = folder.path().join("again.safetensors");
    written(extract(&needs_of(&source), &out, &again, &options));
    assert!(std::fs::read(&again).ok() == std::fs::read(&out).ok());

    options.padding = false;
    let done = written(extract(&needs_of(&source), &source, &out, &options));
    assert_eq!(done.paddings, 0);
    assert!(read(&out, false) == read(&source, false));
    assert_eq!(
        Checkpoint::open(&out).expect("a checkpoint").len(),
        done.tensors
    );
}

#[test]
fn shards_hold_what_fits_and_open_as_one() {
    let folder = folder();
    let source = fixture("models/llama.safetensors");
    let options = Options {
        shard_size: Some(20_000),
        ..Options::default()
    };
    let out = folder.path().join("model.safetensors");
    let done = written(extract(&needs_of(&source), &source, &out, &options));
    let (index, shards) = done.files.split_last().expect("files");
    assert!(shards.len() > 2, "{shards:?}");
    assert_eq!(
        index.file_name(),
        Some("model.safetensors.index.json".as_ref())
    );
    let first = format!("model-00001-of-{:05}.safetensors", shards.len());
    assert_eq!(shards[0].file_name(), Some(first.as_ref()));
    let mut ours = std::collections::BTreeMap::new();
    for shard in shards {
        let tensors = read(shard, true);
        let bytes: usize = tensors.values().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(
            bytes <= 20_000 || tensors.len() == 1,
            "{bytes} bytes in {shard:?}"
        );
        ours.extend(tensors);
    }
    assert!(ours == read(&source, false));
    assert_eq!(
        Checkpoint::open(folder.path()).expect("an index").len(),
        ours.len()
    );
    // And back again, from several files to one.
    let whole = super::folder();
    let back = whole.path().join("model.safetensors");
    written(extract(
        &needs_of(&source),
        index,
        &back,
        &Options::default(),
    ));
    assert!(read(&back, true) == ours);
}
