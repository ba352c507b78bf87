"""Runs torch.export and binds the sizes that it left open to the names the user gave them."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as fx_config
from torch import nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

from . import huggingface, sizes
from .arguments import (
    PLAIN,
    Leaf,
    argument_leaves,
    in_signature_order,
    leaves,
    take_dataclasses,
    var_keyword,
)
from .attributes import Attributes, kept
from .blocks import blocks_stay_in_place
from .calls import source_line
from .decompose import decompositions, refuse_undone
from .dims import SymbolTable
from .dynamic import DynamicShapes
from .errors import RecordError
from .failures import place, quiet
from .functional import functional
from .guards import noted
from .layout import layout_is_free, only_conditions_of
from .memory import changes, refuse_memory
from .meta import as_on_cpu, check_values, refuse_lost_constants
from .mutation import refuse_hidden_state
from .pairs import as_pairs
from .recurrent import sequences_stay_open
from .schema import Condition, Symbol
from .shared import shared_sizes
from .slices import assignments_of_any_size, slices_of_any_size
from .weights import bind_weights

_OF_NOTHING = re.compile(r"M(?:ax\(0|in\(1), ([^)]*)")  # a size in an error of torch's
_RESULTS = (*PLAIN, torch.SymInt, torch.SymFloat, torch.SymBool)


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
    check_values(model)
    take_dataclasses((args, kwargs))
    huggingface.take_caches((args, kwargs))
    kwargs = in_signature_order(model, args, kwargs)
    shapes = DynamicShapes(model, args, kwargs, dynamic_shapes)
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(torch.no_grad())
        found = stack.enter_context(_calls(model))
        stack.enter_context(_open_sizes())
        stack.enter_context(slices_of_any_size())
        stack.enter_context(assignments_of_any_size())
        stack.enter_context(sequences_stay_open())
        stack.enter_context(blocks_stay_in_place(model))
        stack.enter_context(huggingface.traceable(model))
        (args, kwargs), lost = stack.enter_context(as_on_cpu(model, (args, kwargs)))
        inputs = argument_leaves(model, args, kwargs)
        given = shapes.flat()
        named = {leaf.path: axes for leaf, axes in zip(inputs, given, strict=True)}
        if (rest := var_keyword(model)) is not None:
            named |= {f"{rest}.{path}": axes for path, axes in named.items()}  # as torch names them
        stack.enter_context(_without_collection())
        stack.enter_context(_use_lazy_graph_module(True))  # writes no Python for graphs in between
        stack.enter_context(_masks_as_given())
        stack.enter_context(without_fast_path())

        exported, program, asked = _exported(model, args, kwargs, shapes.for_torch(), named, table)
        _refuse_parts(program)
        refuse_lost_constants(program, lost)
        bind_weights(program, model)
        refuse_undone(table, exported, program)
        refuse_hidden_state(program)
        if any(changes(*pair) for pair in found):
            refuse_memory(model, args, kwargs)
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
        constants=dict(program.constants),
        structure=pytree.tree_structure((args, kwargs)),
    )


def _exported(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic_shapes: Any,
    named: Mapping[str, Mapping[int, Any]],
    table: Mapping[OpOverload, Callable[..., Any]],
) -> tuple[ExportedProgram, ExportedProgram, sizes.Open]:
    """The program before and after decomposition, and what it asks of its sizes."""

    called: dict[str, str] = {}

    def with_some(some: set[str]) -> tuple[ExportedProgram, ExportedProgram, sizes.Open]:
        nonlocal called
        with noted(named) as guards:
            with kept(model), layout_is_free(), shared_sizes(named, some) as called:
                exported = torch.export.export(
                    model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False
                )
            with only_conditions_of(table) as asking:
                program = functional(exported, asking)
                as_pairs(program)
        return exported, program, sizes.asked(exported, guards.asked)

    # Of nothing at all, `x[:, -1:]` and `x[:, :1]` take nothing: not always a size of 1.
    some: set[str] = set()
    while True:
        try:
            found = with_some(some)
            empty = sizes.left_unsqueezed(*found[1:])
        except RuntimeError as error:
            empty = set(re.findall(r"\bs\d+\b", " ".join(_OF_NOTHING.findall(str(error)))))
            if not {called[symbol] for symbol in empty if symbol in called} - some:
                raise
        more = {called[symbol] for symbol in empty if symbol in called} - some
        if not more:
            return found
        some |= more


def _refuse_parts(program: ExportedProgram) -> None:
    """Raises RecordError for what runs a graph of its own, as the sides of a condition are."""
    for node in program.graph.nodes:
        if node.op == "get_attr" and node.users:
            user = next(iter(node.users))
            chooses = str(user.target) in ("cond", "while_loop", "scan", "map_impl")
            raise RecordError(
                f"{place('', source_line(user))}: `{user.target}` runs a part of the model "
                + (
                    "by a condition or in a loop, which a manifest has no form for: compute every "
                    "part and choose with `torch.where`"
                    if chooses
                    else "that it is given as a function, which a manifest has no form for: write "
                    "it with operators on tensors"
                )
            )


@contextmanager
def _calls(model: nn.Module) -> Iterator[list[tuple[Attributes, Attributes]]]:
    """Yields the attributes of `model` before and after each call.

    Inside, what `model` returns is taken apart, dataclasses too, or refused.
    """
    starts: list[Attributes] = []
    found: list[tuple[Attributes, Attributes]] = []

    def check(_model: nn.Module, _args: Any, result: Any) -> None:
        found.append((starts.pop(), Attributes(model)))
        take_dataclasses(result)
        refused = [leaf for leaf in leaves(result) if not isinstance(leaf.value, _RESULTS)]
        if refused:
            named = ", ".join(f"`{leaf.path}`" if leaf.path else "it" for leaf in refused)
            kinds = ", ".join(sorted({type(leaf.value).__name__ for leaf in refused}))
            raise RecordError(
                f"forward of {type(model).__name__} returns {kinds} ({named}), which a manifest "
                "has no form for: return tensors, alone or in tuples, lists, dicts and dataclasses"
            )

    handles = (
        model.register_forward_pre_hook(lambda *_: starts.append(Attributes(model)), prepend=True),
        model.register_forward_hook(check),
    )
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _masks_as_given() -> Iterator[None]:
    """`nn.TransformerEncoder` compares the values of a mask with those of a causal one, to choose a
    faster kernel that gives the same; inside, only a model that says `is_causal` gets that."""
    before = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = before


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Inside, attention and encoder layers of PyTorch run operator by operator, as in a trace: the
    kernel that it has for whole layers gives zeros in the places that a mask pads."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


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


def _output_leaves(program: ExportedProgram) -> tuple[tuple[Leaf, ...], str | None]:
    """The results with their paths, and the class of the result when it is a structure."""
    spec = program.call_spec.out_spec
    count = spec.num_leaves
    marks = [torch.empty(0, 0, 0, i, device="meta") for i in range(count)]
    tree = pytree.tree_unflatten(marks, spec)
    found = list(leaves(tree))
    structured = spec.type not in (None, tuple, list, dict)
    return tuple(found), f"{spec.type.__module__}.{spec.type.__qualname__}" if structured else None
