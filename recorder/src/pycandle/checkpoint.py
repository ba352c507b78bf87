"""Weights by name: a safetensors file, a folder of shards, an index, or tensors in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .errors import MissingWeightsError, RecordError, plain, quoted, shown
from .schema import Manifest, Parameter

_UNITS = ("", "k", "m", "g", "t")
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>[kmgt]?)(?P<binary>i?)b?")


class Checkpoint:
    """Where the weights of a manifest come from; reads a tensor when it is asked for.

    Of tied weights it may hold one, or several that are equal: the model has one tensor.
    """

    def __init__(self, source: str | Path | Mapping[str, torch.Tensor], manifest: Manifest) -> None:
        self._parameters = {p.name: p for p in manifest.parameters}
        self._groups: dict[str, list[str]] = {}
        for p in manifest.parameters:
            self._groups.setdefault(p.tied_to or p.name, []).append(p.name)
        self._tensors: Mapping[str, torch.Tensor] = {}
        self._files: dict[str, Any] = {}
        self._cache: dict[str, torch.Tensor] | None = {}
        self._equal: set[str] = set()  # keys whose tied copies were compared
        self.bytes = sum(_bytes(p) for p in manifest.parameters if p.tied_to is None)
        if isinstance(source, Mapping):
            odd = [str(n) for n, t in source.items() if not isinstance(t, torch.Tensor)]
            if odd:
                raise RecordError(f"the given tensors: {', '.join(odd)} are not tensors")
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
            said = f"cannot read the weights {plain(file)}: {plain(error)}"
            raise RecordError(said) from error
        for key in handle.keys():  # noqa: SIM118 (safe_open is not iterable)
            self._files[key] = handle

    def _held(self, name: str) -> list[str]:
        """The keys under which the weight `name` is there; the first is the one to read."""
        held = self._tensors or self._files
        return [n for n in self._groups[self._parameters[name].tied_to or name] if n in held]

    def _check(self) -> None:
        missing = [n for n in self._parameters if not self._held(n)]
        if missing:
            held = self._tensors or self._files
            unused = sorted(set(held) - set(self._parameters))
            raise MissingWeightsError(self._where, missing, unused)

    def _read(self, key: str) -> torch.Tensor:
        return self._tensors[key] if self._tensors else self._files[key].get_tensor(key)

    def _refuse_untied(self, key: str, tensor: torch.Tensor, twins: list[str]) -> None:
        for twin in twins:
            if not _same(tensor, self._read(twin)):
                raise RecordError(
                    f"{self._where}: `{key}` and `{twin}` are one tensor in the model and differ "
                    "here; give a checkpoint with one of them, or untie them in the model"
                )
        self._equal.add(key)

    def tensor(self, name: str) -> torch.Tensor:
        """The weight `name` on the CPU, in the dtype of the manifest."""
        key, *twins = self._held(name)  # one at least: checked when opened
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        parameter = self._parameters[name]
        tensor = self._read(key)
        if tuple(tensor.shape) != parameter.shape:
            raise RecordError(
                f"{self._where}: `{key}` has shape {list(tensor.shape)}, expected "
                f"{list(parameter.shape)}"
            )
        dtype = getattr(torch, parameter.dtype)
        if tensor.is_floating_point() != dtype.is_floating_point:
            raise RecordError(f"{self._where}: `{key}` has dtype {tensor.dtype}, expected {dtype}")
        if tensor.device.type == "meta":
            raise RecordError(f"{self._where}: `{key}` is on meta and has no value")
        if key not in self._equal:
            self._refuse_untied(key, tensor, twins)
        tensor = tensor.detach().cpu().to(dtype)
        if self._cache is not None:
            self._cache[key] = tensor
        return tensor


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether dtype, shape and bytes are the same."""
    if a.dtype != b.dtype or a.shape != b.shape or a.device.type != b.device.type:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    raw = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return torch.equal(raw[0], raw[1])


def _bytes(parameter: Parameter) -> int:
    count = getattr(torch, parameter.dtype).itemsize
    for size in parameter.shape:
        count *= size
    return count


def memory_size(given: object) -> int:
    """The bytes that a limit allows: a number of them, or text such as `8G` or `8GiB`.

    Raises RecordError for anything else.
    """
    found = _SIZE.fullmatch(str(given).strip().lower())
    if found is None or (found["binary"] and not found["unit"]):
        raise RecordError(f"{given!r} is not a size of memory; write it in bytes, or as 8G or 8GiB")
    base = 1024 if found["binary"] else 1000
    return int(float(found["number"]) * base ** _UNITS.index(found["unit"]))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        index = sorted(path.glob("*.safetensors.index.json"))
        if index:
            return shards(index[0])
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise RecordError(f"no safetensors file in {path}")
        return files
    if is_index(path):
        return shards(path)
    if not path.exists():
        raise RecordError(f"no weights at {path}")
    return [path]


def is_index(path: Path) -> bool:
    """Whether the name is that of an index of several files."""
    return path.name.endswith(".index.json")


def shards(index: Path) -> list[Path]:
    """The files that an index names, which are inside its folder."""
    try:
        names = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        refused = sorted({quoted(name) for name in names if not _is_inside(name)})
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise RecordError(f"{index} is not an index of shards: {plain(error)}") from error
    if refused:
        raise RecordError(
            f"{index} names what is not plainly a file inside its folder: {shown(refused, 5)}; "
            "download the index again, or save the checkpoint again"
        )
    return [index.parent / name for name in sorted(set(names))]


def _is_inside(name: object) -> bool:
    """Whether it is a relative path that never leaves its folder, on any system."""
    if not isinstance(name, str):
        return False
    parts = PurePosixPath(name)
    relative = bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts
    return relative and name.isprintable() and not any(c in name for c in "\\:")
