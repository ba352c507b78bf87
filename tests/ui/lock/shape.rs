use pycandle::{DType, Device, Result, Tensor, Weights};

#[pycandle::pycandle_model(manifest = "ui/fixtures/tiny_manifest.json", weights = "ui/fixtures/locked_shape.safetensors")]
pub struct Tiny;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    let model = Tiny::load(&weights, &Device::Cpu)?;
    let x = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
    println!("{}", model.forward(&x)?);
    Ok(())
}
