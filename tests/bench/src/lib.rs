//! The models that the benchmarks run, generated as any user's are.

/// A sentence encoder of the geometry of all-MiniLM-L6-v2.
pub mod minilm {
    include!(concat!(env!("OUT_DIR"), "/minilm.rs"));

    /// Where its manifest is.
    pub const MANIFEST: &str = concat!(env!("OUT_DIR"), "/minilm_manifest.json");
}

/// A causal model of half a billion parameters.
pub mod llama {
    include!(concat!(env!("OUT_DIR"), "/llama.rs"));

    /// Where its manifest is.
    pub const MANIFEST: &str = concat!(env!("OUT_DIR"), "/llama_manifest.json");
}

/// The causal model, traced in bf16.
pub mod llama_bf16 {
    include!(concat!(env!("OUT_DIR"), "/llama_bf16.rs"));

    /// Where its manifest is.
    pub const MANIFEST: &str = concat!(env!("OUT_DIR"), "/llama_bf16_manifest.json");
}
