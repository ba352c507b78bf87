//! A module of 3000 operations, cut into functions: equal to the short one applied again and again,
//! which is held against PyTorch.

use std::path::Path;

use pycandle::{Device, Result, Tensor, Weights};
use pycandle_parity_tests::{long, models};

#[test]
fn parts_give_what_the_whole_gives() -> Result<()> {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/flat.safetensors");
    let weights = Weights::open(weights)?;
    let device = Device::Cpu;
    let x = Tensor::new(
        &[[0.5_f32, -1.0, 2.0, 0.25], [0.0, 3.0, -0.75, 1.5]],
        &device,
    )?;
    let short = models::flat::Model::load(&weights, &device)?;
    let mut expected = x.clone();
    for _ in 0..long::TIMES {
        expected = short.forward(&expected)?;
    }
    let got = long::Model::load(&weights, &device)?.forward(&x)?;
    assert_eq!(got.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
    assert_ne!(got.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
    Ok(())
}
