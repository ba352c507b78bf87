"""The manifest as frozen dataclasses, and its JSON text.

This is the only module that knows what the JSON looks like; ``docs/manifest.md`` describes it
field by field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VERSION = (1, 0)
VERSION_WITH_CONDITIONS = (2, 0)  # a reader that ignored them would take sizes that are wrong

DTYPES = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)


@dataclass(frozen=True)
class DimExpr:
    """A size computed from other sizes: `op` is one of add, mul, max, min, sub, floordiv, mod.

    In a condition it is eq, ne, lt or le, of two sizes.
    """

    op: str
    operands: tuple[Dim, ...]


Dim = int | str | DimExpr
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class ValueRef:
    """The output of an earlier node, or an input."""

    name: str


@dataclass(frozen=True)
class ParamRef:
    """An entry of `parameters`."""

    name: str


@dataclass(frozen=True)
class ConstRef:
    """An entry of `constants`."""

    name: str


@dataclass(frozen=True)
class SymArg:
    """A size used as an argument."""

    dim: Dim


@dataclass(frozen=True)
class DtypeArg:
    """A dtype used as an argument."""

    dtype: str


@dataclass(frozen=True)
class DeviceArg:
    """A device used as an argument; it always means the device of the model."""


@dataclass(frozen=True)
class EnumArg:
    """A memory format or a layout, by its qualified name."""

    name: str


Arg = Any  # one of the above, int, float, bool, None, str, or a tuple of them


@dataclass(frozen=True)
class Symbol:
    """A dynamic size and the range for which the trace holds."""

    name: str
    min: int
    max: int | None


@dataclass(frozen=True)
class Condition:
    """What the sizes must meet beside their ranges, and the line of the model that asks for it."""

    holds: DimExpr
    at: str | None


@dataclass(frozen=True)
class Input:
    """A tensor argument of the model."""

    name: str
    path: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class FixedInput:
    """An argument that is not a tensor and was fixed by the trace."""

    name: str
    value: Any


@dataclass(frozen=True)
class Output:
    """A tensor result of the model."""

    name: str
    path: str
    value: ValueRef | ParamRef | ConstRef


@dataclass(frozen=True)
class State:
    """An input that comes back, extended along `dim`, as an output."""

    name: str
    layer: int
    slot: str
    input: str
    output: str
    dim: int


@dataclass(frozen=True)
class Parameter:
    """A tensor that a checkpoint holds."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    tied_to: str | None


@dataclass(frozen=True)
class Full:
    """Constant data: every element has this value."""

    value: int | float | bool


@dataclass(frozen=True)
class Arange:
    """Constant data: row-major element i is `start + i * step`."""

    start: int | float
    step: int | float


@dataclass(frozen=True)
class ListData:
    """Constant data: row-major elements."""

    values: tuple[int | float | bool, ...]


@dataclass(frozen=True)
class FileData:
    """Constant data in a file beside the manifest."""

    file: str


@dataclass(frozen=True)
class Constant:
    """A tensor that no checkpoint holds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Full | Arange | ListData | FileData


@dataclass(frozen=True)
class Module:
    """An entry of the module tree."""

    path: str
    cls: str


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    module: str
    index: int
    parent: int | None
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A tensor that a node makes."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One ATen operation; `args` are (schema name, argument) pairs."""

    op: str
    args: tuple[tuple[str, Arg], ...]
    out: tuple[Value, ...]
    call: int
    at: str | None


@dataclass(frozen=True)
class Manifest:
    """Everything about a traced model but its weights."""

    recorder: dict[str, str]
    name: str
    cls: str
    output_class: str | None
    dtype: str
    symbols: tuple[Symbol, ...]
    conditions: tuple[Condition, ...]
    inputs: tuple[Input, ...]
    fixed_inputs: tuple[FixedInput, ...]
    outputs: tuple[Output, ...]
    states: tuple[State, ...]
    parameters: tuple[Parameter, ...]
    constants: tuple[Constant, ...]
    modules: tuple[Module, ...]
    calls: tuple[Call, ...]
    nodes: tuple[Node, ...]
    config: dict[str, Any] | None


def to_json(manifest: Manifest) -> str:
    """The manifest's text: the same manifest gives the same text."""
    m = manifest
    conditions = Lines([{"holds": _dim(c.holds), "at": c.at} for c in m.conditions])
    fields: list[tuple[str, Any]] = [
        ("version", list(VERSION_WITH_CONDITIONS if conditions else VERSION)),
        ("recorder", m.recorder),
        ("model", {"name": m.name, "class": m.cls, "output_class": m.output_class}),
        ("dtype", m.dtype),
        ("symbols", Lines([vars(s) for s in m.symbols])),
        *([("conditions", conditions)] if conditions else []),
        ("inputs", Lines([vars(i) | {"shape": _shape(i.shape)} for i in m.inputs])),
        (
            "fixed_inputs",
            Lines([{"name": i.name, "value": _literal(i.value)} for i in m.fixed_inputs]),
        ),
        (
            "outputs",
            Lines([{"name": o.name, "path": o.path, "value": _arg(o.value)} for o in m.outputs]),
        ),
        ("states", Lines([vars(s) for s in m.states])),
        ("parameters", Lines([vars(p) | {"shape": list(p.shape)} for p in m.parameters])),
        ("constants", Lines([_constant(c) for c in m.constants])),
        ("modules", Lines([{"path": x.path, "class": x.cls} for x in m.modules])),
        ("calls", Lines([vars(c) | {"outputs": list(c.outputs)} for c in m.calls])),
        ("nodes", Lines([_node(n) for n in m.nodes])),
        ("config", m.config),
    ]
    return "{\n" + ",\n".join(f'  "{k}": {_text(v)}' for k, v in fields) + "\n}\n"


class Lines(list[Any]):
    """A list written one element per line."""


def _text(value: Any) -> str:
    if isinstance(value, Lines):
        if not value:
            return "[]"
        return "[\n" + ",\n".join("    " + _dump(v) for v in value) + "\n  ]"
    return _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _shape(shape: Shape) -> list[Any]:
    return [_dim(d) for d in shape]


def _dim(dim: Dim) -> Any:
    if isinstance(dim, DimExpr):
        return {dim.op: [_dim(d) for d in dim.operands]}
    return dim


def _literal(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if isinstance(value, (tuple, list)):
        return [_literal(v) for v in value]
    return value


def _arg(value: Arg) -> Any:
    writers: dict[type, Callable[[Any], Any]] = {
        ValueRef: lambda v: {"v": v.name},
        ParamRef: lambda v: {"param": v.name},
        ConstRef: lambda v: {"const": v.name},
        SymArg: lambda v: {"sym": _dim(v.dim)},
        DtypeArg: lambda v: {"dtype": v.dtype},
        DeviceArg: lambda v: {"device": "model"},
        EnumArg: lambda v: {"enum": v.name},
        tuple: lambda v: [_arg(x) for x in v],
    }
    return writers.get(type(value), _literal)(value)


def _constant(constant: Constant) -> dict[str, Any]:
    data = constant.data
    form: Any
    if isinstance(data, Full):
        form = {"full": _literal(data.value)}
    elif isinstance(data, Arange):
        form = {"arange": {"start": data.start, "step": data.step}}
    elif isinstance(data, ListData):
        form = {"list": _literal(data.values)}
    else:
        form = {"file": data.file}
    return vars(constant) | {"shape": list(constant.shape), "data": form}


def _node(node: Node) -> dict[str, Any]:
    return {
        "op": node.op,
        "args": {name: _arg(value) for name, value in node.args},
        "out": [vars(v) | {"shape": _shape(v.shape)} for v in node.out],
        "call": node.call,
        "at": node.at,
    }
