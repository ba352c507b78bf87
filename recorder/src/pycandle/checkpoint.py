"""Weights by name: a safetensors file, a folder of shards, an index, or tensors in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .errors import RecordError
from .schema import Manifest, Parameter


class Checkpoint:
    """Where the weights of a manifest come from; reads a tensor when it is asked for."""

    def __init__(self, source: str | Path | Mapping[str, torch.Tensor], manifest: Manifest) -> None:
        self._parameters = {p.name: p for p in manifest.parameters}
        self._tensors: Mapping[str, torch.Tensor] = {}
        self._files: dict[str, Any] = {}
        self._cache: dict[str, torch.Tensor] | None = {}
        self.bytes = sum(_bytes(p) for p in manifest.parameters if p.tied_to is None)
        if isinstance(source, Mapping):
            self._tensors = source
        else:
            for file in _files(Path(source)):
                self._open(file)
        self._where = "the given tensors" if isinstance(source, Mapping) else str(source)
        self._check()

    def stream(self) -> None:
        """From now on no tensor is kept after it was handed out."""
        self._cache = None

    def _open(self, file: Path) -> None:
        try:
            handle = safe_open(str(file), framework="pt")
        except (OSError, SafetensorError) as error:
            raise RecordError(f"cannot read the weights {file}: {error}") from error
        for key in handle.keys():  # noqa: SIM118 (safe_open is not iterable)
            self._files[key] = handle

    def _key(self, name: str) -> str | None:
        held = self._tensors or self._files
        if name in held:
            return name
        first = self._parameters[name].tied_to or name
        group = [p.name for p in self._parameters.values() if first in (p.name, p.tied_to)]
        return next((n for n in group if n in held), None)

    def _check(self) -> None:
        missing = [n for n in self._parameters if self._key(n) is None]
        if missing:
            shown = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
            raise RecordError(f"{self._where} lacks {len(missing)} weights: {shown}")

    def tensor(self, name: str) -> torch.Tensor:
        """The weight `name` on the CPU, in the dtype of the manifest."""
        key = self._key(name)
        assert key is not None  # checked when opened
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        parameter = self._parameters[name]
        tensor = self._tensors[key] if self._tensors else self._files[key].get_tensor(key)
        if tuple(tensor.shape) != parameter.shape:
            raise RecordError(
                f"{self._where}: `{key}` has shape {list(tensor.shape)}, expected "
                f"{list(parameter.shape)}"
            )
        if tensor.device.type == "meta":
            raise RecordError(f"{self._where}: `{key}` is on meta and has no value")
        tensor = tensor.detach().cpu().to(getattr(torch, parameter.dtype))
        if self._cache is not None:
            self._cache[key] = tensor
        return tensor


def _bytes(parameter: Parameter) -> int:
    count = getattr(torch, parameter.dtype).itemsize
    for size in parameter.shape:
        count *= size
    return count


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        index = sorted(path.glob("*.safetensors.index.json"))
        if index:
            return _shards(index[0])
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise RecordError(f"no safetensors file in {path}")
        return files
    if path.name.endswith(".index.json"):
        return _shards(path)
    if not path.exists():
        raise RecordError(f"no weights at {path}")
    return [path]


def _shards(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text())["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RecordError(f"{index} is not an index of shards: {error}") from error
    return [index.parent / n for n in sorted(set(names))]
