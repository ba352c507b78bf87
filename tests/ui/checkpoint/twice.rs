use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/twice/llama_manifest.json",
    weights = "ui/fixtures/twice/model.safetensors",
    rename = [(r"^model\.layers\.1\.", "model.layers.0.")]
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
