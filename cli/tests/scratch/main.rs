//! Crates that are written, built and run.
//!
//! They are built without optimisation, in a folder of their own that later runs find again: Candle
//! takes about a minute there, and the models of these tests are small.

mod parity;
mod rebuild;

use std::path::{Path, PathBuf};
use std::process::Command;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A program that builds into the shared folder.
fn shared(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("parity"),
        )
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_INCREMENTAL", "0");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
