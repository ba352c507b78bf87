//! Goldens of another manifest or of other weights, by the hashes that the recorder wrote.

use std::path::{Path, PathBuf};

use pycandle::parity::{Goldens, Origin, ParityReport, Traced, run};
use pycandle::{DType, Device, Tensor, Weights};
use pycandle_parity_tests::models;

/// A model's files, copied to where they may be changed.
struct Files {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Files {
    fn of(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        for end in [".safetensors", "_manifest.json", "_trace.safetensors"] {
            let file = format!("{name}{end}");
            std::fs::copy(models.join(&file), folder.path().join(&file)).expect("a copy");
        }
        Self { folder, name }
    }

    fn path(&self, end: &str) -> PathBuf {
        self.folder.path().join(format!("{}{end}", self.name))
    }

    /// Replaces bytes of a file's header by as many others.
    fn edit(&self, end: &str, old: &str, new: &str) {
        assert_eq!(old.len(), new.len());
        let path = self.path(end);
        let mut bytes = std::fs::read(&path).expect("a file");
        let mut found = bytes.windows(old.len());
        let at = found.position(|window| window == old.as_bytes());
        let at = at.expect("the bytes to replace");
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        std::fs::write(path, bytes).expect("a written file");
    }

    /// Turns one bit in every 16 bytes of the tensors.
    fn damage(&self, end: &str) {
        let path = self.path(end);
        let mut bytes = std::fs::read(&path).expect("a file");
        let header = bytes
            .first_chunk()
            .map(|n| u64::from_le_bytes(*n) as usize + 8);
        for byte in bytes[header.expect("a length")..]
            .iter_mut()
            .skip(2)
            .step_by(16)
        {
            *byte ^= 0x40;
        }
        std::fs::write(path, bytes).expect("a written file");
    }

    fn run<M: Traced>(&self) -> ParityReport {
        let weights = Weights::open(self.path(".safetensors")).expect("weights");
        let goldens = Goldens::open(self.path("_trace.safetensors")).expect("goldens");
        run::<M>(&weights, &goldens, &Device::Cpu).expect("a report")
    }
}

/// Changes what is recorded, so that the comparison fails by the goldens' fault.
fn fails_on_the_same_weights<M: Traced>(name: &'static str) {
    let files = Files::of(name);
    let report = files.run::<M>();
    assert!(report.passed(), "{report}");
    assert_eq!(
        (report.manifest, report.weights),
        (Origin::Same, Origin::Unchecked)
    );
    spoil(&files.path("_trace.safetensors"));
    let report = files.run::<M>();
    assert_eq!(report.weights, Origin::Same, "{report}");
    let diagnosis = report.diagnosis();
    assert!(diagnosis.starts_with("first divergence"), "{diagnosis}");
}

/// Changes an element of every module's output in a file of goldens.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    let at = bytes
        .first_chunk()
        .map(|n| u64::from_le_bytes(*n) as usize + 8);
    let at = at.expect("a length");
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..at]).expect("a header");
    for (key, entry) in header.as_object().expect("an object") {
        if key.contains("#0.out.") {
            let start = at + entry["data_offsets"][0].as_u64().expect("an offset") as usize;
            let width = if entry["dtype"] == "F64" { 8 } else { 4 };
            // The exponent of the first number, in half precision of the second.
            bytes[start + width - 1] ^= 0x04;
        }
    }
    std::fs::write(path, bytes).expect("a written file");
}

#[test]
fn the_hash_of_the_weights_is_the_recorders() {
    fails_on_the_same_weights::<models::tied::Model>("tied");
    fails_on_the_same_weights::<models::shared::Model>("shared");
    fails_on_the_same_weights::<models::cnn::Model>("cnn");
    fails_on_the_same_weights::<models::bert::Model>("bert");
    fails_on_the_same_weights::<models::gpt2::Model>("gpt2");
    fails_on_the_same_weights::<models::llama_bf16::Model>("llama_bf16");
}

#[test]
fn weights_in_another_dtype_are_the_same_weights() {
    let files = Files::of("llama_bf16");
    let path = files.path(".safetensors");
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).expect("tensors");
    let raised = tensors
        .iter()
        .map(|(name, tensor)| (name, tensor.to_dtype(DType::F32)));
    let raised: Result<std::collections::HashMap<_, Tensor>, _> = raised
        .map(|(name, tensor)| Ok::<_, candle_core::Error>((name.as_str(), tensor?)))
        .collect();
    candle_core::safetensors::save(&raised.expect("tensors"), &path).expect("a file");
    spoil(&files.path("_trace.safetensors"));
    let report = files.run::<models::llama_bf16::Model>();
    assert_eq!(report.weights, Origin::Same, "{report}");
}

#[test]
fn other_weights_are_named_instead_of_a_divergence() {
    let files = Files::of("tied");
    files.damage(".safetensors");
    let report = files.run::<models::tied::Model>();
    assert_eq!(
        (&report.manifest, &report.weights),
        (&Origin::Same, &Origin::Other)
    );
    let says = "these goldens were recorded with other weights";
    assert!(report.diagnosis().starts_with(says), "{report}");
    assert!(report.line().contains(says) && report.to_string().contains(says));
    assert!(!report.to_string().contains("first divergence"), "{report}");

    // Whose names are in the manifest: without it, nothing is claimed.
    std::fs::remove_file(files.path("_manifest.json")).expect("a removed file");
    let report = files.run::<models::tied::Model>();
    let diagnosis = report.diagnosis();
    assert!(
        diagnosis.contains("tied_manifest.json` cannot be read"),
        "{diagnosis}"
    );
    assert!(diagnosis.starts_with("first divergence"), "{diagnosis}");

    // It may lie elsewhere, and must be the right one.
    let weights = Weights::open(files.path(".safetensors")).expect("weights");
    let goldens = || Goldens::open(files.path("_trace.safetensors")).expect("goldens");
    let same = Files::of("tied");
    let held = goldens().with_manifest(same.path("_manifest.json"));
    let report = run::<models::tied::Model>(&weights, &held, &Device::Cpu).expect("a report");
    assert_eq!(report.weights, Origin::Other);
    let other = Files::of("twice");
    let held = goldens().with_manifest(other.path("_manifest.json"));
    let report = run::<models::tied::Model>(&weights, &held, &Device::Cpu).expect("a report");
    let says = "is not the manifest that the goldens were recorded with";
    assert!(report.diagnosis().contains(says), "{report}");
}

#[test]
fn another_manifest_is_named_instead_of_a_divergence() {
    let files = Files::of("tied");
    let hash = <models::tied::Model as Traced>::MANIFEST;
    files.edit("_trace.safetensors", hash, &"0".repeat(64));
    let report = files.run::<models::tied::Model>();
    // What agrees all the same passes, and says it.
    assert!(
        report.passed() && report.manifest == Origin::Other,
        "{report}"
    );
    assert!(
        report.to_string().contains("note: it passed on goldens"),
        "{report}"
    );
    spoil(&files.path("_trace.safetensors"));
    let report = files.run::<models::tied::Model>();
    let says = "these goldens were recorded with another manifest";
    assert!(report.diagnosis().starts_with(says), "{report}");
    assert!(!report.to_string().contains("first divergence"), "{report}");

    // Goldens that the model cannot even run on.
    files.edit("_trace.safetensors", "\"input.ids\"", "\"input.new\"");
    let weights = Weights::open(files.path(".safetensors")).expect("weights");
    let goldens = Goldens::open(files.path("_trace.safetensors")).expect("goldens");
    let refused = run::<models::tied::Model>(&weights, &goldens, &Device::Cpu);
    let text = refused.expect_err("another input").to_string();
    assert!(text.starts_with(says) && text.contains("new"), "{text}");
}

#[test]
fn goldens_that_do_not_say_where_they_come_from_still_work() {
    let files = Files::of("tied");
    files.edit("_trace.safetensors", "\"manifest\"", "\"Manifest\"");
    files.edit("_trace.safetensors", "\"checkpoint\"", "\"Checkpoint\"");
    let report = files.run::<models::tied::Model>();
    assert!(report.passed(), "{report}");
    let says = "the goldens do not say with which manifest they were recorded";
    assert!(report.to_string().contains(says), "{report}");
    spoil(&files.path("_trace.safetensors"));
    let diagnosis = files.run::<models::tied::Model>().diagnosis();
    assert!(diagnosis.starts_with("first divergence"), "{diagnosis}");
    for what in ["manifest", "weights"] {
        let says = format!("the goldens do not say with which {what} they were recorded");
        assert!(diagnosis.contains(&says), "{diagnosis}");
    }
}
