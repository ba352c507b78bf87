//! The commit of a hub's cache, which only a path says.

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_lock_says_which_commit_it_was_written_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |commit: &str| {
        let place = folder.path().join("models--o--n/snapshots").join(commit);
        std::fs::create_dir_all(&place).expect("folders");
        place.join("m.safetensors")
    };
    let (weights, shown) = (place(COMMIT), Path::new("m.safetensors"));
    std::fs::write(&weights, safetensors(HEADER)).expect("weights");
    let lock = text(&weights, shown).expect("a lock");
    let said = format!(
        "  \"origin\": {{\n    \"repository\": \"o/n\",\n    \"commit\": \"{COMMIT}\"\n  }},\n"
    );
    assert!(lock.contains(&said), "{lock}");
    std::fs::remove_file(&weights).expect("removed");
    std::fs::write(path_of(&weights).expect("a name"), &lock).expect("a lock");
    let opened = open(&weights, shown).expect("the lock");
    let origin = opened.checkpoint.origin().expect("an origin");
    assert_eq!(origin.to_string(), format!("o/n at commit {COMMIT}"));

    // The file of another commit is another one; a copy does not say of which it is.
    let other = place(&COMMIT.replace('0', "f"));
    let copy = folder.path().join("m.safetensors");
    for place in [&other, &copy] {
        std::fs::write(place, safetensors(HEADER)).expect("weights");
        std::fs::write(path_of(place).expect("a name"), &lock).expect("a lock");
    }
    let error = open(&other, shown).expect_err("another commit").to_string();
    let said = format!(
        "origin: o/n at commit {COMMIT} in the lock, o/n at commit {} on disk",
        COMMIT.replace('0', "f")
    );
    assert!(error.contains(&said), "{error}");
    open(&copy, shown).expect("a copy");
}
