"""transformers models that are not built and recorded the plain way."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from transformers import (
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers_models import ARCHITECTURES, build
from weights import randomise

from pycandle import GoldenRecorder, RecordError, meta_device
from pycandle.huggingface import _attention


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


class Attention(nn.Module):
    """Causal attention without a mask, by the trace's function or the stock one."""

    is_causal = True
    function = staticmethod(_attention)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.function(self, query, key, key, None, position_bias=bias)[0]


SIZES = [(1, 1), (1, 5), (3, 3), (3, 5), (5, 3), (2, 7)]


@pytest.mark.parametrize("with_bias", [False, True])
def test_causal_attention_without_a_mask_is_the_stock_one_for_every_size(record, with_bias):
    def arguments(queries: int, keys: int) -> list[torch.Tensor]:
        shapes = [(2, 2, queries, 4), (2, 2, keys, 4), (2, 2, queries, keys)]
        return [torch.randn(shape) for shape in shapes[: 3 if with_bias else 2]]

    stock = Attention()
    stock.function = sdpa_attention_forward
    shapes = [{2: "queries"}, {2: "keys"}, {2: "queries", 3: "keys"}]
    got = record(Attention(), *arguments(3, 5), shapes=shapes[: 3 if with_bias else 2])
    # The model at hand is what goldens are compared with.
    got.recorder._model.function = sdpa_attention_forward
    for queries, keys in SIZES:
        given = arguments(queries, keys)
        if with_bias and queries > keys:
            continue  # the stock function asks for a bias that it cannot use
        got.recorder.record_goldens(got.recorder._model, tuple(given), case=f"{queries}_{keys}")
        torch.testing.assert_close(
            got.golden(f".{queries}_{keys}")[0]["output.output"], stock(*given)
        )


def test_causal_self_attention_without_a_mask_keeps_the_flag(record):
    class SelfAttention(Attention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x, x)

    got = record(SelfAttention(), torch.randn(2, 2, 3, 4), shapes=[{2: "sequence"}])
    (attention,) = [n for n in got.nodes if "scaled_dot_product_attention" in n["op"]]
    assert attention["args"]["is_causal"] is True and attention["args"]["attn_mask"] is None


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.inner(input_ids=ids, use_cache=False).last_hidden_state


def _llama() -> LlamaForCausalLM:
    return build(ARCHITECTURES["llama"], torch.float32)


def test_a_cache_can_be_the_first_that_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(pytree, "SUPPORTED_NODES", dict(pytree.SUPPORTED_NODES))
    pytree.SUPPORTED_NODES.pop(DynamicCache, None)
    model, ids = _llama(), torch.randint(0, 32, (2, 6))
    with torch.no_grad():
        past = model(ids).past_key_values
    layer = {name: {0: "batch", 2: "past"} for name in ("key", "value")}
    shapes = {"input_ids": {0: "batch", 1: "new"}, "past_key_values": [layer, layer]}
    recorder = GoldenRecorder(tmp_path)
    manifest = recorder.record(model, ids[:, :3], past_key_values=past, dynamic_shapes=shapes)
    assert len(manifest.states) == 4
    with pytest.raises(RecordError, match="a cache among the arguments holds nothing"):
        recorder.record(model, ids, past_key_values=DynamicCache(), dynamic_shapes=shapes)


def test_ids_alone_are_recorded_for_every_batch(tmp_path):
    model, recorder = _llama(), GoldenRecorder(tmp_path)
    shapes = {"input_ids": {0: "batch", 1: "sequence"}}
    ids = torch.randint(0, 32, (2, 6))
    with pytest.warns(UserWarning, match=r"not given: its 4 tensors are outputs"):
        manifest = recorder.record(model, ids, use_cache=True, dynamic_shapes=shapes)
    assert len(manifest.outputs) == 5
    with pytest.warns(UserWarning, match=r"recorded with `use_cache=False`; give a cache"):
        manifest = recorder.record(model, ids, dynamic_shapes=shapes)
    assert len(manifest.outputs) == 1 and not manifest.conditions
    assert len(model(ids).past_key_values.layers) == 2
    for shape in ((1, 6), (3, 4), (1, 1)):
        ids = torch.randint(0, 32, shape)
        recorder.record_goldens(model, {"input_ids": ids})
        recorder.record_goldens(model, {"input_ids": ids, "use_cache": False}, case="said")
    with pytest.raises(RecordError, match="use_cache"):
        recorder.record_goldens(model, {"input_ids": ids, "use_cache": True})


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


@pytest.mark.parametrize("context", [nullcontext, meta_device])
def test_hidden_states_are_recorded_once_each_however_often(record, context):
    config = BertConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=10,
    )
    with context():
        model = BertModel(config).eval()
    ids = torch.zeros(2, 4, dtype=torch.long, device=model.device)
    shapes = {"input_ids": {0: "batch", 1: "sequence"}}
    first, second = (record(model, ids, output_hidden_states=True, shapes=shapes) for _ in "ab")
    assert first.text == second.text
    states = [o["path"] for o in first.manifest["outputs"] if "hidden_states" in o["path"]]
    assert states == ["hidden_states[0]", "hidden_states[1]", "hidden_states[2]"]
    assert len(model(ids, output_hidden_states=True).hidden_states) == 3
