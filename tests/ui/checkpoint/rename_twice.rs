use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/rename_twice/llama_manifest.json",
    weights = "ui/fixtures/rename_twice/model.safetensors",
    rename = [(r"\.\d+\.", ".")]
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
