"""Runs a manifest on real tensors: what the goldens are made of, and proof that it is whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from . import dims
from .dtypes import raised
from .errors import RecordError
from .failures import first_line, place
from .schema import (
    ConstRef,
    DeviceArg,
    DtypeArg,
    EnumArg,
    Manifest,
    Node,
    ParamRef,
    SymArg,
    ValueRef,
)

Lookup = Callable[[str], torch.Tensor]


class Executor:
    """One run of a manifest. `precision` raises every lower float of the run to that dtype."""

    def __init__(
        self,
        manifest: Manifest,
        parameters: Lookup,
        constants: Mapping[str, torch.Tensor],
        precision: torch.dtype | None = None,
    ) -> None:
        self._manifest = manifest
        self._parameters = parameters
        self._constants = constants
        self._precision = precision
        self._loaded: dict[str, torch.Tensor] = {}

    def run(
        self, inputs: Mapping[str, torch.Tensor], keep: Collection[str]
    ) -> dict[str, torch.Tensor]:
        """The values in `keep` and the outputs (as `output.<name>`) for these inputs.

        Values and parameters are released after their last use.
        """
        m = self._manifest
        sizes = dims.solve(
            {i.name: (i.shape, tuple(inputs[i.name].shape)) for i in m.inputs},
            tuple(s.name for s in m.symbols),
        )
        self._check_sizes(sizes)
        values = {name: self._raise(t) for name, t in inputs.items()}
        last = _last_uses(m)
        kept: dict[str, torch.Tensor] = {}
        with torch.no_grad(), _default_dtype(self._precision):
            for index, node in enumerate(m.nodes):
                for value, tensor in zip(node.out, self._call(node, values, sizes), strict=True):
                    values[value.name] = tensor
                    if value.name in keep:
                        kept[value.name] = tensor
                for reference in last.get(index, ()):
                    (values if isinstance(reference, ValueRef) else self._loaded).pop(
                        reference.name, None
                    )
            for output in m.outputs:
                kept[f"output.{output.name}"] = self._resolve(output.value, values, sizes)
        return kept

    def _check_sizes(self, sizes: Mapping[str, int]) -> None:
        for s in self._manifest.symbols:
            if sizes[s.name] < s.min or (s.max is not None and sizes[s.name] > s.max):
                raise RecordError(f"size `{s.name}` is {sizes[s.name]}, outside {s.min}..{s.max}")
        for c in self._manifest.conditions:
            if not dims.evaluate(c.holds, sizes):
                got = ", ".join(f"{name} = {sizes[name]}" for name in dims.symbols(c.holds))
                raise RecordError(
                    f"the trace holds only where `{dims.text(c.holds)}` ({c.at or 'the model'}), "
                    f"and the inputs have {got}"
                )

    def _raise(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._precision is None or not tensor.is_floating_point():
            return tensor
        return tensor.to(torch.promote_types(tensor.dtype, self._precision))

    def _call(
        self, node: Node, values: Mapping[str, torch.Tensor], sizes: Mapping[str, int]
    ) -> list[Any]:
        operator, positional = _operator(node.op)
        given = {name: self._resolve(arg, values, sizes) for name, arg in node.args}
        args = []
        for name in positional:
            if name not in given:
                break
            args.append(given.pop(name))
        try:
            result = operator(*args, **given)
        except Exception as error:
            where = place(self._manifest.calls[node.call].module, node.at)
            raise RecordError(
                f"{node.op} in {where} does not run on these inputs: {first_line(error)}"
            ) from error
        return list(result) if isinstance(result, (tuple, list)) else [result]

    def _resolve(
        self, arg: Any, values: Mapping[str, torch.Tensor], sizes: Mapping[str, int]
    ) -> Any:
        if isinstance(arg, tuple):
            return [self._resolve(a, values, sizes) for a in arg]
        if isinstance(arg, ValueRef):
            return values[arg.name]
        if isinstance(arg, ParamRef):
            if arg.name not in self._loaded:
                self._loaded[arg.name] = self._raise(self._parameters(arg.name))
            return self._loaded[arg.name]
        if isinstance(arg, ConstRef):
            return self._raise(self._constants[arg.name])
        if isinstance(arg, SymArg):
            return dims.evaluate(arg.dim, sizes)
        if isinstance(arg, DtypeArg):
            dtype = getattr(torch, arg.dtype)
            if self._precision is not None and dtype.is_floating_point:
                dtype = torch.promote_types(dtype, self._precision)
            return dtype
        if isinstance(arg, DeviceArg):
            return torch.device("cpu")
        if isinstance(arg, EnumArg):
            return getattr(torch, arg.name.removeprefix("torch."))
        return arg


@lru_cache(maxsize=4096)
def _operator(op: str) -> tuple[Any, tuple[str, ...]]:
    """The operator and its positional arguments; a manifest has no strides, so views may copy."""
    if op == "aten.view.default":
        return torch.ops.aten.reshape.default, ("self", "size")
    namespace, name, overload = op.split(".", 2)
    operator = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    positional = tuple(a.name for a in operator._schema.arguments if not a.kwarg_only)
    return operator, positional


def _references(arg: Any) -> Iterator[ValueRef | ParamRef]:
    if isinstance(arg, tuple):
        for a in arg:
            yield from _references(a)
    elif isinstance(arg, (ValueRef, ParamRef)):
        yield arg


def _last_uses(m: Manifest) -> dict[int, list[ValueRef | ParamRef]]:
    """Per node, the values and parameters that nothing after it needs."""
    last: dict[ValueRef | ParamRef, int] = {}
    for index, node in enumerate(m.nodes):
        for value in node.out:
            last[ValueRef(value.name)] = index
        for _, arg in node.args:
            for reference in _references(arg):
                last[reference] = index
    for output in m.outputs:
        if not isinstance(output.value, ConstRef):
            last.pop(output.value, None)
    found: dict[int, list[ValueRef | ParamRef]] = {}
    for reference, index in last.items():
        found.setdefault(index, []).append(reference)
    return found


@contextmanager
def _default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Operators that make floats from integers make them of the run's precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def truth_dtype(manifest: Manifest) -> torch.dtype:
    """The precision of the run that judges the model's own."""
    return raised(getattr(torch, manifest.dtype))
