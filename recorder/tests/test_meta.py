"""Models without weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import pycandle
from pycandle import GoldenRecorder, RecordError, meta_device


class Rope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("freq", 1.0 / torch.arange(1, 5), persistent=False)
        self.linear = nn.Linear(4, 4)
        self.twin = nn.Linear(4, 4, bias=False)
        self.twin.weight = self.linear.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twin(self.linear(x * self.freq))


def test_parameters_go_to_meta_and_buffers_keep_their_values():
    with meta_device():
        model = Rope()
    assert all(p.device.type == "meta" for p in model.parameters())
    assert torch.equal(model.freq, 1.0 / torch.arange(1, 5))
    assert model.twin.weight is model.linear.weight
    assert nn.Linear(2, 2).weight.device.type == "cpu"


def test_meta_trace_equals_the_real_one(tmp_path):
    texts = []
    for context, device in ((meta_device(), "meta"), (torch.device("cpu"), "cpu")):
        with context:
            model = Rope().eval()
        recorder = GoldenRecorder(tmp_path / device)
        recorder.record(model, torch.zeros(2, 4, device=device), dynamic_shapes=[{0: "batch"}])
        texts.append(recorder.save("m").read_text())
    assert texts[0] == texts[1]


def test_lost_buffer_is_an_error_that_names_it(tmp_path):
    with torch.device("meta"):
        model = Rope().eval()
    with pytest.raises(RecordError, match=r"buffer `freq`.*pycandle\.meta_device"):
        GoldenRecorder(tmp_path).record(model, torch.zeros(2, 4, device="meta"))


class Places(nn.Module):
    """Has tensors of every kind that can lie on another device than its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("kept", torch.arange(4.0))
        self.register_buffer("table", torch.arange(4.0) * 2, persistent=False)
        self.plain = torch.arange(4.0) * 3
        self.listed = [torch.arange(4.0) * 4]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x) * self.kept + self.table + self.plain + self.listed[0]
        return y + torch.zeros(4) + torch.tensor([1.0, 2.0, 3.0, 5.0])


def test_tensors_that_forward_makes_and_keeps_meet_parameters_on_meta(tmp_path):
    real = Places().eval()
    direct = GoldenRecorder(tmp_path / "direct")
    direct.record(real, torch.ones(2, 4), dynamic_shapes=[{0: "batch"}])
    with meta_device():
        empty = Places().eval()
    recorder = GoldenRecorder(tmp_path / "meta")
    recorder.record(empty, torch.ones(2, 4, device="meta"), dynamic_shapes=[{0: "batch"}])
    assert recorder.save("m").read_text() == direct.save("m").read_text()
    assert all(p.device.type == "meta" for p in empty.parameters())
    recorder.record_goldens(real.state_dict(), (torch.ones(2, 4),))
    first, second = (
        load_file(tmp_path / folder / "m_trace.safetensors") for folder in ("direct", "meta")
    )
    assert torch.equal(first["output.output"], second["output.output"])


class Bare(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.arange(4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


@pytest.mark.parametrize("module", [Bare, Buffered, Rope])
def test_any_tensor_on_meta_makes_a_trace_without_goldens(tmp_path, module):
    recorder = GoldenRecorder(tmp_path)
    manifest = recorder.record(module().eval(), torch.zeros(2, 4, device="meta"))
    recorder.save("m")
    assert manifest.inputs[0].shape == (2, 4)
    assert not (tmp_path / "m_trace.safetensors").exists()
    with torch.device("meta"):
        empty = Buffered().eval()
    recorder.record(empty, torch.zeros(2, 4))
    recorder.save("m")
    assert not (tmp_path / "m_trace.safetensors").exists()
    recorder.record_goldens({"scale": torch.ones(4)}, (torch.zeros(2, 4),))
    assert (tmp_path / "m_trace.safetensors").exists()


def test_a_lost_attribute_is_an_error_that_names_it(tmp_path):
    with torch.device("meta"):
        model = nn.Sequential(Places()).eval()
    model[0].table = torch.arange(4.0)
    with pytest.raises(RecordError, match=r"attribute `0\.plain`.*pycandle\.meta_device"):
        GoldenRecorder(tmp_path).record(model, torch.zeros(2, 4, device="meta"))


class Kept(nn.Module):
    """A tensor in an attribute, and in a list, computed with before it is used."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.l, self.reads = nn.Linear(4, 4), reads
        self.h = torch.zeros(4)
        self.more = [torch.ones(4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _unused = self.h + self.more[0]
        return self.l(x) + (self.h + 1) + self.more[0] * 2 if self.reads else self.l(x)


def test_lost_attributes_that_are_computed_with_are_named(tmp_path):
    with torch.device("meta"):
        model = Kept(True).eval()
    with pytest.raises(RecordError, match=r"attribute `h`, `more\[0\]`, and its value was lost"):
        GoldenRecorder(tmp_path).record(model, torch.zeros(2, 4, device="meta"))
    assert model.h.is_meta and model.more[0].is_meta


def test_lost_attributes_that_nothing_depends_on_are_recorded(tmp_path):
    with torch.device("meta"):
        model = Kept(False).eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, torch.zeros(2, 4, device="meta"))
    assert [node.op for node in recorder.manifest.nodes] == ["aten.linear.default"]


def test_lost_transformers_buffer_is_recomputed(tmp_path):
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=10,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 1000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    )
    expected = LlamaModel(config).rotary_emb.inv_freq
    with torch.device("meta"):
        model = LlamaModel(config).eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, input_ids=torch.zeros(1, 4, dtype=torch.long), use_cache=False)
    assert torch.equal(model.rotary_emb.inv_freq, expected)


def test_seventy_billion_parameters_within_1_5_gb():
    root = Path(pycandle.__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / "large.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert 0.1 < json.loads(done.stdout)["gigabytes"] < 1.5


class Sharing(nn.Module):
    """Keeps a parameter and a buffer in a list, too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("scale", torch.ones(3))
        self.kept = [self.linear.weight, self.scale]
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        weight, scale = self.kept
        return self.linear(x) @ weight * scale


class Tied(nn.Module):
    """Has one layer by two names, and its buffers once more."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.BatchNorm1d(3)
        self.b = self.a
        self.register_buffer("c", self.a.running_mean, persistent=False)
        self.kept, self.calls = [self.a.running_var], 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = self.b(self.a(x)).clone()
        return x.add_(1) * self.kept[0] + self.c


def other_values(*names: str) -> dict[str, torch.Tensor]:
    values = {
        name: torch.rand(3, 3) if "linear.weight" in name else torch.rand(3) for name in names
    }
    return values | {"a.num_batches_tracked": torch.tensor(0)}


SHARING = other_values("linear.weight", "linear.bias", "scale")
TIED = other_values("a.weight", "a.bias", "a.running_mean", "a.running_var")


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize("kind, other", [(Sharing, SHARING), (Tied, TIED)])
def test_what_a_model_keeps_twice_is_what_the_checkpoint_has(record, kind, other, on_meta):
    other = {name: t for name, t in other.items() if name in kind().state_dict()}
    expected = kind().eval()
    expected.load_state_dict(other, strict=False)  # not what is tied to it
    with meta_device() if on_meta else nullcontext():
        model = kind()
    x = torch.randn(2, 3)
    recorded = record(model, x.to(next(model.parameters()).device))
    assert recorded.manifest["constants"] == []
    recorded.recorder.record_goldens(other, (x,))
    tensors, _ = recorded.golden()
    assert torch.allclose(tensors["output.output"], expected(x), rtol=1e-6, atol=1e-6)


def test_a_view_of_a_weight_in_an_attribute_is_refused(record):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.turned = self.linear.weight.detach().t()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) @ self.turned

    with pytest.raises(RecordError, match=r"keeps a view of `linear\.weight`.*in forward"):
        record(Model(), torch.randn(2, 3))
