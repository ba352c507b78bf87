//! What a process holds in memory, as Linux counts it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a field of a process's status, as `VmHWM` of `self`; 0 where the system has none.
pub fn of(process: &str, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find_map(|(name, value)| (name == field).then_some(value));
    let number = value.and_then(|value| value.split_whitespace().next());
    number
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// What `f` gives, and how much more anonymous memory this process had at most meanwhile; pages of
/// mapped files are not part of it.
///
/// What was freed before and is taken again is not seen: measure in a process that did nothing yet.
pub fn peak<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let anonymous = || of("self", "RssAnon");
    let (stop, most, before) = (AtomicBool::new(false), AtomicU64::new(0), anonymous());
    let value = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(anonymous(), Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
            }
        });
        let value = f();
        most.fetch_max(anonymous(), Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        value
    });
    (value, most.into_inner().saturating_sub(before))
}
