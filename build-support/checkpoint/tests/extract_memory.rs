//! How much memory all threads take together while a checkpoint of any size goes through.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pycandle_checkpoint::extract::{Options, Plan};
use pycandle_checkpoint::{Checkpoint, Dtype, Expected, Need, validate};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that are held, and the most of them.
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// 2 GB in three tensors, the largest of 1.9 GB, go through much less than 64 MiB.
#[test]
fn two_gigabytes_take_a_few_megabytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("source.safetensors");
    let json = r#"{"a":{"dtype":"U8","shape":[1900000000],"data_offsets":[0,1900000000]},
        "b":{"dtype":"F64","shape":[12500000],"data_offsets":[1900000000,2000000000]},
        "c":{"dtype":"U8","shape":[3],"data_offsets":[2000000000,2000000003]}}"#;
    let mut file = File::create(&source).expect("a file");
    file.write_all(&(json.len() as u64).to_le_bytes())
        .expect("a write");
    file.write_all(json.as_bytes()).expect("a write");
    let len = 8 + json.len() as u64 + 2_000_000_003;
    file.set_len(len).expect("a sparse file");

    MOST.store(HELD.load(Relaxed), Relaxed);
    let before = HELD.load(Relaxed);
    let checkpoint = Checkpoint::open(&source).expect("a checkpoint");
    let need = |tensor: pycandle_checkpoint::Tensor| Need {
        name: tensor.name().to_owned().into(),
        shape: tensor.shape().to_vec().into(),
        dtype: tensor.dtype(),
        tied_to: None,
    };
    let expected = Expected {
        needs: &checkpoint.iter().map(need).collect::<Vec<_>>(),
        ..Expected::DEFAULT
    };
    let found = validate(&expected, &checkpoint).expect("a match");
    let options = Options {
        dtype: Some(Dtype::BF16),
        ..Options::default()
    };
    let out = folder.path().join("out.safetensors");
    let plan = Plan::new(&expected, &checkpoint, &found, &out, &options).expect("a plan");
    let done = plan.write(&|_| true).expect("no error").expect("no stop");
    let most = MOST.load(Relaxed) - before;
    assert_eq!((done.bytes_in, done.tensors), (2_000_000_003, 3));
    assert!(most <= 64 << 20, "{most} bytes were held");
    assert!(most > 1 << 20, "{most} bytes are too few to be true");
}
