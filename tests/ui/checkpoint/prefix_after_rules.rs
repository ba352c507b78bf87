use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/prefix_after_rules/llama_manifest.json",
    weights = "ui/fixtures/prefix_after_rules/model.safetensors",
    rename = [(r"^net\.(model\.)?", "")]
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
