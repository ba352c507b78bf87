"""Names, ranges and conditions of the sizes that a trace left open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from .calls import source_line
from .conditions import DIVISIONS, solve
from .dims import SymbolTable
from .dynamic import given_range
from .errors import RecordError
from .guards import Asked
from .layout import shape_env
from .schema import Condition, Symbol
from .shared import size_name
from .versions import traced_sizes

_LARGEST = 2**62


@dataclass(frozen=True)
class Open:
    """What is known of the open sizes: ranges, conditions, traced sizes, and which became one."""

    ranges: dict[sympy.Symbol, Any]
    conditions: tuple[Asked, ...]
    traced: dict[sympy.Symbol, int]
    merged: dict[sympy.Symbol, str]  # where the model made two sizes equal


def asked(exported: ExportedProgram, noted: Sequence[Asked]) -> Open:
    """Of a program before decomposition, with the conditions noted while it was traced."""
    env = shape_env(exported)
    if env is None:
        return Open({}, (), {}, {})
    known = {one.condition for one in noted}
    rest = [guard.expr for guard in env.guards]
    rest += [a.expr for asserts in env.deferred_runtime_asserts.values() for a in asserts]
    everything = [*noted, *(Asked(expr, None) for expr in rest if expr not in known)]
    merged: dict[sympy.Symbol, str] = {}
    for one in everything:
        sides = list(one.condition.args) if isinstance(one.condition, sympy.Eq) else []
        if sides and all(side.is_Symbol for side in sides) and one.at:
            merged.setdefault(env.replace(sides[0]), one.at)
    conditions = tuple(Asked(env.replace(one.condition), one.at) for one in everything)
    traced = {s: int(v) for s, v in traced_sizes(env).items()}
    return Open(dict(exported.range_constraints), conditions, traced, merged)


def bind(
    program: ExportedProgram,
    inputs: list[str],
    given: list[dict[int, Any]],
    known: Open,
) -> tuple[SymbolTable, tuple[Symbol, ...], tuple[Condition, ...]]:
    """Names for the open sizes, the user's or that of the input and axis, with what they must meet.

    `given` holds, per flat input, what the user said about each axis.
    """
    table = SymbolTable()
    shapes = _input_shapes(program)
    symbols: dict[str, list[sympy.Symbol]] = {}
    sums: list[tuple[sympy.Symbol, str]] = []
    unnamed: list[tuple[sympy.Symbol, str]] = []
    derived: list[tuple[sympy.Expr, str]] = []
    fixed: list[str] = []
    for name, shape, spec in zip(inputs, shapes, given, strict=True):
        for axis, size in enumerate(shape):
            said = spec.get(axis)
            text = size_name(said)
            symbol = _expr(size)
            if symbol.is_Integer and text is not None:
                fixed.append(
                    f"the model: the size `{text}` (axis {axis} of `{name}`) can only be {size}; "
                    "leave that axis out of dynamic_shapes"
                )
            if not symbol.is_Symbol:
                derived.append((symbol, f"`{text}` (axis {axis} of `{name}`)"))
            elif text is None:
                unnamed.append((symbol, f"{name}_{axis}"))
            elif not text.isidentifier():
                sums.append((symbol, text))
            elif symbol not in table:
                symbols.setdefault(text, []).append(symbol)
                table.bind(symbol, sympy.Symbol(text))
            elif (first := str(table.named(symbol))) != text:
                raise RecordError(
                    f"dynamic_shapes has the names `{first}` and `{text}` for sizes that the model "
                    f"makes equal ({known.merged.get(symbol, 'where they meet')}): give both one "
                    "name, or trace with sizes that differ, if the model takes either"
                )
    if fixed:
        raise RecordError("\n".join(fixed))
    for symbol, text in sums:
        table.bind(symbol, _sum_of(text, set(symbols)))
    for symbol, text in unnamed:
        if symbol not in table:
            symbols.setdefault(text, []).append(symbol)
            table.bind(symbol, sympy.Symbol(text))
    _refuse_derived(derived, table)
    found = {n: _common_range([known.ranges.get(s) for s in held]) for n, held in symbols.items()}
    traced = {n: known.traced.get(held[0], 0) for n, held in symbols.items()}
    everything = [*known.conditions, *_of_squeezes(program), *_of_divisions(program)]
    named = [Asked(table.named(one.condition), one.at) for one in everything]
    conditions = solve(named, found, traced)
    _refuse_fixed(found, set(symbols) - {text for _, text in unnamed}, named, traced)
    _refuse_narrowed(found, [said for spec in given for said in spec.values()], named)
    table.ranges = found
    return table, tuple(Symbol(n, low, high) for n, (low, high) in found.items()), conditions


def _refuse_derived(sizes: list[tuple[sympy.Expr, str]], table: SymbolTable) -> None:
    """Raises RecordError for sizes that are computed from one that no input has, as `2 * Dim("h")`
    alone is: a run could not know it."""
    found = [said for expr, said in sizes if any(s not in table for s in expr.free_symbols)]
    if found:
        raise RecordError(
            f"dynamic_shapes computes the size {', '.join(found)} from one that no axis has: call "
            "it by one name, and what the model asks of it becomes a condition"
        )


def _refuse_fixed(
    ranges: dict[str, tuple[int, int | None]],
    names: set[str],
    conditions: list[Asked],
    traced: dict[str, int],
) -> None:
    """Raises RecordError for the sizes that were named, to be open, and can have one value only."""
    lines = []
    for name in sorted(names):
        low, high = ranges[name]
        if low != high:
            continue
        free = {sympy.Symbol(name)}
        asking = (a.at for a in conditions if a.condition.free_symbols == free and a.at)
        lines.append(
            f"{next(asking, 'the model')}: the size `{name}` can only be {low}; leave it out of "
            "dynamic_shapes" + (", or trace with another size" if traced[name] == low else "")
        )
    if lines:
        raise RecordError("\n".join(lines))


def _refuse_narrowed(
    ranges: dict[str, tuple[int, int | None]], given: list[Any], conditions: list[Asked]
) -> None:
    """Raises RecordError for each `Dim` with bounds of which the model does not take all sizes."""
    lines = {}
    for said in given:
        name = size_name(said)
        if name is None or name not in ranges:
            continue
        (low, high), (least, most) = ranges[name], given_range(said)
        is_lower = least is not None and least < low
        if not is_lower and (most is None or high is None or high >= most):
            continue
        free = {sympy.Symbol(name)}
        asking = (a.at for a in conditions if a.condition.free_symbols == free and a.at)
        bounds = f"min={low}" if high is None else f"min={low}, max={high}"
        lines[name] = (
            f"{next(asking, 'the model')}: what is traced holds for `{name}` from {low} "
            + (f"to {high}" if high is not None else "on")
            + f', and dynamic_shapes asks for more: give `Dim("{name}", {bounds})`, or the name '
            f"`{name}` alone, which takes the sizes that the model does"
        )
    if lines:
        raise RecordError("\n".join(lines.values()))


def left_unsqueezed(program: ExportedProgram, known: Open) -> set[str]:
    """Symbols that, being 0, made `squeeze` leave a dimension alone that was 1."""
    kept = (one.condition for one in _of_squeezes(program) if isinstance(one.condition, sympy.Ne))
    sizes = {symbol: sympy.Integer(size) for symbol, size in known.traced.items()}
    false = (condition for condition in kept if condition.xreplace(sizes) is sympy.false)
    return {str(symbol) for condition in false for symbol in condition.free_symbols}


def _of_divisions(program: ExportedProgram) -> Iterator[Asked]:
    """What sizes are divided by, which is above 0 wherever the model can be run."""
    known: set[sympy.Basic] = set()
    for node in program.graph.nodes:
        for value in pytree.tree_leaves(node.meta.get("val")):
            sizes = value.shape if isinstance(value, torch.Tensor) else [value]
            for size in sizes:
                if not isinstance(size, torch.SymInt):
                    continue
                for division in _expr(size).atoms(*DIVISIONS) - known:
                    known.add(division)
                    if division.args[1].free_symbols:
                        yield Asked(sympy.Ge(division.args[1], 1), source_line(node))


def _of_squeezes(program: ExportedProgram) -> Iterator[Asked]:
    """`squeeze` drops a dimension of size 1; a trace keeps every one whose size is open."""
    aten = torch.ops.aten
    for node in program.graph.nodes:
        if node.target not in (aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims):
            continue
        shape, left = node.args[0].meta["val"].shape, list(node.meta["val"].shape)
        dims = node.args[1] if len(node.args) > 1 else range(len(shape))
        dims = [dims] if isinstance(dims, int) else dims
        chosen = {dim % len(shape) for dim in dims} if len(shape) else set()
        for axis, size in enumerate(shape):
            kept = bool(left) and _expr(left[0]) == _expr(size)
            if kept:
                left.pop(0)
            if axis in chosen and isinstance(size, torch.SymInt):
                relation = sympy.Ne if kept else sympy.Eq
                yield Asked(relation(_expr(size), 1), source_line(node))


def _expr(size: int | torch.SymInt) -> sympy.Expr:
    return sympy.sympify(size.node.expr if isinstance(size, torch.SymInt) else size)


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
