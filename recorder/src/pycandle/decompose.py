"""Operators that the recorder breaks down into simpler ones on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.export import ExportedProgram

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


def refuse_undone(
    table: Mapping[OpOverload, object], before: ExportedProgram, after: ExportedProgram
) -> None:
    """Raises RecordError when an operator of `table` is still there, or became `prims`."""
    left = _operators(after)
    faults = [f"`{_name(op)}` stays as it is" for op in left if op in table]
    faults += [
        f"`{_name(op)}` comes of it, which no code is generated for"
        for op in left - _operators(before)
        if op.namespace == "prims"
    ]
    if faults:
        raise RecordError(
            f"decompose={list(dict.fromkeys(map(_base, table)))} does not lead to simpler "
            f"operators: {', '.join(sorted(faults))}; leave it out, and write that part of the "
            "model with other operators"
        )


def _operators(program: ExportedProgram) -> set[OpOverload]:
    return {n.target for n in program.graph.nodes if isinstance(n.target, OpOverload)}


def _name(operator: OpOverload) -> str:
    return operator.name().replace("::", ".")


def _base(operator: OpOverload) -> str:
    return _name(operator).removesuffix(f".{operator._overloadname}")


def _overloads(name: str) -> list[OpOverload]:
    namespace, _, rest = name.partition(".")
    operator, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace, None), operator, None)
    if packet is None:
        raise RecordError(f"there is no operator `{name}`; write it as `aten.glu`")
    return [getattr(packet, o) for o in packet.overloads() if overload in ("", o)]
