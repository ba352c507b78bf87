"""Operators that the recorder breaks down into simpler ones on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch._ops import OpOverload

from .errors import RecordError


def decompositions(names: Sequence[str]) -> dict[OpOverload, Callable[..., Any]]:
    """The decompositions that PyTorch has for these operators, by overload.

    A name is an operator (`aten.glu`) or one overload of it (`aten.glu.default`).
    """
    if not names:
        return {}
    known = {**dict(torch.export.default_decompositions().items()), **decomposition_table}
    chosen: dict[OpOverload, Callable[..., Any]] = {}
    missing = []
    for name in names:
        found = {op: known[op] for op in _overloads(name) if op in known}
        if not found:
            missing.append(name)
        chosen.update(found)
    if missing:
        raise RecordError(f"PyTorch has no decomposition of {', '.join(missing)}")
    return chosen


def _overloads(name: str) -> list[OpOverload]:
    namespace, _, rest = name.partition(".")
    operator, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace, None), operator, None)
    if packet is None:
        raise RecordError(f"there is no operator `{name}`; write it as `aten.glu`")
    return [getattr(packet, o) for o in packet.overloads() if overload in ("", o)]
