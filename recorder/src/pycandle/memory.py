"""Refuses models that remember: one call leaves behind what a later one computes by.

`forward` may keep counters and caches in attributes. Whether they change what is computed is seen
from a trace of three calls, each with inputs of its own, for the sizes of the example alone: the
model remembers nothing if each later call computes from its inputs what the first computes from
its own. What shows in a fourth call alone, or at other sizes, is not seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node
from torch.utils import _pytree as pytree

from .attributes import SIZES, Attributes, Order, kept
from .clean import clean
from .errors import RecordError
from .failures import KEEPS_NOTHING, first_line
from .functional import functional
from .mutation import replaces
from .weights import bind_weights

Changes = dict[str, tuple[Any, Any]]

_CALLS = 3
# By value, a zero by its sign, too; everything else is the same object or not.
_SHOWN = (bool, int, float, complex, str, type(None))
_COMPARED = (*_SHOWN, bytes, Order)


def changes(before: Attributes, after: Attributes) -> Changes:
    """What tensors, numbers and other values were and what they became, by path."""
    pairs = {
        path: (before.values.get(path), after.values.get(path))
        for path in {**before.values, **after.values}
    }
    return {path: pair for path, pair in pairs.items() if not _same(*pair)}


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    old, new = _number(old), _number(new)
    return type(old) is type(new) and type(old) in _COMPARED and repr(old) == repr(new)


def _number(value: Any) -> Any:
    """The number that an open size is in this trace."""
    if isinstance(value, SIZES):
        return value.node.hint if value.node.has_hint() else None
    return value


def refuse_memory(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises RecordError when a later call computes something else than the first one.

    For a model of which `forward` changes attributes; nothing of it or its arguments is on meta.
    """
    seen: list[_Call] = []
    calls = _Calls(model, lambda: Attributes(model), seen)
    given = [pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs)) for _ in range(_CALLS)]
    try:
        with kept(model):
            exported = torch.export.export(calls, (given,), strict=False)
    except Exception as error:
        if len(seen) < 2:
            raise
        changed = changes(seen[0].before, seen[-1].before)
        raise _refused(changed, f"a later call fails ({first_line(error)})") from error
    program = functional(exported, {})
    bind_weights(program, calls)
    found = _Computed(program, seen)
    later = [call for call in range(1, _CALLS) if found.results(call) != found.results(0)]
    if not later:
        return
    changed = changes(seen[0].before, seen[later[0]].before)
    read, from_inputs = found.sources(later[0])
    tensors = {path: changed[path] for path in read}
    numbers = {path: p for path, p in changed.items() if not isinstance(p[1], FakeTensor)}
    if from_inputs:
        what = "a later call reads what an earlier one computed from its inputs"
        raise _refused(tensors or changed, what)
    raise _refused({**tensors, **numbers} or changed, "a later call computes something else")


def _refused(changed: Changes, what: str) -> RecordError:
    listed = ", ".join(_shown(path, *pair) for path, pair in sorted(changed.items()))
    return RecordError(f"forward changes {listed}, and {what}; {KEEPS_NOTHING}")


def _shown(path: str, old: Any, new: Any) -> str:
    old, new = _number(old), _number(new)
    if isinstance(new, torch.Tensor):
        return f"the tensor `{path}`"
    if isinstance(old, torch.Tensor):
        return f"the tensor `{path}` (to {new!r})"
    shown = all(isinstance(value, _SHOWN) for value in (old, new))
    return f"`{path}` (from {old!r} to {new!r})" if shown else f"`{path}`"


@dataclass
class _Call:
    """What is known of one call beside the program."""

    before: Attributes
    left: list[str]  # the paths of tensors that calls before it left behind
    structure: str = ""  # of its results
    count: int = 0  # of these


class _Calls(nn.Module):
    """Calls a model several times; before the results of each, the tensors that are left for it.

    Its attributes are read from outside: modules of a module that is being traced are stand-ins.
    """

    def __init__(
        self, model: nn.Module, attributes: Callable[[], Attributes], seen: list[_Call]
    ) -> None:
        super().__init__()
        self.model = model
        self.attributes = attributes
        self.seen = seen

    def forward(self, given: list[tuple[Any, Any]]) -> list[Any]:
        returned: list[Any] = []
        seen = self.seen
        for args, kwargs in given:
            before = self.attributes()
            changed = changes(seen[0].before, before) if seen else {}
            left = {p: new for p, (_, new) in changed.items() if isinstance(new, FakeTensor)}
            seen.append(call := _Call(before, list(left)))
            results, structure = pytree.tree_flatten(self.model(*args, **kwargs))
            call.structure, call.count = str(structure), len(results)
            returned += [*left.values(), *results]
        return returned


class _Computed:
    """What each of several calls in one program computes."""

    def __init__(self, program: ExportedProgram, calls: list[_Call]) -> None:
        self._graph, self._constants = program.graph_module.graph, program.constants
        clean(self._graph)
        signature = program.graph_signature
        self._specs = {spec.arg.name: spec for spec in signature.input_specs}
        placeholders = [node for node in self._graph.nodes if node.op == "placeholder"]
        inputs = [n for n in placeholders if self._specs[n.name].kind is InputKind.USER_INPUT]
        each = len(inputs) // _CALLS
        self._inputs = {node: divmod(i, each) for i, node in enumerate(inputs)}
        (output,) = [node for node in self._graph.nodes if node.op == "output"]
        returned = zip(output.args[0], signature.output_specs, strict=True)
        values = iter([value for value, spec in returned if spec.kind is OutputKind.USER_OUTPUT])
        self._calls = [
            ({path: next(values) for path in call.left}, [next(values) for _ in range(call.count)])
            for call in calls
        ]
        self._structures = [call.structure for call in calls]
        self._numbers: dict[Hashable, int] = {}  # one for all that is computed alike

    def results(self, call: int) -> Hashable:
        """Equal for two calls that compute the same, each from its own inputs."""
        numbers: dict[Node, int] = {}
        for node in self._graph.nodes:
            if replaces(node):
                numbers[node] = numbers[node.args[1]]
                continue
            if node.op == "placeholder":
                key = self._given(node, call)
            elif node.op == "call_function":
                key = str(node.target), _key((_operands(node), node.kwargs), numbers)
            else:
                key = node.op, str(node.target)
            numbers[node] = self._numbers.setdefault(key, len(self._numbers))
        _, results = self._calls[call]
        return self._structures[call], _key(results, numbers)

    def _given(self, node: Node, call: int) -> Hashable:
        spec = self._specs[node.name]
        if node in self._inputs:
            of, place = self._inputs[node]
            return spec.kind, place, None if of == call else of
        if spec.kind is InputKind.CONSTANT_TENSOR:
            return _content(self._constants[str(spec.target)])
        return spec.kind, spec.target

    def sources(self, call: int) -> tuple[list[str], bool]:
        """Of what earlier calls left, the paths that the results of `call` are computed from; and
        whether they are from inputs of these calls."""
        seen: set[Node] = set()
        left, results = self._calls[call]
        open_ = [value for value in results if isinstance(value, Node)]
        while open_:
            node = open_.pop()
            if node not in seen:
                seen.add(node)
                pytree.tree_map_only(Node, open_.append, (_operands(node), node.kwargs))
        paths = [path for path, node in left.items() if node in seen]
        return paths, any(of != call for node, (of, _) in self._inputs.items() if node in seen)


def _operands(node: Node) -> Sequence[Any]:
    """The positional operands; of one of which the values do not matter, what does."""
    if not isinstance(node.target, OpOverload) or node.target.namespace != "aten":
        return node.args
    name = node.target._opname
    if name.endswith("_like") or name.startswith("new_") or name == "copy":
        form = 0
    elif name.endswith("_as"):
        form = 1
    else:
        return node.args
    operands: list[Any] = list(node.args)
    tensor = operands[form].meta["val"]
    if any(not isinstance(size, int) for size in tensor.shape):  # which depends on values
        return node.args
    operands[form] = str((tensor.dtype, tensor.shape, tensor.stride(), tensor.device))
    return operands


def _key(value: Any, numbers: dict[Node, int]) -> Hashable:
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
