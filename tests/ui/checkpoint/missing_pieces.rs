use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/missing_pieces/llama_manifest.json",
    weights = "ui/fixtures/missing_pieces/model.safetensors"
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
