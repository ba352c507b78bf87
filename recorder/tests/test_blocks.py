"""What runs in a block of autocast or of gradients."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from pycandle import GoldenRecorder


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.last = nn.Linear(4, 4)


class Casting(Inner):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.first(x)
            with torch.autocast("cpu", enabled=False):
                y = self.norm(y.float())
            return self.last(y).float()


class Decorated(Inner):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class Switching(Inner):
    @torch.no_grad()
    def forward(self, x):
        with torch.enable_grad():
            y = self.norm(self.first(x))
        with torch.set_grad_enabled(False):
            y = y * 2
        with torch.enable_grad():
            return self.last(y)


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize(
    ("kind", "narrow"),
    [(Casting, {"first", "last"}), (Decorated, {"first", "last"}), (Switching, ())],
)
def test_modules_within_are_called_and_cast_as_outside(kind, narrow, on_meta, tmp_path):
    model, x = kind().eval(), torch.randn(2, 4)
    if on_meta:
        model, x = model.to("meta"), x.to("meta")
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, x, dynamic_shapes=[{0: "batch"}])  # goldens are held against the model
    manifest = json.loads(recorder.save("m").read_text())
    calls = [call["module"] for call in manifest["calls"]]
    assert calls == ["", "first", "norm", "last"]
    made = {}
    for node in manifest["nodes"]:
        assert node["at"].startswith("test_blocks.py:")
        made[calls[node["call"]]] = node["out"][0]["dtype"]  # of the call's last operator
    assert {name for name in ("first", "last") if made[name] == "bfloat16"} == set(narrow)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_blocks_are_recorded_at_other_sizes(tmp_path):
    model = Casting().eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, torch.randn(3, 4), dynamic_shapes=[{0: "batch"}])
    recorder.save("m")
    recorder.record_goldens(model, (torch.randn(7, 4),), case="more")
