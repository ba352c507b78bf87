use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/tiny_manifest.json",
    weights = "ui/fixtures/good.safetensors",
    rename = ["^fc"]
)]
pub struct Tiny;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Tiny::load(&weights, &Device::Cpu)?);
    Ok(())
}
