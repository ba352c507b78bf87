"""What `python -m pycandle record` traces a model with."""

from __future__ import annotations

import pytest
import torch
import transformers

from pycandle import meta_device
from pycandle.examples import example

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {**SMALL, "vocab_size": 30}
IMAGE = {**SMALL, "image_size": 8, "patch_size": 4}
HEARD = {"d_model": 16, "num_mel_bins": 4, "max_source_positions": 6, "vocab_size": 30}
LAYERS = {"encoder_layers": 1, "decoder_layers": 1}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 1}
CONVOLVED = {"conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3]}

BOTH = {0: "batch", 1: "sequence"}
CASES = {
    "a text and images, as many as there are": (
        "CLIPModel",
        lambda: transformers.CLIPConfig(text_config=TEXT, vision_config=IMAGE),
        {"input_ids": BOTH, "attention_mask": BOTH, "pixel_values": {0: "images"}},
    ),
    "a text for each image": (
        "BlipForConditionalGeneration",
        lambda: transformers.BlipConfig(text_config=TEXT, vision_config=IMAGE),
        {"pixel_values": {0: "batch"}, "input_ids": BOTH, "attention_mask": BOTH},
    ),
    "a text where images take the place of tokens": (
        "LlavaForConditionalGeneration",
        lambda: transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(**IMAGE),
            text_config=transformers.LlamaConfig(**TEXT),
        ),
        {"input_ids", "attention_mask", "past_key_values"},
    ),
    "frames": (
        "VideoMAEModel",
        lambda: transformers.VideoMAEConfig(**IMAGE, num_frames=4),
        {"pixel_values": {0: "batch"}},
    ),
    "sound": (
        "HubertModel",
        lambda: transformers.HubertConfig(**SMALL, **CONVOLVED, num_feat_extract_layers=2),
        {"input_values": {0: "batch", 1: "samples"}},
    ),
    "a spectrogram and what is said": (
        "WhisperModel",
        lambda: transformers.WhisperConfig(**HEARD, **LAYERS, **HEADS),
        {"input_features": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "target"}},
    ),
    "no cache where states are no keys and values": (
        "GraniteMoeHybridForCausalLM",
        lambda: transformers.GraniteMoeHybridConfig(
            **TEXT, layer_types=["mamba", "attention"], mamba_n_heads=2, mamba_d_head=16
        ),
        {"input_ids": BOTH, "attention_mask": BOTH},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_inputs_follow_from_the_config(name):
    cls, config, shapes = CASES[name]
    with meta_device():
        model = getattr(transformers, cls)._from_config(config()).eval()
    given = example(model)
    if isinstance(shapes, set):
        assert set(given.dynamic_shapes) == shapes
        return
    assert given.dynamic_shapes == shapes
    tensors = {n for n, value in given.kwargs.items() if isinstance(value, torch.Tensor)}
    assert tensors == set(shapes)
    assert given.kwargs.get("use_cache", False) is False
