//! `cargo pycandle codegen` on every checkpoint of the table.

use std::process::Command;

use pycandle_test_checkpoints::FrontEnd;

#[test]
fn codegen_says_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for case in pycandle_test_checkpoints::cases() {
        case.write(&folder.path().join(case.name)).expect("files");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-pycandle"));
        command.current_dir(folder.path()).arg("codegen");
        command.args(["--manifest", &format!("{}/llama_manifest.json", case.name)]);
        command.args(["--weights", &format!("{}/{}", case.name, case.weights)]);
        for (pattern, replacement) in &case.rename {
            command.args(["--rename", &format!("{pattern}={replacement}")]);
        }
        if case.strict {
            command.arg("--strict");
        }
        let output = command
            .args(["--out", "-"])
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        let fits = case.report.is_empty();
        assert_eq!(
            output.status.code(),
            Some(i32::from(!fits)),
            "{}: {error}",
            case.name
        );
        if fits {
            assert_eq!(error, "", "{}", case.name);
        } else {
            assert!(
                case.is_said_in(&error, case.name, FrontEnd::Command),
                "{}:\n{error}",
                case.name
            );
            assert!(output.stdout.is_empty(), "{}", case.name);
        }
    }
}
