"""Rewrites what PyTorch pickled as safetensors, without running code that is in the file."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from . import tensorfile
from .archive import check_entries, check_storages, is_archive
from .checkpoint import is_index, shards
from .errors import RecordError, plain, quoted, shown, writing


@dataclass
class Unpickled:
    """What was found in a file.

    `left_out` says where it has tensors that are not among `tensors`, and how many there are.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def unpickle(path: Path, out: Path, key: str | None = None) -> Unpickled:
    """Writes the tensors of `path` to the safetensors file `out`; returns them.

    `path` is a file of `torch.save` or an index of several. It holds tensors by name, beside which
    anything else is left out, or one such mapping under a key, which `key` names where there are
    more. Tensors that share memory are written in full, each under its name.
    """
    if out.exists():
        raise RecordError(f"{out} is there already: remove it, or choose another name")
    all_ = Unpickled()
    for file in shards(path) if is_index(path) else [path]:
        found = _tensors(file, key)
        for name, tensor in found.tensors.items():
            if name in all_.tensors:
                raise RecordError(f"{file}: {quoted(name)} is in another file of {path} too")
            all_.tensors[name] = tensor
        for name, count in found.left_out.items():
            all_.left_out[name] = all_.left_out.get(name, 0) + count
    unheld = [f"{quoted(n)} ({_kind(t)})" for n, t in all_.tensors.items() if not _is_held(t)]
    if unheld:
        raise RecordError(f"{path}: safetensors holds no tensor like {shown(unheld, 5)}")
    with writing(out):
        tensorfile.write(out, all_.tensors, {"format": "pt"})
    return all_


def _is_held(tensor: torch.Tensor) -> bool:
    return tensorfile.holds(tensor) and not tensor.is_meta


def _kind(tensor: torch.Tensor) -> str:
    """What about a tensor it is that safetensors has not."""
    if tensor.is_meta:
        return "without values, on meta"
    return str(tensor.dtype if tensor.layout is torch.strided else tensor.layout)


def _tensors(file: Path, key: str | None) -> Unpickled:
    held = _load(file)
    if key is not None:
        if not isinstance(held, Mapping) or key not in held:
            raise RecordError(f"{file} holds nothing under `{key}`")
        held = held[key]
    if not isinstance(held, Mapping):
        raise RecordError(f"{file} holds no tensors by name")
    found = _named(file, held)
    left_out = {str(k): _count(v) for k, v in held.items() if not isinstance(v, torch.Tensor)}
    if not found:
        inner = {k: _named(file, v) for k, v in held.items() if isinstance(v, Mapping)}
        inner = {k: v for k, v in inner.items() if v}
        if len(inner) > 1:
            names = ", ".join(quoted(k) for k in inner)
            raise RecordError(f"{file} holds tensors under {names}: choose one with --key")
        if not inner:
            raise RecordError(f"{file} holds no tensors by name")
        ((chosen, found),) = inner.items()
        left_out[str(chosen)] -= len(found)
    return Unpickled(found, {k: n for k, n in left_out.items() if n})


def _named(file: Path, held: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    named: dict[str, torch.Tensor] = {}
    for key, tensor in held.items():
        if isinstance(tensor, torch.Tensor):
            if str(key) in named:
                raise RecordError(f"{file} holds two tensors that are called {quoted(key)}")
            # With strides of 0 a few bytes stand for as many as one likes.
            bytes_, most = tensor.numel() * tensor.element_size(), file.stat().st_size
            if bytes_ > most and not tensor.is_meta:
                raise RecordError(
                    f"{file}: {quoted(key)} would take {bytes_} bytes, the whole file has {most}: "
                    "save a contiguous tensor instead of an expanded one"
                )
            named[str(key)] = tensor
    return named


def _count(held: Any) -> int:
    """How many tensors there are anywhere in it."""
    count, rest, seen = 0, [held], set()
    while rest:
        one = rest.pop()
        if isinstance(one, torch.Tensor):
            count += 1
        elif isinstance(one, (Mapping, list, tuple, set)) and id(one) not in seen:
            seen.add(id(one))  # a pickle can hold itself
            rest.extend(one.values() if isinstance(one, Mapping) else one)
    return count


def _load(file: Path) -> Any:
    if file.exists() and not file.is_file():
        raise RecordError(f"{file} is no file: name a checkpoint of torch.save, or its index")
    try:
        archive = is_archive(file)  # what torch.save wrote before 1.6 is none, and cannot be mapped
        if archive:
            check_entries(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what they warn, it is refused below
            held = torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
            if archive:
                check_storages(file)
        return held
    except RecordError:
        raise
    except pickle.UnpicklingError as error:
        raise RecordError(
            f"{file} holds more than tensors, which could run code: save the model's state_dict() "
            "instead, in the program that made the file"
        ) from error
    except Exception as error:  # a file that was cut or made up fails anywhere
        said = plain(str(error).strip().partition("\n")[0]) or "its pickle ends too early"
        if any(words in said for words in _BEYOND):
            said = "a tensor in it is larger than what it holds of that tensor"
        raise RecordError(f"{file} cannot be read: {said}") from error


# What PyTorch says of sizes, strides and offsets that lead out of a storage.
_BEYOND = ("resize storage", "wrong byte size", "storage offset", "overflow", "stride length")
