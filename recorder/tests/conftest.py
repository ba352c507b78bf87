"""Shared by the tests: one thread, and a way to record into a temporary folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from pycandle import GoldenRecorder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Recorded:
    """What lies in the folder after a model was recorded as `m`."""

    def __init__(self, folder: Path, recorder: GoldenRecorder) -> None:
        self.folder = folder
        self.recorder = recorder
        self.text = (folder / "m_manifest.json").read_text()
        self.manifest: dict[str, Any] = json.loads(self.text)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.manifest["nodes"]

    @property
    def ops(self) -> list[str]:
        return [n["op"] for n in self.nodes]

    def calls(self) -> list[tuple[str, int, list[str]]]:
        return [(c["module"], c["index"], c["outputs"]) for c in self.manifest["calls"]]

    def golden(self, case: str = "") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        with safe_open(self.folder / f"m_trace{case}.safetensors", "pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture
def record(tmp_path: Path) -> Any:
    """Records a model: `record(model, *args, shapes=…, states=…, **kwargs)`."""

    def run(
        model: nn.Module, *args: Any, shapes: Any = None, states: Any = True, **kwargs: Any
    ) -> Recorded:
        recorder = GoldenRecorder(tmp_path, states=states)
        recorder.record(model.eval(), *args, dynamic_shapes=shapes, **kwargs)
        recorder.save("m")
        return Recorded(tmp_path, recorder)

    return run
