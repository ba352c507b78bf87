"""Models without weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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


LARGE = """
import resource, sys, time
started = time.monotonic()
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from pycandle import GoldenRecorder, meta_device
from pycandle.examples import example
config = LlamaConfig(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
    num_attention_heads=64, num_key_value_heads=8, vocab_size=128256,
    max_position_embeddings=8192)
with meta_device():
    model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).eval()
given = example(model)
recorder = GoldenRecorder(sys.argv[1])
recorder.record(model, dynamic_shapes=given.dynamic_shapes, **given.kwargs)
recorder.save("large")
print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def test_seventy_billion_parameters_within_a_minute_and_1_5_gb(tmp_path):
    source = str(Path(pycandle.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    seconds, gigabytes = map(float, done.stdout.split())
    print(f"{seconds:.1f} s of processor time, {gigabytes:.2f} GB")
    assert gigabytes < 1.5
    assert seconds < 60
