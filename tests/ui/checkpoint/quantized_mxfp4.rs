use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/quantized_mxfp4/llama_manifest.json",
    weights = "ui/fixtures/quantized_mxfp4/model.safetensors",
    strict = true
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
