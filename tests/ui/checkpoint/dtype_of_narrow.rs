use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/dtype_of_narrow/llama_manifest.json",
    weights = "ui/fixtures/dtype_of_narrow/model.safetensors"
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
