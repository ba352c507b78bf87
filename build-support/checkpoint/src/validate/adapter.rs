//! LoRA adapters, which are no weights of a model but are added to them.

/// How PEFT, kohya's scripts and llama.cpp call the parts of an adapter, in small letters.
const PARTS: &[&str] = &[
    "lora_a",
    "lora_b",
    "lora_down",
    "lora_embedding_a",
    "lora_embedding_b",
    "lora_magnitude_vector",
    "lora_up",
];

/// What makes a model of it.
pub(super) const MERGE: &str = "load it on its model with PEFT, call `merge_and_unload()`, save the \
    model again";

/// Whether this key is a part of an adapter.
pub(super) fn is_part(key: &str) -> bool {
    key.split('.')
        .any(|segment| PARTS.iter().any(|part| segment.eq_ignore_ascii_case(part)))
}
