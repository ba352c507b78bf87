"""The sizes that a user leaves open: `dynamic_shapes`, checked and in the form torch takes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.export.dynamic_shapes import _DerivedDim
from torch.utils import _pytree as pytree

from .arguments import by_name, var_positional
from .errors import RecordError

Axes = dict[int, Any]


class DynamicShapes:
    """What the user says of each axis: a name, a sum of names, or what torch takes."""

    def __init__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], given: Any
    ) -> None:
        self._values = by_name(model, args, kwargs)
        star = var_positional(model)
        self._given = _by_argument(self._values, star if star in self._values else None, given)
        self._specs = {name: _spec(v, self._given[name], name) for name, v in self._values.items()}

    def for_torch(self) -> dict[str, Any]:
        """The form that torch.export takes.

        A name becomes an open size of its own: torch refuses a named size whose range the model
        narrows, and says neither the line nor what to do. So does a `Dim`, where no other size is
        computed from one.
        """
        leaves = [said for axes in self.flat() for said in axes.values()]
        are_own = not any(isinstance(said, _DerivedDim) for said in leaves)
        return {name: _for_torch(spec, are_own) for name, spec in self._specs.items()}

    def flat(self) -> list[Axes]:
        """Per flat argument, what was given for each of its axes."""
        found: list[Axes] = []
        for spec in self._specs.values():
            _flatten(spec, found)
        return found


class _Leaf(Axes):
    """The axes of one flat argument; told apart from a dict of arguments."""


def _by_argument(values: dict[str, Any], star: str | None, given: Any) -> dict[str, Any]:
    """`given` by argument name, with None for those that it leaves out."""
    names = list(values)
    if given is None:
        given = {}
    if isinstance(given, (list, tuple)):
        given = _in_order(values, star, given)
    if not isinstance(given, dict):
        raise RecordError(
            f"dynamic_shapes is of type {type(given).__name__}: give a dict by argument name, as "
            '{"x": {0: "batch"}}, or a list in order'
        )
    unknown = sorted(str(name) for name in set(given) - set(names))
    if unknown:
        raise RecordError(f"dynamic_shapes names {unknown}, the arguments are {names}")
    return {name: given.get(name) for name in names}


def _in_order(values: dict[str, Any], star: str | None, given: Any) -> dict[str, Any]:
    """Those given in order by name; of `*xs` each argument counts."""
    counts = {name: len(value) if name == star else 1 for name, value in values.items()}
    if len(given) > sum(counts.values()):
        raise RecordError(f"dynamic_shapes has {len(given)} entries for {list(values)}")
    rest = list(given) + [None] * (sum(counts.values()) - len(given))
    found: dict[str, Any] = {}
    for name, count in counts.items():
        taken, rest = rest[:count], rest[count:]
        found[name] = taken if name == star else taken[0]
    return found


def _spec(value: Any, spec: Any, path: str) -> Any:
    """`spec` nested as `value` is, with checked axes at the leaves."""
    handler = pytree.SUPPORTED_NODES.get(pytree._get_node_type(value))
    if handler is None:
        return _Leaf(_axes(value, spec, path))
    children, _ = handler.flatten_fn(value)
    keys, specs = _children(value, spec, len(children), path)
    inner = [
        _spec(child, one, f"{path}{key}")
        for child, one, key in zip(children, specs, keys, strict=True)
    ]
    if isinstance(value, dict):
        return dict(zip(value, inner, strict=True))
    if _fields(value):
        return type(value)(*inner)
    return tuple(inner) if isinstance(value, tuple) else inner


def _children(value: Any, spec: Any, count: int, path: str) -> tuple[list[str], list[Any]]:
    """What path and what spec each part of `value` has."""
    names = [str(i) for i in range(count)]
    if isinstance(value, dict):
        names = list(value)
    elif is_dataclass(value):
        names = [f.name for f in fields(value) if getattr(value, f.name) is not None]
    names = _fields(value) or names
    named = isinstance(value, dict) or (
        (is_dataclass(value) or bool(_fields(value))) and len(names) == count
    )
    keys = [f".{name}" if named else f"[{name}]" for name in names]
    if spec is None:
        return keys, [None] * count
    if named and isinstance(spec, dict):
        unknown = sorted(str(key) for key in set(spec) - set(names))
        if unknown:
            raise RecordError(f"dynamic_shapes of `{path}` names {unknown}, it has {names}")
        return keys, [spec.get(name) for name in names]
    if not isinstance(spec, (list, tuple)) or len(spec) != count:
        raise RecordError(
            f"dynamic_shapes of `{path}`: {spec!r} does not follow the {count} parts of a "
            f"{type(value).__name__}"
        )
    return keys, list(spec)


def _fields(value: Any) -> list[str]:
    """The names of the parts of a named tuple; none for anything else."""
    return list(getattr(value, "_fields", ())) if isinstance(value, tuple) else []


def _axes(value: Any, spec: Any, path: str) -> Axes:
    """What is said of each axis of one argument, by its number from 0."""
    if spec is None:
        return {}
    where = f"dynamic_shapes of `{path}`"
    if not isinstance(value, torch.Tensor):
        raise RecordError(f"{where}: the argument is no tensor and has no axes; leave it out")
    rank = value.dim()
    if isinstance(spec, (list, tuple)):
        if len(spec) != rank:
            raise RecordError(f"{where} has {len(spec)} entries, the tensor has {rank} axes")
        spec = dict(enumerate(spec))
    if not isinstance(spec, dict):
        raise RecordError(
            f'{where} is {spec!r}: give a mapping from axis to the size\'s name, as {{0: "batch"}}'
        )
    found: Axes = {}
    for axis, said in spec.items():
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise RecordError(f"{where} has the axis {axis!r}; axes are numbers, as in {{0: ...}}")
        if not -rank <= axis < rank:
            raise RecordError(f"{where} has the axis {axis}, the tensor has {rank} axes")
        if axis % rank in found:
            raise RecordError(f"{where} has the axis {axis % rank} twice")
        found[axis % rank] = _said(said, value.shape[axis], f"{where}, axis {axis}")
    return {axis: said for axis, said in found.items() if said is not None}


def _said(said: Any, size: int, where: str) -> Any:
    """What is said of one axis; None where that is the traced size itself."""
    if said is None:
        return None
    if isinstance(said, int) and not isinstance(said, bool):
        if said != size:
            raise RecordError(f"{where} is to be {said}, the tensor has {size} there")
        return None
    if isinstance(said, str):
        parts = [part.strip() for part in said.split("+")]
        known = all(part.isascii() and (part.isidentifier() or part.isdigit()) for part in parts)
        if not known or said.isdigit():
            raise RecordError(
                f"{where}: `{said}` is no name of a size; names are letters, digits and `_`, and "
                '`+` makes a sum, as in "past + sequence"; a size that has to be even, say, is '
                "called by one name, and what the model asks of it becomes a condition"
            )
        return said
    if type(said).__module__.startswith("torch."):
        low, high = getattr(said, "min", None), getattr(said, "max", None)
        if isinstance(low, int) and size < low:
            raise RecordError(f"{where} is to be at least {low}, the tensor has {size} there")
        if isinstance(high, int) and size > high:
            raise RecordError(f"{where} is to be at most {high}, the tensor has {size} there")
        return said
    raise RecordError(f'{where} is {said!r}: give the size\'s name, as {{0: "batch"}}')


def _for_torch(spec: Any, are_own: bool) -> Any:
    if isinstance(spec, _Leaf):
        return {axis: _axis_for_torch(said, are_own) for axis, said in spec.items()} or None
    if isinstance(spec, dict):
        return {key: _for_torch(inner, are_own) for key, inner in spec.items()}
    parts = [_for_torch(inner, are_own) for inner in spec]
    return type(spec)(*parts) if _fields(spec) else type(spec)(parts)


def _axis_for_torch(said: Any, is_own: bool) -> Any:
    if isinstance(said, str):
        return Dim.DYNAMIC
    if isinstance(said, Dim) and is_own:
        low, high = given_range(said)
        return Dim.DYNAMIC(min=low, max=high)  # type: ignore[operator]
    return said


def given_range(said: Any) -> tuple[int | None, int | None]:
    """The bounds that were given with a `Dim`; None for one that was not."""
    if not isinstance(said, Dim):
        return None, None
    return said.min or None, said.max if isinstance(said.max, int) else None


def _flatten(spec: Any, found: list[Axes]) -> None:
    if isinstance(spec, _Leaf):
        found.append(spec)
        return
    for inner in spec.values() if isinstance(spec, dict) else spec:
        _flatten(inner, found)
