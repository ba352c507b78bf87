use pycandle::{Device, Result, Weights};

#[pycandle::pycandle_model(
    manifest = "ui/fixtures/converted_renamed/llama_manifest.json",
    weights = "ui/fixtures/converted_renamed/model.gguf",
    rename = [
        (r"^blk\.(\d+)\.attn_norm\.", "model.layers.${1}.input_layernorm."),
        (r"^blk\.(\d+)\.ffn_(gate|down)\.", "model.layers.${1}.mlp.${2}_proj."),
        (r"^output_norm\.", "model.norm."),
        (r"^token_embd\.", "model.embed_tokens."),
    ]
)]
pub struct Llama;

fn main() -> Result<()> {
    let weights = Weights::open("model.safetensors")?;
    println!("{:?}", Llama::load(&weights, &Device::Cpu)?);
    Ok(())
}
