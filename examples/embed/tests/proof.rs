//! The real model on 64 sentences in padded batches, against PyTorch.
//!
//! Needs what `make minilm` writes to `trace/`; that target also runs this test.

use std::path::{Path, PathBuf};

use embed::{Batch, Embedder, search};
use pycandle::parity::{self, Goldens};
use pycandle::{Device, NoProbe, Result, Tensor};

const BATCH: usize = 8;
/// Relative distance of a module's output from PyTorch's float32.
const MODULE: f64 = 1e-4;
/// Largest difference of an element of an embedding, whose rows have length one.
const EMBEDDING: f32 = 1e-5;

fn trace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("trace")
        .join(name)
}

fn sentences() -> Vec<String> {
    include_str!("../sentences.txt")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The goldens of each batch; the first holds a float64 truth as well.
fn goldens() -> Result<Vec<Goldens>> {
    (0..sentences().len().div_ceil(BATCH))
        .map(|i| match i {
            0 => Goldens::open(trace("batch0_trace.safetensors")),
            i => Goldens::open(trace(&format!("batch0_trace.{i}.safetensors"))),
        })
        .collect()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
}

#[test]
fn every_module_output_is_pytorchs() -> Result<()> {
    let embedder = Embedder::open(&trace(""), &Device::Cpu)?;
    let mut worst = 0f64;
    for (i, goldens) in goldens()?.iter().enumerate() {
        let report = parity::run_loaded(embedder.model(), goldens, &Device::Cpu)?;
        assert!(report.passed(), "{report}");
        assert_eq!(report.truth.is_some(), i == 0);
        assert!(report.compared() >= 76, "{} compared", report.compared());
        // Without a truth a row's distance is that from PyTorch's float32.
        let rows = report.rows.iter().filter_map(|row| row.rel);
        let batch = rows.fold(0f64, f64::max);
        assert!(batch <= MODULE, "batch {i}: {batch:e}\n{report}");
        worst = worst.max(batch);
    }
    println!("worst module: {worst:.1e} relative");
    Ok(())
}

#[test]
fn tokens_are_those_of_transformers() -> Result<()> {
    let embedder = Embedder::open(&trace(""), &Device::Cpu)?;
    for (texts, goldens) in sentences().chunks(BATCH).zip(goldens()?) {
        let inputs = goldens.inputs(&Device::Cpu)?;
        let Batch {
            input_ids,
            attention_mask,
            token_type_ids,
        } = embedder.tokenize(texts)?;
        for (name, ours) in [
            ("input_ids", input_ids),
            ("attention_mask", attention_mask),
            ("token_type_ids", token_type_ids),
        ] {
            assert_eq!(
                ours.to_vec2::<i64>()?,
                inputs[name].to_vec2::<i64>()?,
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn embeddings_are_those_of_sentence_transformers() -> Result<()> {
    let embedder = Embedder::open(&trace(""), &Device::Cpu)?;
    let file = trace("embeddings.safetensors");
    let golden = pycandle::candle_core::safetensors::load(file, &Device::Cpu)?;
    let ours = embedder.embed(&sentences())?;
    assert_eq!(ours.dims(), [64, 384]);
    let worst = largest_difference(&ours, &golden["embeddings"])?;
    println!("worst embedding element: {worst:.1e}");
    assert!(worst <= EMBEDDING, "{worst:e}");
    Ok(())
}

#[test]
fn padding_changes_nothing() -> Result<()> {
    let embedder = Embedder::open(&trace(""), &Device::Cpu)?;
    let texts = &sentences()[48..56];
    let together = embedder.embed_batch(&embedder.tokenize(texts)?, &mut NoProbe)?;
    for (i, text) in texts.iter().enumerate() {
        let alone = embedder.embed(std::slice::from_ref(text))?;
        let difference = largest_difference(&alone, &together.narrow(0, i, 1)?)?;
        assert!(difference <= EMBEDDING, "{text}: {difference:e}");
    }
    Ok(())
}

#[test]
fn a_search_finds_what_means_the_same() -> Result<()> {
    let embedder = Embedder::open(&trace(""), &Device::Cpu)?;
    let sentences = sentences();
    let query = embedder.embed(&["a cat asleep during bad weather".to_owned()])?;
    let found = search(&embedder.embed(&sentences)?, &query, 2)?;
    for (index, _) in found {
        let text = &sentences[index];
        assert!(
            text.contains("cat slept") || text.contains("kitten"),
            "{text}"
        );
    }
    Ok(())
}
