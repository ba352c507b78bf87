//! A mixture of experts of 80 billion parameters, 442,369 tensors, is generated, checked and refused
//! in memory that a build machine has, and its source is as short as that of a small one.

use allocation_counter::measure;
use pycandle_build::Config;
use pycandle_build::checkpoint::{self, Trace};
use pycandle_deepen::experts::{TENSORS, manifest, write_checkpoint};

/// What `f` gives, and the megabytes that it held at most.
fn peak<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let held = measure(|| result = Some(f()));
    (result.expect("what `f` gave"), held.bytes_max >> 20)
}

#[test]
fn half_a_million_tensors_take_a_quarter_of_a_gigabyte() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    for (name, reads) in [("unread", false), ("read", true)] {
        std::fs::write(file(name), manifest(reads)).expect("a manifest");
    }
    write_checkpoint(&file("fits"), "").expect("a checkpoint");
    write_checkpoint(&file("doubled"), "model.").expect("a checkpoint");
    let config = |manifest: &str, weights: &str| Config::new(file(manifest)).weights(file(weights));

    let (unread, held) = peak(|| pycandle_build::generate(&config("unread", "fits")));
    let unread = unread.expect("a model");
    println!("{held} MB for {TENSORS} tensors that fit");
    assert!(
        (16..MOST).contains(&held),
        "{held} MB for a checkpoint that fits"
    );
    assert!(
        unread
            .source
            .contains(".experts.{0..511}.gate_proj.weight.absmax")
    );
    assert!(
        unread.source.lines().count() < 200,
        "{}",
        unread.source.lines().count()
    );

    let (found, held) = peak(|| {
        let config = config("unread", "fits");
        let opened = checkpoint::files(&config).expect("a checkpoint");
        let opened = opened.expect("one that is named");
        let trace = Trace::read(&file("unread"), &opened.checkpoint).expect("a manifest");
        let (validated, _) = checkpoint::fit(&trace, &opened, &config).expect("a match");
        (trace.needs.len(), validated.sources().count())
    });
    println!("{held} MB to find them for an extraction");
    // Each is where the trace has it, of which nothing is kept.
    assert_eq!(found, (TENSORS, 0));
    assert!(held < MOST_TO_EXTRACT, "{held} MB to find what is needed");

    let (refused, held) = peak(|| pycandle_build::expand(&config("unread", "doubled")));
    println!("{held} MB for those that do not");
    let refused = refused.expect("code all the same").problems.to_string();
    assert!(held < MOST, "{held} MB for a checkpoint that does not fit");
    assert!(
        refused.contains("442368") && refused.lines().count() < 20,
        "{refused}"
    );

    let (read, held) = peak(|| pycandle_build::expand(&config("read", "absent")));
    let read = read.expect("code all the same");
    println!("{held} MB without a checkpoint");
    assert!(
        held < MOST,
        "{held} MB for an absent checkpoint and a model that reads its experts"
    );
    let absent = read.problems.to_string();
    assert!(absent.contains("no checkpoint at"), "{absent}");
    let code = read.tokens.to_string();
    assert!(code.len() < 20_000, "{code}");
}

/// Megabytes: half of what a build may take, the compiler needs some too.
const MOST: u64 = 256;
/// Megabytes of an extraction before it begins to write: 60 bytes for a name, 180 for its places.
const MOST_TO_EXTRACT: u64 = 60;
