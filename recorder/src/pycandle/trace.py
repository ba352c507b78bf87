"""Runs torch.export and binds the sizes that it left open to the names the user gave them."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as fx_config
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.utils import _pytree as pytree

from . import huggingface, sizes
from .decompose import decompositions
from .dims import SymbolTable
from .errors import RecordError
from .guards import noted
from .layout import layout_is_free, only_conditions_of
from .meta import buffers_on_meta, check_buffers, has_meta_parameters
from .schema import Condition, Symbol
from .shared import shared_sizes


@dataclass(frozen=True)
class Leaf:
    """One flat argument or result: its pytree path and an identifier made of it."""

    path: str
    name: str
    value: Any


@dataclass(frozen=True)
class Trace:
    """An exported model with everything that the manifest needs and the program does not hold."""

    program: ExportedProgram
    table: SymbolTable
    symbols: tuple[Symbol, ...]
    conditions: tuple[Condition, ...]
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    output_class: str | None
    constants: dict[str, torch.Tensor]
    structure: pytree.TreeSpec  # of (args, kwargs); its leaves are `inputs`


def trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic_shapes: Any,
    decompose: Sequence[str] = (),
) -> Trace:
    """Exports `model` for these arguments; see `GoldenRecorder.record` for `dynamic_shapes`."""
    table = decompositions(decompose)
    if model.training:
        raise RecordError("the model is in training mode; call `model.eval()` first")
    huggingface.restore_buffers(model)
    check_buffers(model)
    kwargs = _in_signature_order(model, args, kwargs)
    shapes = ShapeNames(_by_argument(model, args, kwargs, dynamic_shapes))
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_open_sizes())
        stack.enter_context(huggingface.traceable(model))
        values: dict[str, torch.Tensor] = {}
        if has_meta_parameters(model):
            values = stack.enter_context(buffers_on_meta(model))
            args, kwargs = pytree.tree_map_only(torch.Tensor, _to_meta, (args, kwargs))
        inputs = argument_leaves(model, args, kwargs)
        given = shapes.flat(args, kwargs)
        named = {leaf.path: axes for leaf, axes in zip(inputs, given, strict=True)}
        stack.enter_context(_without_collection())
        stack.enter_context(_use_lazy_graph_module(True))  # writes no Python for graphs in between
        with noted(named) as guards:
            with layout_is_free(), shared_sizes(named):
                exported = torch.export.export(
                    model, args, kwargs, dynamic_shapes=shapes.for_torch(args, kwargs), strict=False
                )
            with only_conditions_of(table) as asking:
                program = exported.run_decompositions(asking)
        asked = sizes.asked(exported, guards.asked)
    _refuse_mutation(program)
    sizes_of, symbols, conditions = sizes.bind(
        program, [leaf.name for leaf in inputs], given, asked
    )
    outputs, output_class = _output_leaves(program)
    return Trace(
        program=program,
        table=sizes_of,
        symbols=symbols,
        conditions=conditions,
        inputs=inputs,
        outputs=outputs,
        output_class=output_class,
        constants={**program.constants, **values},
        structure=pytree.tree_structure((args, kwargs)),
    )


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


@contextmanager
def _open_sizes() -> Iterator[None]:
    """Sizes given by name are not specialised to 0 or 1: one trace serves batch 1 and past 0."""
    before = fx_config.backed_size_oblivious
    fx_config.backed_size_oblivious = True  # type: ignore[assignment]
    try:
        yield
    finally:
        fx_config.backed_size_oblivious = before


@contextmanager
def _without_collection() -> Iterator[None]:
    """A trace makes millions of small objects and hardly any cycles to collect."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _in_signature_order(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    order = list(inspect.signature(model.forward).parameters)
    rank = {name: i for i, name in enumerate(order)}
    return dict(sorted(kwargs.items(), key=lambda item: rank.get(item[0], len(order))))


def argument_names(model: nn.Module, count: int) -> list[str]:
    """The names of the first `count` positional parameters of the model's forward."""
    names: list[str] = []
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}_{i}" for i in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(name)
    if len(names) < count:
        raise RecordError(f"{count} positional arguments given, forward takes {len(names)}")
    return names[:count]


def _by_argument(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> dict[str, Any]:
    """`dynamic_shapes` by argument name, with None for those that it leaves out."""
    names = argument_names(model, len(args)) + list(kwargs)
    if dynamic_shapes is None:
        dynamic_shapes = {}
    if isinstance(dynamic_shapes, (list, tuple)):
        if len(dynamic_shapes) > len(names):
            raise RecordError(f"dynamic_shapes has {len(dynamic_shapes)} entries for {names}")
        dynamic_shapes = dict(zip(names, dynamic_shapes, strict=False))
    unknown = sorted(set(dynamic_shapes) - set(names))
    if unknown:
        raise RecordError(f"dynamic_shapes names {unknown}, the arguments are {names}")
    return {name: dynamic_shapes.get(name) for name in names}


class ShapeNames:
    """The user's dynamic shapes: sizes given by name, by torch Dim, or as a sum of names."""

    def __init__(self, by_argument: dict[str, Any]) -> None:
        self._given = by_argument

    def for_torch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The form that torch.export takes.

        A name becomes an open size of its own: torch refuses a named size whose range the model
        narrows, where we want the narrower range.
        """
        values = list(args) + list(kwargs.values())
        pairs = zip(values, self._given.items(), strict=True)
        return {name: self._convert(value, spec) for value, (name, spec) in pairs}

    def _convert(self, value: Any, spec: Any) -> Any:
        handler = pytree.SUPPORTED_NODES.get(pytree._get_node_type(value))
        if handler is None:
            axes = dict(enumerate(spec)) if isinstance(spec, (list, tuple)) else spec
            if not isinstance(axes, dict):
                return axes
            return {k: Dim.DYNAMIC if isinstance(v, str) else v for k, v in axes.items()}
        children, context = handler.flatten_fn(value)
        specs = self._children(value, spec, context, len(children))
        inner = [self._convert(c, s) for c, s in zip(children, specs, strict=True)]
        if isinstance(value, dict):
            return dict(zip(context, inner, strict=True))
        return tuple(inner) if isinstance(value, tuple) else inner

    @staticmethod
    def _children(value: Any, spec: Any, context: Any, count: int) -> list[Any]:
        if spec is None:
            return [None] * count
        if isinstance(spec, dict) and isinstance(value, dict):
            return [spec.get(key) for key in context]
        if not isinstance(spec, (list, tuple)) or len(spec) != count:
            raise RecordError(
                f"dynamic_shapes: {spec!r} does not follow the {count} parts of a "
                f"{type(value).__name__}"
            )
        return list(spec)

    def flat(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[dict[int, Any]]:
        """Per flat argument, what was given for each of its axes."""
        values = list(args) + list(kwargs.values())
        found: list[dict[int, Any]] = []
        for value, spec in zip(values, self._given.values(), strict=True):
            self._pair(value, spec, found)
        return found

    def _pair(self, value: Any, spec: Any, found: list[dict[int, Any]]) -> None:
        handler = pytree.SUPPORTED_NODES.get(pytree._get_node_type(value))
        if handler is None:
            if isinstance(spec, (list, tuple)):
                spec = dict(enumerate(spec))
            found.append(spec or {})
            return
        children, context = handler.flatten_fn(value)
        specs = self._children(value, spec, context, len(children))
        for child, child_spec in zip(children, specs, strict=True):
            self._pair(child, child_spec, found)


def argument_leaves(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Leaf, ...]:
    kwargs = _in_signature_order(model, args, kwargs)
    names = argument_names(model, len(args)) + list(kwargs)
    values = dict(zip(names, [*args, *kwargs.values()], strict=True))
    return tuple(leaves(values))


def _output_leaves(program: ExportedProgram) -> tuple[tuple[Leaf, ...], str | None]:
    """The results with their paths, and the class of the result when it is a structure."""
    spec = program.call_spec.out_spec
    count = spec.num_leaves
    marks = [torch.empty(0, 0, 0, i, device="meta") for i in range(count)]
    tree = pytree.tree_unflatten(marks, spec)
    found = list(leaves(tree))
    structured = spec.type not in (None, tuple, list, dict)
    return tuple(found), f"{spec.type.__module__}.{spec.type.__qualname__}" if structured else None


def leaves(tree: Any) -> Iterator[Leaf]:
    """The flat elements of nested arguments or results."""
    flat, _ = pytree.tree_flatten_with_path(tree)
    taken: set[str] = set()
    for keys, value in flat:
        path = ""
        for key in keys:
            if isinstance(key, pytree.SequenceKey):
                path += f"[{key.idx}]"
            elif isinstance(key, pytree.MappingKey):
                path += f".{key.key}" if path else str(key.key)
            else:
                attribute = str(getattr(key, "name", key))
                path += f".{attribute}" if path else attribute
        name = unique(identifier(path), taken)
        yield Leaf(path, name, value)


def identifier(path: str) -> str:
    """An identifier made of a path: `past_key_values[0].key` is `past_key_values_0_key`."""
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in path)
    text = "_".join(part for part in text.split("_") if part)
    if not text:
        return "output"
    return text if not text[0].isdigit() else f"output_{text}"


def unique(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, … where that is taken; takes it."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def _refuse_mutation(program: ExportedProgram) -> None:
    changed = [
        spec.target
        for spec in program.graph_signature.output_specs
        if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION)
    ]
    if changed:
        raise RecordError(
            f"forward changes {', '.join(f'`{c}`' for c in changed)}; a recorded model has no "
            "hidden state: pass it as an argument and return it"
        )
