//! Mistakes with the attribute: one error each, at the literal to blame.

use std::path::Path;

/// The cases are compiled in a package of trybuild's making: the files they name have to be there.
fn place_fixtures() -> std::io::Result<()> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tests");
    let folder = target.join("trybuild/pycandle-tests/ui/fixtures");
    std::fs::create_dir_all(&folder)?;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/fixtures"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok(())
}

#[test]
fn mistakes_are_one_error_each() -> std::io::Result<()> {
    place_fixtures()?;
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/attribute/*.rs");
    cases.compile_fail("ui/manifest/*.rs");
    cases.compile_fail("ui/checkpoint/*.rs");
    Ok(())
}
