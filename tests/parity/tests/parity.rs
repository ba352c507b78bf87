//! One test per golden: every module's output of every model against PyTorch's, fused and not.

use std::path::Path;

use pycandle::parity::{Goldens, Traced, run};
use pycandle::{Device, Weights};
use pycandle_parity_tests::{models, ops};

fn check<M: Traced>(set: &str, name: &str, golden: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(set);
    // A model without parameters has no checkpoint; any file serves, since nothing is read of it.
    let weights = folder.join(format!("{name}.safetensors"));
    let weights = if weights.exists() {
        weights
    } else {
        folder.join(golden)
    };
    let report = Weights::open(weights).and_then(|weights| {
        let goldens = Goldens::open(folder.join(golden))?;
        run::<M>(&weights, &goldens, &Device::Cpu)
    });
    match report {
        Ok(report) => assert!(report.passed(), "{report}"),
        Err(error) => panic!("{error}"),
    }
}

mod whole {
    use super::*;
    include!(concat!(env!("OUT_DIR"), "/models_tests.rs"));
}

#[allow(non_snake_case)]
mod one_op {
    use super::*;
    include!(concat!(env!("OUT_DIR"), "/ops_tests.rs"));
}
