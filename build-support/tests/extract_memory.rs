//! How much memory all threads take together while a checkpoint of any size goes through.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use peak_alloc::PeakAlloc;
use pycandle_build::checkpoint::Trace;
use pycandle_build::{Config, RenameRule, checkpoint};
use pycandle_checkpoint::extract::{Options, Plan};
use pycandle_checkpoint::{Dtype, Expected};

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

/// A manifest of these parameters: names, and their dtypes and shapes as JSON.
fn manifest(path: &Path, entries: impl Iterator<Item = (String, &'static str)>) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    let write = |text: &str, file: &mut BufWriter<_>| {
        file.write_all(text.as_bytes()).expect("a write");
    };
    write(r#"{"version":[1,0],"parameters":["#, &mut file);
    for (number, (name, kind)) in entries.enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let text =
            format!(r#"{comma}{{"name":"{name}","kind":"parameter",{kind},"tied_to":null}}"#);
        write(&text, &mut file);
    }
    write("]}", &mut file);
}

/// Extracts a checkpoint as the command line does: tensors, bytes of them, and the most bytes that
/// were held for it.
fn extract(folder: &Path, renames: &[RenameRule], options: &Options) -> (usize, u64, usize) {
    let trace = folder.join("m_manifest.json");
    let config = Config::new(&trace).weights(folder.join("source.safetensors"));
    let config = renames.iter().cloned().fold(config, Config::rename);
    HELD.reset_peak_usage();
    let before = HELD.current_usage();
    let opened = checkpoint::files(&config).expect("a checkpoint");
    let opened = opened.expect("a checkpoint is named");
    let trace = Trace::read(&trace, &opened.checkpoint).expect("a manifest");
    let (validated, _) = checkpoint::fit(&trace, &opened, &config).expect("a match");
    let expected = Expected {
        trace: &trace.file,
        needs: &*trace.needs,
        ..Expected::DEFAULT
    };
    let out = folder.join("out.safetensors");
    let plan = Plan::new(&expected, &opened.checkpoint, &validated, &out, options);
    let done = plan.expect("a plan").write(&|_| true);
    let done = done.expect("no error").expect("no stop");
    let most = HELD.peak_usage() - before;
    (done.tensors, done.bytes_in, most)
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
    let trace = folder.path().join("m_manifest.json");
    let params = [
        ("a", r#""dtype":"uint8","shape":[1900000000]"#),
        ("b", r#""dtype":"float64","shape":[12500000]"#),
        ("c", r#""dtype":"uint8","shape":[3]"#),
    ];
    let params = params.map(|(name, kind)| (name.to_owned(), kind));
    manifest(&trace, params.into_iter());
    let options = Options {
        dtype: Some(Dtype::BF16),
        ..Options::default()
    };
    let (tensors, bytes, most) = extract(folder.path(), &[], &options);
    assert_eq!((bytes, tensors), (2_000_000_003, 3));
    assert!(most <= 64 << 20, "{most} bytes were held");
    assert!(most > 1 << 20, "{most} bytes are too few to be true");

    // As many tensors as a mixture of experts of 80 billion parameters has, in one file and in many.
    let name = |i: usize| format!("model.layers.{}.mlp.experts.{i}.up_proj.weight", i % 48);
    // Every other one is of a size that takes padding.
    let (shapes, pair) = (["[8,8]", "[7]"], 64 + 7);
    let entry = |i: usize| {
        let (name, shape, start) = (name(i), shapes[i % 2], i / 2 * pair + i % 2 * 64);
        let end = start + [64, 7][i % 2];
        format!(r#""{name}":{{"dtype":"U8","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let kinds = [
        r#""dtype":"uint8","shape":[8,8]"#,
        r#""dtype":"uint8","shape":[7]"#,
    ];
    let check = |tensors: usize, step, before: &str, renames: &[RenameRule], shard_size, bound| {
        let entries: Vec<String> = (0..tensors).map(entry).collect();
        let json = format!("{{{}}}", entries.join(","));
        sparse(
            &source,
            &json,
            (tensors / 2 * pair + tensors % 2 * 64) as u64,
        );
        drop((entries, json));
        let name = |i| name(i)[before.len()..].to_owned();
        let needs = (0..tensors).step_by(step);
        manifest(&trace, needs.clone().map(|i| (name(i), kinds[i % 2])));
        let options = Options {
            shard_size,
            force: true,
            ..Options::default()
        };
        let (written, _, most) = extract(folder.path(), renames, &options);
        println!("{tensors} by {step}, {renames:?}, {shard_size:?}: {most} bytes");
        assert_eq!(written, needs.count());
        assert!(most <= bound, "{most} bytes were held");
    };
    // Most of it are names and places of the tensors; a program takes some more for itself.
    check(TENSORS, 1, "", &[], None, 42 << 20);
    check(TENSORS, 1, "", &[], Some(2 << 20), 42 << 20);
    // What is left behind is said, and takes no more.
    check(TENSORS, 3, "", &[], None, 42 << 20);
    // Of what is renamed both names are held, of which one takes a few bytes.
    let rule = RenameRule::new(r"^model\.", "").expect("a rule");
    check(TENSORS, 1, "model.", &[rule], None, 46 << 20);
}

const TENSORS: usize = 442_369;
