//! Mistakes with the attribute: one error each, at the literal to blame.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Cases that are about files, not about what is in them.
const OF_FILES: &[&str] = &["absent", "cut_short", "shard_missing"];

/// The cases are compiled in a package of trybuild's making: the files they name have to be there.
fn place_fixtures() -> io::Result<()> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tests");
    let folder = target.join("trybuild/pycandle-tests/ui/fixtures");
    std::fs::create_dir_all(&folder)?;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/fixtures"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    for case in pycandle_test_checkpoints::cases() {
        case.write(&folder.join(case.name))?;
    }
    Ok(())
}

#[test]
fn mistakes_are_one_error_each() -> io::Result<()> {
    place_fixtures()?;
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/attribute/*.rs");
    cases.compile_fail("ui/manifest/*.rs");
    cases.compile_fail("ui/checkpoint/*.rs");
    Ok(())
}

/// What the compiler shows is what the builder and the command line say.
#[test]
fn every_checkpoint_of_the_table_has_its_case() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/checkpoint");
    let mut names: BTreeSet<String> = OF_FILES.iter().map(|name| (*name).to_owned()).collect();
    for case in pycandle_test_checkpoints::cases() {
        if case.report.is_empty() {
            continue;
        }
        let text = std::fs::read_to_string(folder.join(case.name).with_extension("stderr"))?;
        let place = format!("ui/fixtures/{}", case.name);
        let said = case.is_said_in(&text, &place, "error: ");
        assert!(said, "{}:\n{text}", case.name);
        names.insert(case.name.to_owned());
    }
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        found.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    assert_eq!(found, names);
    Ok(())
}
