"""What a model keeps: attributes, parameters and buffers among them, and what is in them."""

from __future__ import annotations

import copyreg
import operator
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

SIZES = (torch.SymInt, torch.SymFloat, torch.SymBool)
_PLAIN = (torch.Tensor, bool, int, float, complex, str, type(None), *SIZES)
_OWN = frozenset(vars(nn.Module())) - {"training"}  # of every module: parameters, hooks, …
_CONTAINERS = (OrderedDict, dict, list, set, deque)
_DEEPEST = 8


class Attributes:
    """The attributes of all modules of a model, as they are now.

    Lists, dicts, sets and plain objects in an attribute are read part by part, eight deep; of those
    only the parts are kept, so what is in them can be put back.
    """

    def __init__(self, model: nn.Module) -> None:
        self.values: dict[str, Any] = {}  # tensors, numbers, whatever has no parts, by path
        self._held: list[tuple[Any, Any]] = []  # what holds parts, with a copy of them
        self._seen: set[int] = set()
        for name, module in model.named_modules():
            prefix = f"{name}." if name else ""
            self._held.append((module._modules, dict(module._modules)))
            for home in (vars(module), module._parameters, module._buffers):
                self._hold(home, dict(home), prefix, "", _DEEPEST)

    def put_back(self, value: Callable[[Any], Any] = lambda value: value) -> None:
        """Makes all attributes what they were, those that are tensors or numbers by `value`."""
        for home, held in self._held:
            _refill(home, held, value)

    def _hold(self, home: Any, held: Any, path: str, end: str, depth: int) -> None:
        self._held.append((home, held))
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            if depth < _DEEPEST or key not in _OWN:
                self._visit(value, f"{path}{key!r}{end}" if end else f"{path}{key}", depth - 1)

    def _visit(self, value: Any, path: str, depth: int) -> None:
        if isinstance(value, tuple):
            for i, item in enumerate(value):
                self._visit(item, f"{path}[{i}]", depth)
            return
        homes = [] if isinstance(value, _PLAIN) else list(_homes(value))
        if not homes:
            self.values[path] = value
        elif depth and id(value) not in self._seen:
            self._seen.add(id(value))
            for home, held, start, end in homes:
                self._hold(home, held, f"{path}{start}", end, depth)


def storage(tensor: torch.Tensor) -> int:
    """Which memory the elements of a tensor are in; views of one have the same.

    On meta, too, where all addresses are 0.
    """
    return tensor.untyped_storage()._cdata


def identity(tensor: torch.Tensor) -> Hashable:
    """Equal for two tensors when every element of one is the same element of the other."""
    if tensor.layout is not torch.strided:
        return id(tensor)
    return storage(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _homes(value: Any) -> Iterator[tuple[Any, Any, str, str]]:
    """What holds the parts of `value`, a copy of them, and what stands around the name of one."""
    is_container = isinstance(value, _CONTAINERS)
    if is_container:
        yield value, dict(value) if isinstance(value, dict) else list(value), "[", "]"
    if isinstance(value, (nn.Module, type)) or not _is_own(type(value)):
        return
    if isinstance(attributes := getattr(value, "__dict__", None), dict):
        yield attributes, dict(attributes), ".", ""
    if copyreg._slotnames(type(value)) and not is_container:  # type: ignore[attr-defined]
        yield value, _slots(value), ".", ""


def _is_own(kind: type) -> bool:
    """Whether a class may be of the model's own, and keep what forward computes."""
    package = kind.__module__.partition(".")[0]
    foreign = package == "torch" or package in sys.stdlib_module_names
    return issubclass(kind, types.SimpleNamespace) or not foreign


def _slots(value: Any) -> dict[str, Any]:
    names = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _refill(home: Any, held: Any, value: Callable[[Any], Any]) -> None:
    base = next((kind for kind in _CONTAINERS if isinstance(home, kind)), None)
    if isinstance(held, dict):
        now: Any = _slots(home) if base is None else home
        wanted: Any = {key: _rebuilt(item, value) for key, item in held.items()}
        same = list(now) == list(wanted) and all(now[key] is wanted[key] for key in wanted)
    else:
        wanted = [_rebuilt(item, value) for item in held]
        same = len(home) == len(wanted) and all(map(operator.is_, home, wanted))
    if same:
        return
    if base is None:
        for name in now.keys() - wanted.keys():
            object.__delattr__(home, name)
        for name, item in wanted.items():
            object.__setattr__(home, name, item)
    else:  # not by the methods of a class of the user's
        base.clear(home)
        put: Any = getattr(base, "update", None) or base.extend  # type: ignore[union-attr]
        put(home, wanted)


def _rebuilt(item: Any, value: Callable[[Any], Any]) -> Any:
    if isinstance(item, _PLAIN):
        return value(item)
    if isinstance(item, tuple):
        made = [_rebuilt(part, value) for part in item]
        if all(new is old for new, old in zip(made, item, strict=True)):
            return item
        return type(item)(*made) if hasattr(item, "_fields") else tuple(made)
    return item


@contextmanager
def kept(
    model: nn.Module, inside: Callable[[Any], Any] = lambda value: value
) -> Iterator[Attributes]:
    """Afterwards all attributes of `model` are what they were, which it yields.

    Inside, those that are tensors or numbers are what `inside` makes of them.
    """
    before = Attributes(model)
    try:
        before.put_back(inside)
        yield before
    finally:
        before.put_back()
