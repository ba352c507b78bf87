//! Compares the model that `build.rs` generated with PyTorch, module by module.
//!
//! ```text
//! cargo run -p build-script
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use build_script::Digits;
use pycandle::parity::{self, Goldens, ParityReport};
use pycandle::{Device, Result, Weights};

fn main() -> ExitCode {
    match compare() {
        Ok(report) => {
            println!("digits: {}", report.line());
            ExitCode::from(u8::from(!report.passed()))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<ParityReport> {
    let weights = Weights::open(file("digits.safetensors"))?;
    let goldens = Goldens::open(file("digits_trace.safetensors"))?;
    parity::run::<Digits>(&weights, &goldens, &Device::Cpu)
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../quickstart/model")
        .join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_agrees_with_pytorch() -> Result<()> {
        let report = compare()?;
        assert!(report.passed(), "{report}");
        Ok(())
    }
}
