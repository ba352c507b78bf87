//! Reads handwritten digits with a small convolutional network that was trained in PyTorch.
//!
//! In: `model/`, which `train.py` wrote: manifest, weights, goldens, and test images that the
//! network has not seen. Out: some of the images with the network's answers, its accuracy over all
//! of them, and the comparison of every module with PyTorch.
//!
//! ```text
//! cargo run --release -p quickstart
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pycandle::parity::{self, Goldens, ParityReport};
use pycandle::{DType, Device, Result, Tensor, Weights};

/// The network; its fields and functions are generated from the manifest.
#[pycandle::pycandle_model(
    manifest = "model/digits_manifest.json",
    weights = "model/digits.safetensors"
)]
pub struct Digits;

/// Images to print.
const SHOWN: usize = 4;
/// From an empty pixel to a full one.
const SHADES: [char; 5] = [' ', '.', 'o', 'O', '@'];
/// The value of a full pixel.
const FULL: u8 = 16;

/// Images as they are in the file, and the digits that they show.
struct TestSet {
    /// `[images, 8, 8]`, 0 to [`FULL`].
    images: Tensor,
    labels: Vec<u8>,
}

fn main() -> ExitCode {
    match run() {
        Ok(report) if report.passed() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ParityReport> {
    let weights = Weights::open(file("digits.safetensors"))?;
    let model = Digits::load(&weights, &Device::Cpu)?;
    let tests = TestSet::open(file("digits_test.safetensors"))?;

    let answers = classify(&model, &tests)?;
    for (i, answer) in answers.iter().enumerate().take(SHOWN) {
        let drawing = draw(&tests.images.get(i)?)?;
        println!("{drawing}read as {answer}, labelled {}\n", tests.labels[i]);
    }
    let right = count_right(&answers, &tests.labels);
    let share = 100.0 * right as f64 / answers.len() as f64;
    println!(
        "{right} of {} test images right ({share:.1} %)\n",
        answers.len()
    );

    let report = compare(&weights)?;
    println!("{report}");
    Ok(report)
}

impl TestSet {
    fn open(path: PathBuf) -> Result<Self> {
        let tensors = pycandle::candle_core::safetensors::load(&path, &Device::Cpu)?;
        let get = |name: &str| {
            let missing = || pycandle::Error::msg(format!("{}: no `{name}`", path.display()));
            tensors.get(name).ok_or_else(missing)
        };
        Ok(Self {
            images: get("images")?.clone(),
            labels: get("labels")?.to_vec1::<u8>()?,
        })
    }
}

/// The likeliest digit of each image.
fn classify(model: &Digits, tests: &TestSet) -> Result<Vec<u8>> {
    let images = tests.images.to_dtype(DType::F32)?.unsqueeze(1)?;
    let logits = model.forward(&(images / f64::from(FULL))?)?;
    Ok(logits.argmax(1)?.to_dtype(DType::U8)?.to_vec1()?)
}

fn count_right(answers: &[u8], labels: &[u8]) -> usize {
    let pairs = answers.iter().zip(labels);
    pairs.filter(|(answer, label)| answer == label).count()
}

/// Every module's output against the one that PyTorch computed.
fn compare(weights: &Weights) -> Result<ParityReport> {
    let goldens = Goldens::open(file("digits_trace.safetensors"))?;
    parity::run::<Digits>(weights, &goldens, &Device::Cpu)
}

/// One line of text per row, two characters per pixel.
fn draw(image: &Tensor) -> Result<String> {
    let mut text = String::new();
    for row in image.to_vec2::<u8>()? {
        for pixel in row {
            let shade = usize::from(pixel.min(FULL)) * (SHADES.len() - 1) / usize::from(FULL);
            text.extend([SHADES[shade]; 2]);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    Ok(text)
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("model")
        .join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_test_images_as_well_as_in_pytorch() -> Result<()> {
        let weights = Weights::open(file("digits.safetensors"))?;
        let model = Digits::load(&weights, &Device::Cpu)?;
        let tests = TestSet::open(file("digits_test.safetensors"))?;
        let answers = classify(&model, &tests)?;
        // What `train.py` printed when it wrote the files.
        assert_eq!(
            (count_right(&answers, &tests.labels), answers.len()),
            (357, 360)
        );
        Ok(())
    }

    #[test]
    fn every_module_agrees_with_pytorch() -> Result<()> {
        let report = compare(&Weights::open(file("digits.safetensors"))?)?;
        assert!(report.passed(), "{report}");
        Ok(())
    }

    #[test]
    fn drawings_keep_dark_pixels_dark() -> Result<()> {
        let image = Tensor::new(&[[0u8, 16], [8, 0]], &Device::Cpu)?;
        assert_eq!(draw(&image)?, "  @@\noo\n");
        Ok(())
    }
}
