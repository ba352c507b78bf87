"""Rewrites what PyTorch pickled as safetensors, without running code that is in the file."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import tensorfile
from .errors import RecordError


def unpickle(path: Path, out: Path, key: str | None = None) -> int:
    """Writes the tensors of `path` to the safetensors file `out`; returns how many there are.

    `path` is a file of `torch.save` or an index of several. It holds tensors by name, beside which
    anything else is left out, or one such mapping under a key, which `key` names where there are
    more. Tensors that share memory are written in full, each under its name.
    """
    if out.exists():
        raise RecordError(f"{out} is there already: remove it, or choose another name")
    tensors: dict[str, torch.Tensor] = {}
    for file in _files(path):
        for name, tensor in _tensors(file, key).items():
            if name in tensors:
                raise RecordError(f"{file}: `{name}` is in another file of {path} too")
            tensors[name] = tensor
    unknown = {name: t.dtype for name, t in tensors.items() if not tensorfile.holds(t)}
    if unknown:
        shown = ", ".join(f"`{name}` ({dtype})" for name, dtype in list(unknown.items())[:5])
        raise RecordError(f"{path}: safetensors holds no tensor like {shown}")
    part = out.with_name(f".{out.name}.{os.getpid()}.pycandle-part")
    try:
        tensorfile.write(part, tensors, {"format": "pt"})
        part.replace(out)
    except OSError as error:
        raise RecordError(f"{out}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return len(tensors)


def _files(path: Path) -> list[Path]:
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        return [path.parent / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RecordError(f"{path} is not an index of shards: {error}") from error


def _tensors(file: Path, key: str | None) -> dict[str, torch.Tensor]:
    held = _load(file)
    if key is not None:
        if not isinstance(held, Mapping) or key not in held:
            raise RecordError(f"{file} holds nothing under `{key}`")
        held = held[key]
    found = _named(held)
    if found:
        return found
    inner = {k: _named(v) for k, v in held.items()} if isinstance(held, Mapping) else {}
    inner = {k: v for k, v in inner.items() if v}
    if len(inner) > 1:
        names = ", ".join(f"`{k}`" for k in inner)
        raise RecordError(f"{file} holds tensors under {names}: choose one with --key")
    if not inner:
        raise RecordError(f"{file} holds no tensors by name")
    (found,) = inner.values()
    return found


def _named(held: Any) -> dict[str, torch.Tensor]:
    if not isinstance(held, Mapping):
        return {}
    return {str(k): v for k, v in held.items() if isinstance(v, torch.Tensor)}


def _load(file: Path) -> Any:
    try:
        mapped = zipfile.is_zipfile(file)  # what torch.save wrote before 1.6 cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise RecordError(
            f"{file} holds more than tensors, which could run code: save the model's state_dict() "
            "instead, in the program that made the file"
        ) from error
    except Exception as error:  # a file that was cut or made up fails anywhere
        said = str(error).strip().partition("\n")[0]
        raise RecordError(f"{file} cannot be read: {said}") from error
