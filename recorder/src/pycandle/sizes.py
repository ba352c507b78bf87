"""Names and ranges of the sizes that a trace left open."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from .dims import SymbolTable
from .errors import RecordError
from .layout import shape_env
from .schema import Symbol

_LARGEST = 2**62


@dataclass(frozen=True)
class Conditions:
    """What the model's own code asked of the sizes: ranges, relations, and the traced sizes."""

    ranges: dict[sympy.Symbol, Any]
    relations: tuple[sympy.Expr, ...]
    traced: dict[sympy.Symbol, int]


def conditions(exported: ExportedProgram) -> Conditions:
    """Of a program before decomposition."""
    env = shape_env(exported)
    if env is None:
        return Conditions({}, (), {})
    expressions = [guard.expr for guard in env.guards]
    for asserts in env.deferred_runtime_asserts.values():
        expressions += [a.expr for a in asserts]
    relations = tuple(env.replace(e) for e in expressions)
    traced = {s: int(v) for s, v in env.backed_var_to_val.items()}
    return Conditions(dict(exported.range_constraints), relations, traced)


def bind(
    program: ExportedProgram,
    inputs: list[str],
    given: list[dict[int, Any]],
    asked: Conditions,
) -> tuple[SymbolTable, tuple[Symbol, ...]]:
    """Names for the open sizes, the user's or that of the input and axis, with their ranges.

    `given` holds, per flat input, what the user said about each axis.
    """
    table = SymbolTable()
    shapes = _input_shapes(program)
    symbols: dict[str, list[sympy.Symbol]] = {}
    sums: list[tuple[sympy.Symbol, str]] = []
    unnamed: list[tuple[sympy.Symbol, str]] = []
    for name, shape, spec in zip(inputs, shapes, given, strict=True):
        for axis, size in enumerate(shape):
            symbol = sympy.sympify(size.node.expr) if isinstance(size, torch.SymInt) else None
            if symbol is None or not symbol.is_Symbol:
                continue
            said = spec.get(axis)
            text = said if isinstance(said, str) else getattr(said, "__name__", None)
            if text is None:
                unnamed.append((symbol, f"{name}_{axis}"))
            elif not text.isidentifier():
                sums.append((symbol, text))
            elif symbol not in table:
                symbols.setdefault(text, []).append(symbol)
                table.bind(symbol, sympy.Symbol(text))
    for symbol, text in sums:
        table.bind(symbol, _sum_of(text, set(symbols)))
    for symbol, text in unnamed:
        if symbol not in table:
            symbols.setdefault(text, []).append(symbol)
            table.bind(symbol, sympy.Symbol(text))
    found = {n: _common_range([asked.ranges.get(s) for s in held]) for n, held in symbols.items()}
    traced = {n: asked.traced.get(held[0], 0) for n, held in symbols.items()}
    for relation in dict.fromkeys(asked.relations):
        _narrow(found, table.named(relation), traced)
    table.ranges = found
    return table, tuple(Symbol(name, low, high) for name, (low, high) in found.items())


def _input_shapes(program: ExportedProgram) -> list[tuple[Any, ...]]:
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    specs = program.graph_signature.input_specs
    user = [values[s.arg.name] for s in specs if s.kind is InputKind.USER_INPUT]
    return [tuple(v.shape) if isinstance(v, torch.Tensor) else () for v in user]


def _sum_of(text: str, names: set[str]) -> sympy.Expr:
    parts = [part.strip() for part in text.split("+")]
    unknown = [p for p in parts if p not in names and not p.isdigit()]
    if unknown:
        raise RecordError(
            f"dynamic_shapes: `{text}` is not a sum of sizes; {', '.join(unknown)} is not among "
            f"the names {', '.join(sorted(names)) or '(none)'}"
        )
    return sympy.Add(*[sympy.Integer(p) if p.isdigit() else sympy.Symbol(p) for p in parts])


def _common_range(limits: list[Any]) -> tuple[int, int | None]:
    """What the ranges of all sizes of one name have in common."""
    lowest, highest = 0, None
    for limit in limits:
        if limit is None:
            continue
        lowest = max(lowest, int(limit.lower))
        if limit.upper.is_Integer and int(limit.upper) < _LARGEST:
            highest = min(int(limit.upper), _LARGEST if highest is None else highest)
    return lowest, highest


def _narrow(
    ranges: dict[str, tuple[int, int | None]], condition: sympy.Expr, traced: dict[str, int]
) -> None:
    """Takes the sizes around the traced one for which the condition holds."""
    names = sorted(str(s) for s in condition.free_symbols)
    if not names:
        return
    if len(names) > 1 or names[0] not in ranges:
        warnings.warn(f"the trace holds only where {condition}", stacklevel=2)
        return
    name = names[0]
    symbol = sympy.Symbol(name)

    def holds(size: int) -> bool:
        return bool(condition.xreplace({symbol: sympy.Integer(size)}))

    low, high = ranges[name]
    start = traced.get(name, low)
    lowest = start
    while lowest > low and holds(lowest - 1):
        lowest -= 1
    highest = _last(holds, start, high)
    ranges[name] = (lowest, highest)


def _last(holds: Any, start: int, high: int | None) -> int | None:
    """The largest size from `start` up to `high` for which `holds`; None when there is no end."""
    limit = _LARGEST if high is None else high
    good, step = start, 1
    while good < limit and holds(min(good + step, limit)):
        good, step = min(good + step, limit), step * 2
    bad = min(good + step, limit)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return high if good >= limit else good
