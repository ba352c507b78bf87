"""The calls of modules, and which values leave each of them."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch.fx import Node

from .schema import Call

OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep  # the folder of the recorder
_STDLIB = sysconfig.get_path("stdlib") + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


@dataclass
class _Open:
    module: str
    index: int
    parent: int | None
    outputs: list[str] = field(default_factory=list)


class CallTree:
    """Grows with the nodes, in order of execution; entry 0 is the call of the root."""

    def __init__(self) -> None:
        self._calls = [_Open("", 0, None)]
        self._by_key: dict[tuple[int, str], int] = {}
        self._counts: dict[str, int] = {}

    def of(self, node: Node) -> int:
        """The innermost call that `node` belongs to."""
        current = 0
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            if path == "" or path.startswith("_empty_nn_module_stack"):
                continue
            path = path.partition("@")[0]
            call = self._by_key.get((current, key))
            if call is None:
                call = len(self._calls)
                index = self._counts.get(path, 0)
                self._counts[path] = index + 1
                self._calls.append(_Open(path, index, current))
                self._by_key[(current, key)] = call
            current = call
        return current

    def module(self, call: int) -> str:
        """The path of the module that `call` is a call of."""
        return self._calls[call].module

    def is_within(self, call: int, outer: int) -> bool:
        """Whether `call` is `outer`, or was made in it."""
        return outer in self._chain(call)

    def _chain(self, call: int) -> list[int]:
        chain = [call]
        while (parent := self._calls[chain[-1]].parent) is not None:
            chain.append(parent)
        return chain

    def leaves(self, name: str, made_in: int, used_in: list[int], is_output: bool) -> None:
        """Notes the calls that value `name` leaves: made inside, used outside."""
        users = [set(self._chain(call)) for call in used_in]
        for call in self._chain(made_in):
            if is_output or any(call not in user for user in users):
                self._calls[call].outputs.append(name)

    def finish(self) -> tuple[Call, ...]:
        """The calls as the manifest lists them."""
        return tuple(Call(c.module, c.index, c.parent, tuple(c.outputs)) for c in self._calls)


def source_line(node: Node) -> str | None:
    """`file.py:line` of the innermost frame in the model's own source."""
    for line in reversed((node.meta.get("stack_trace") or "").splitlines()):
        text = line.strip()
        if not text.startswith('File "'):
            continue
        file, _, rest = text[len('File "') :].partition('", line ')
        if is_model_source(file):
            return f"{relative(file)}:{rest.partition(',')[0]}"
    return None


def is_model_source(file: str) -> bool:
    """Whether `file` is neither torch's nor the recorder's."""
    return not file.startswith((_TORCH, OWN, "<"))


def is_library_source(file: str) -> bool:
    """Whether `file` belongs to Python itself."""
    return file.startswith(_STDLIB) and "-packages" not in file


@lru_cache(maxsize=4096)
def relative(file: str) -> str:
    """`file` relative to the longest import root that holds it."""
    real = os.path.realpath(file)
    roots = {os.path.realpath(p or os.getcwd()) for p in [*sys.path, os.getcwd()]}
    holding = [r for r in roots if real.startswith(r.rstrip(os.sep) + os.sep)]
    if not holding:
        return os.path.basename(real)
    return os.path.relpath(real, max(holding, key=len)).replace(os.sep, "/")
