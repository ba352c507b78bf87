//! Files that say the same in other bytes.

use sha2::{Digest, Sha256};

use super::*;

/// Places of the first two tensors, which are of one shape.
fn swapped() -> String {
    let to = HEADER.replace("[0,24]", "[X]").replace("[24,48]", "[0,24]");
    to.replace("[X]", "[24,48]")
}

#[test]
fn a_lock_has_the_hash_of_what_stands_before_the_tensors() {
    let folder = Folder::new();
    let text: serde_json::Value = serde_json::from_str(&folder.lock()).expect("JSON");
    let bytes = safetensors(HEADER);
    let header = Sha256::digest(&bytes[..8 + HEADER.len()]);
    let header: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text["files"]["m.safetensors"]["header"], header);
}

#[test]
fn tensors_in_other_places_are_another_file_that_builds_all_the_same() {
    let folder = Folder::new();
    folder.lock();
    check_headers(&folder.open().expect("both")).expect("the same bytes");
    folder.write("m.safetensors", &safetensors(&swapped()));
    let opened = folder.open().expect("the same tensors");
    let error = check_headers(&opened).expect_err("other bytes").to_string();
    assert_eq!(
        error,
        "`m.safetensors.lock.json` does not describe the checkpoint `m.safetensors`\n\n\
         file m.safetensors: its header is not the one that was locked, though it says the same of \
         every tensor: they lie in another order, or it has other metadata\n\n\
         if the checkpoint is the right one, lock it again: cargo pycandle lock --weights m.safetensors\n\
         if the lock is, put back the checkpoint that it describes"
    );
    // Of a lock alone there is nothing to hold.
    std::fs::remove_file(folder.path("m.safetensors")).expect("removed");
    check_headers(&folder.open().expect("the lock")).expect("no file");
}

#[test]
fn a_lock_without_the_hash_is_written_again() {
    let folder = Folder::new();
    let text = folder.lock();
    let (before, rest) = text.split_once(" \"header\"").expect("a hash");
    let (_, rest) = rest.split_once(',').expect("more");
    folder.write(
        "m.safetensors.lock.json",
        format!("{before}{rest}").as_bytes(),
    );
    folder.refuses("files.m.safetensors.header: the field is missing");
}
