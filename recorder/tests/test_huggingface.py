"""transformers models that are not built and recorded the plain way."""

from __future__ import annotations

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel
from weights import randomise

from pycandle import GoldenRecorder


def test_recomputing_a_lost_buffer_leaves_the_weights_alone(tmp_path):
    config = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    real = CLIPVisionModel(config).eval()
    randomise(real)
    with torch.device("meta"):
        model = CLIPVisionModel(config).eval()
    state = {name: tensor.clone() for name, tensor in real.state_dict().items()}
    model.load_state_dict({name: t.clone() for name, t in state.items()}, assign=True)
    parameters = dict(model.named_parameters())
    image = torch.randn(1, 3, 8, 8)
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, pixel_values=image)
    after = model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert torch.equal(model(image)[0], real(image)[0])


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.inner(input_ids=ids, use_cache=False).last_hidden_state


def test_a_plain_wrapper_is_traced_as_the_model_inside_it(tmp_path):
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=10,
    )
    real = LlamaModel(config).eval()
    with torch.device("meta"):
        model = Wrapper(LlamaModel(config)).eval()
    model.inner.load_state_dict(real.state_dict(), assign=True)
    recorder = GoldenRecorder(tmp_path)
    ids = torch.zeros(2, 4, dtype=torch.long)
    manifest = recorder.record(model, ids, dynamic_shapes=[{0: "batch", 1: "sequence"}])
    bare = GoldenRecorder(tmp_path).record(
        real,
        input_ids=ids,
        use_cache=False,
        dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}},
    )
    assert manifest.symbols == bare.symbols
    assert torch.equal(model.inner.rotary_emb.inv_freq, real.rotary_emb.inv_freq)
    assert "transformers" in manifest.recorder and manifest.config is None
    attention = [n for n in manifest.nodes if "scaled_dot_product_attention" in n.op]
    assert ("enable_gqa", True) in attention[0].args
    recorder.record_goldens(model, (torch.ones(2, 1, dtype=torch.long),), case="one")
