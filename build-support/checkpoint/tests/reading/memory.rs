//! How much memory a thread takes for something.

/// The result of `f`, and the most bytes that it held at any time, beside what was there before.
pub fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let mut result = None;
    let held = allocation_counter::measure(|| result = Some(f()));
    (result.expect("what `f` gave"), held.bytes_max as usize)
}

#[test]
fn what_is_held_is_counted() {
    let (_, held) = peak(|| drop(std::hint::black_box(vec![0u8; 100_000])));
    assert!((100_000..110_000).contains(&held), "{held}");
}
