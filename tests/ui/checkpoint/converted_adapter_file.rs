use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/converted_adapter_file/llama_manifest.json",
    weights = "ui/fixtures/converted_adapter_file/model.safetensors"
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
