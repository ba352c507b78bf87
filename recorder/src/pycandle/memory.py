"""Refuses models that remember: one call leaves behind what a later one computes by.

`forward` may keep counters and caches in attributes. Whether they change what is computed is seen
from a trace of a second call: both are traced for the sizes of the example alone, the second from
what the first left behind, with constants in place of the tensors that it computed. The model
remembers nothing if the second gives the same, once each of these constants is replaced by how the
first computed it, and if that was not from the values of inputs. What shows in a third call alone,
or at other sizes than the first call's, is not seen.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import GraphModule, Node

from .attributes import Attributes, kept, storage, watched
from .clean import clean
from .errors import RecordError
from .failures import KEEPS_NOTHING, first_line

Changes = dict[str, tuple[Any, Any]]


def changes(before: Attributes, after: Attributes) -> Changes:
    """What tensors, numbers and strings were and what they became, by path."""
    paths = {**before.slots, **after.slots}
    values = {path: (before.value(path), after.value(path)) for path in paths}
    return {path: pair for path, pair in values.items() if not _same(*pair)}


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, torch.Tensor) or isinstance(new, torch.Tensor):
        return old is new
    old, new = _number(old), _number(new)
    return type(old) is type(new) and bool(old == new or (old != old and new != new))


def _number(value: Any) -> Any:
    """The number that an open size is in this trace."""
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return value.node.hint if value.node.has_hint() else None
    return value


def refuse_memory(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises RecordError when a second call computes something else than the first one.

    For a model of which `forward` changes attributes; nothing of it or its arguments is on meta.
    """
    values = _Values()
    first = _call(model, args, kwargs)
    expected = values.of(first)
    stand_ins = _StandIns(first.given)
    try:
        second = _call(model, args, kwargs, lambda: first.after.put_back(stand_ins.of))
    except Exception as error:
        raise _refused(first.changes, f"a second call fails ({first_line(error)})") from error
    for path, value in expected.ends.items():
        tensor = stand_ins.of(first.changes[path][1])
        values.stand_ins |= {path: (path, value), storage(tensor): (path, value)}
    found = values.of(second)
    remembered = {path for path in found.reads if expected.ends[path] in values.from_inputs}
    if remembered:
        what = "a later call reads what an earlier one computed from its inputs"
        raise _refused({path: first.changes[path] for path in remembered}, what)
    if found.results == expected.results:
        return
    numbers = [p for p in first.changes if p in first.after.slots and p not in first.ends]

    def decides(path: str) -> bool:
        """Whether this number alone makes a call another."""
        slot = first.after.slots[path]
        try:
            alone = _call(model, args, kwargs, lambda: slot.write(_number(slot.value)))
        except Exception:  # it goes with others
            return False
        return values.of(alone).results != expected.results

    evolved = [
        path
        for path in found.reads
        if found.ends.get(path, expected.ends[path]) != expected.ends[path]
    ]
    told = [*evolved, *filter(decides, numbers)] or list(first.changes)
    what = "a second call computes something else"
    raise _refused({path: first.changes[path] for path in told}, what)


def _refused(changed: Changes, what: str) -> RecordError:
    listed = ", ".join(_shown(path, *pair) for path, pair in sorted(changed.items()))
    return RecordError(f"forward changes {listed}, and {what}; {KEEPS_NOTHING}")


def _shown(path: str, old: Any, new: Any) -> str:
    new = _number(new)
    tensors = [isinstance(value, torch.Tensor) for value in (old, new)]
    if any(tensors):
        return f"the tensor `{path}`" if tensors[1] else f"the tensor `{path}` (to {new!r})"
    return f"`{path}` (from {old!r} to {new!r})"


@dataclass(frozen=True)
class _Call:
    """A trace of one call, which returns the tensors that it left behind after its results."""

    program: ExportedProgram
    after: Attributes
    changes: Changes
    ends: tuple[str, ...]  # the paths of these tensors
    given: dict[int, Any]  # by the id of what the trace has for them, what the model has


def _call(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    prepare: Callable[[], None] = lambda: None,
) -> _Call:
    """Traces a call after `prepare`; the attributes are the same again afterwards."""
    found: list[tuple[Attributes, Attributes, Changes, tuple[str, ...]]] = []

    def with_ends(before: Attributes, after: Attributes, result: Any) -> Any:
        changed = changes(before, after)
        ends = [path for path, (_, new) in changed.items() if isinstance(new, FakeTensor)]
        found.append((before, after, changed, tuple(ends)))
        return result, [changed[path][1] for path in ends]

    with kept(model):
        prepare()
        outside = Attributes(model)
        with watched(model, with_ends):
            exported = torch.export.export(model, args, kwargs, strict=False)
    ((before, after, changed, ends),) = found
    given = {id(slot.value): outside.value(path) for path, slot in before.slots.items()}
    return _Call(exported.run_decompositions({}), after, changed, ends, given)


class _StandIns:
    """Constants for tensors of a trace, which have a shape and no values."""

    def __init__(self, given: dict[int, Any]) -> None:
        self._given = given
        self._made: dict[int, torch.Tensor] = {}

    def of(self, value: Any) -> Any:
        """What a second call finds in place of `value`."""
        if not isinstance(value, FakeTensor):
            return _number(value)
        if id(value) in self._given:
            return self._given[id(value)]
        if id(value) not in self._made:
            made = torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device=value.device
            )
            self._made[id(value)] = made.zero_()
        return self._made[id(value)]


@dataclass(frozen=True)
class _Computed:
    results: tuple[Hashable, ...]
    ends: dict[str, Hashable]
    reads: tuple[str, ...]  # the stand-ins that the results come from


class _Values:
    """One number for all that is computed alike, in whatever program."""

    def __init__(self) -> None:
        # By path and by storage, the path of a stand-in and what it stands for.
        self.stand_ins: dict[Hashable, tuple[str, Hashable]] = {}
        self.from_inputs: set[Hashable] = set()  # what is computed from values of inputs
        self._numbers: dict[Hashable, int] = {}

    def of(self, call: _Call) -> _Computed:
        """What a call computes."""
        module, signature = call.program.graph_module, call.program.graph_signature
        clean(module.graph)
        specs = {spec.arg.name: spec for spec in signature.input_specs}
        numbers: dict[Node, Hashable] = {}
        reads: dict[Node, frozenset[str]] = {}
        places = itertools.count()
        for node in module.graph.nodes:
            reads[node] = frozenset().union(*(reads[n] for n in node.all_input_nodes))
            if node.op == "placeholder":
                spec = specs[node.name]
                key: Hashable = spec.kind, spec.target or next(places)
                known = self.stand_ins.get(str(spec.target))
                if spec.kind is InputKind.CONSTANT_TENSOR:
                    tensor = call.program.constants[str(spec.target)]
                    known = self.stand_ins.get(storage(tensor))
                    key = _content(tensor)
                if known is not None:
                    reads[node], numbers[node] = frozenset([known[0]]), known[1]
                    continue
                numbers[node] = self._number(key, spec.kind is InputKind.USER_INPUT)
            elif node.op == "get_attr":
                inner = getattr(module, str(node.target))
                key = str(inner.graph) if isinstance(inner, GraphModule) else id(inner)
                numbers[node] = self._number(key, False)
            elif node.op == "call_function":
                from_inputs = any(numbers[n] in self.from_inputs for n in _read(node))
                key = str(node.target), _key((node.args, node.kwargs), numbers)
                numbers[node] = self._number(key, from_inputs)
        (output,) = [node for node in module.graph.nodes if node.op == "output"]
        returned = [
            value
            for value, spec in zip(output.args[0], signature.output_specs, strict=True)
            if spec.kind is OutputKind.USER_OUTPUT
        ]
        results = returned[: len(returned) - len(call.ends)]
        ends = [_key(value, numbers) for value in returned[len(results) :]]
        read = [reads[value] for value in results if isinstance(value, Node)]
        return _Computed(
            tuple(_key(value, numbers) for value in results),
            dict(zip(call.ends, ends, strict=True)),
            tuple(sorted(frozenset().union(*read))),
        )

    def _number(self, key: Hashable, from_inputs: bool) -> Hashable:
        number = self._numbers.setdefault(key, len(self._numbers))
        if from_inputs:
            self.from_inputs.add(number)
        return number


def _read(node: Node) -> list[Node]:
    """The operands whose values matter, and not only their shape and dtype."""
    name = getattr(node.target, "_opname", "")
    if name.endswith("_like") or name.startswith("new_"):
        return []
    return node.all_input_nodes[:1] if name.endswith("_as") else node.all_input_nodes


def _key(value: Any, numbers: dict[Node, Hashable]) -> Hashable:
    if isinstance(value, Node):
        return numbers[value]
    if isinstance(value, (list, tuple)):
        return tuple(_key(item, numbers) for item in value)
    if isinstance(value, dict):
        return tuple((name, _key(item, numbers)) for name, item in sorted(value.items()))
    return type(value).__name__, str(value)


def _content(tensor: torch.Tensor) -> Hashable:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return tensor.dtype, tensor.shape, hashlib.sha256(data.tobytes()).digest()
