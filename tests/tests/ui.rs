//! Mistakes with the attribute: one error each, at the literal to blame.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use pycandle_build::lock;
use pycandle_test_checkpoints::FrontEnd;

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
    place_locks(&folder)
}

/// Locks of checkpoints that are absent, and one of a checkpoint that has changed.
fn place_locks(folder: &Path) -> io::Result<()> {
    let lock = |name: &str, of: &str, edit: &dyn Fn(String) -> String| {
        let weights = folder.join(name).with_extension("safetensors");
        std::fs::copy(folder.join(of), &weights)?;
        let text = lock::text(&weights, Path::new(name)).map_err(io::Error::other)?;
        let place = lock::path_of(&weights).ok_or_else(|| io::Error::other("no name"))?;
        std::fs::write(place, edit(text))?;
        std::fs::remove_file(weights)
    };
    let same = |text| text;
    lock("locked", "good.safetensors", &same)?;
    lock("locked_shape", "shape.safetensors", &same)?;
    lock("locked_edited", "good.safetensors", &|text| {
        text.replace("[3, 4]", "[4, 3]")
    })?;
    let conflict = |text: String| text.replace("  \"files\"", "<<<<<<< HEAD\n  \"files\"");
    lock("locked_conflict", "good.safetensors", &conflict)?;
    lock("stale", "shape.safetensors", &same)?;
    std::fs::copy(
        folder.join("good.safetensors"),
        folder.join("stale.safetensors"),
    )
    .map(drop)
}

#[test]
fn mistakes_are_one_error_each() -> io::Result<()> {
    place_fixtures()?;
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/attribute/*.rs");
    cases.compile_fail("ui/manifest/*.rs");
    cases.compile_fail("ui/checkpoint/*.rs");
    cases.compile_fail("ui/fits/*.rs");
    cases.compile_fail("ui/lock/*.rs");
    Ok(())
}

/// What the compiler shows is what the builder and the command line say. Where the checkpoint fits,
/// the one mistake is in the use of the model, which the compiler comes to when all before is right.
#[test]
fn every_checkpoint_of_the_table_has_its_case() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let mut names: BTreeSet<String> = OF_FILES.iter().map(|name| (*name).to_owned()).collect();
    let mut fitting = BTreeSet::new();
    for case in pycandle_test_checkpoints::cases() {
        let fits = case.report.is_empty();
        let kind = if fits { "fits" } else { "checkpoint" };
        let file = folder.join(kind).join(case.name);
        let text = std::fs::read_to_string(file.with_extension("stderr"))?;
        let place = format!("ui/fixtures/{}", case.name);
        let said = match fits {
            true => text.starts_with("error[E0308]") && text.matches("error").count() == 2,
            false => case.is_said_in(&text, &place, FrontEnd::Attribute),
        };
        assert!(said, "{}:\n{text}", case.name);
        let source = std::fs::read_to_string(file.with_extension("rs"))?;
        assert!(
            source.contains(&format!("{place}/{}", case.weights)),
            "{source}"
        );
        let names = if fits { &mut fitting } else { &mut names };
        names.insert(case.name.to_owned());
    }
    assert_eq!(stems(&folder.join("checkpoint"))?, names);
    assert_eq!(stems(&folder.join("fits"))?, fitting);
    Ok(())
}

/// The names of the files in a folder, without what stands behind the dot.
fn stems(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut stems = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        stems.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    Ok(stems)
}
