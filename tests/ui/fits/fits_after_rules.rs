use pycandle::{DType, Device, Result, Tensor, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/fits_after_rules/llama_manifest.json",
    weights = "ui/fixtures/fits_after_rules/model.safetensors",
    rename = [(r"^net\.", ""), (r"^model\.norms\.weight$", "model.norm.weight")]
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    let model = Llama::load(&weights, &Device::Cpu)?;
    let x = Tensor::zeros((1, 32), DType::F32, &Device::Cpu)?;
    // The one mistake.
    println!("{}", model.forward(x)?);
    Ok(())
}
