use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/quantized_compressed_tensors/llama_manifest.json",
    weights = "ui/fixtures/quantized_compressed_tensors/model.safetensors",
    strict = true
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
