"""Files that `cargo pycandle extract` wrote, as Python reads them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pycandle.checkpoint import Checkpoint
from pycandle.schema import Parameter

TESTS = Path(__file__).resolve().parents[2] / "tests"


@pytest.mark.parametrize("model", ["cnn", "gpt2"])
def test_extracted_tensors_are_the_original_ones(model: str) -> None:
    path = TESTS / "extracted" / f"{model}.safetensors"
    original = load_file(TESTS / "models" / f"{model}.safetensors")
    manifest = json.loads((TESTS / "models" / f"{model}_manifest.json").read_text())
    parameters = [
        Parameter(p["name"], p["kind"], p["dtype"], tuple(p["shape"]), p["tied_to"])
        for p in manifest["parameters"]
    ]
    checkpoint = Checkpoint(path, SimpleNamespace(parameters=parameters))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        held = {k for k in file.keys() if not k.startswith("__padding__.")}  # noqa: SIM118
    assert metadata["format"] == "pt"
    assert held == {p.name for p in parameters if p.tied_to is None}
    for parameter in parameters:
        first = parameter.tied_to or parameter.name
        read = checkpoint.tensor(parameter.name)
        assert read.dtype == original[first].dtype
        assert torch.equal(read, original[first])
        if parameter.tied_to is not None:
            assert metadata[parameter.name] == first


@pytest.mark.parametrize("model", ["cnn", "gpt2"])
def test_every_tensor_is_aligned(model: str) -> None:
    data = (TESTS / "extracted" / f"{model}.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    del header["__metadata__"]
    offsets = {k: start + v["data_offsets"][0] for k, v in header.items()}
    assert any(k.startswith("__padding__.") for k in offsets)
    for name, at in offsets.items():
        assert at % 64 == 0 or name.startswith("__padding__."), name
