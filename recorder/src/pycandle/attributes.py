"""What a model keeps: attributes, parameters and buffers among them, and what is in them."""

from __future__ import annotations

import operator
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_PLAIN = (torch.Tensor, bool, int, float, complex, str, type(None))
_SIZES = (torch.SymInt, torch.SymFloat, torch.SymBool)
_OWN = frozenset(vars(nn.Module())) - {"training"}  # of every module: parameters, hooks, …
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
_DEEPEST = 8


@dataclass(frozen=True)
class Slot:
    """Where a value is kept, when it can be written there, and the value."""

    value: Any
    home: dict[Any, Any] | list[Any] | None = None
    key: Any = None

    def write(self, value: Any) -> None:
        """Keeps `value` there."""
        if self.home is not None:
            self.home[self.key] = value


class Attributes:
    """The attributes of all modules of a model, as they are now.

    Lists, dicts, sets and plain objects in an attribute are read part by part; of those only the
    parts are kept, so what is in them can be put back.
    """

    def __init__(self, model: nn.Module) -> None:
        self.slots: dict[str, Slot] = {}  # tensors, numbers, strings and None, by path
        self._held: list[tuple[Any, Any]] = []  # containers with a copy of what they hold
        self._seen: set[int] = set()
        for name, module in model.named_modules():
            prefix = f"{name}." if name else ""
            self._held.append((module._modules, dict(module._modules)))
            for home in (vars(module), module._parameters, module._buffers):
                self._hold(home, prefix, "", _DEEPEST)

    def put_back(self, value: Callable[[Any], Any] = lambda value: value) -> None:
        """Makes all attributes what they were, those that are tensors or numbers by `value`."""
        for home, held in self._held:
            _refill(home, held, value)

    def value(self, path: str) -> Any:
        """The tensor, number, string or None at `path`; None where nothing is."""
        slot = self.slots.get(path)
        return None if slot is None else slot.value

    def _hold(self, home: Any, path: str, end: str, depth: int) -> None:
        if id(home) in self._seen or not depth:
            return
        self._seen.add(id(home))
        held = dict(home) if isinstance(home, dict) else list(home)
        self._held.append((home, held))
        items = held.items() if isinstance(held, dict) else enumerate(held)
        writable = home if isinstance(home, (dict, list)) else None
        for key, value in items:
            if depth == _DEEPEST and key in _OWN:
                continue
            shown = f"{path}{key!r}{end}" if end else f"{path}{key}"
            self._visit(value, shown, Slot(value, writable, key), depth - 1)

    def _visit(self, value: Any, path: str, slot: Slot, depth: int) -> None:
        if isinstance(value, (*_PLAIN, *_SIZES)):
            self.slots[path] = slot
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                self._visit(item, f"{path}[{i}]", Slot(item), depth)
        elif type(value) in _CONTAINERS:
            self._hold(value, f"{path}[", "]", depth)
        elif _is_plain_object(value):
            self._hold(vars(value), f"{path}.", "", depth)


def storage(tensor: torch.Tensor) -> int:
    """Which memory the elements of a tensor are in; views of one have the same."""
    return tensor.untyped_storage()._cdata


def _is_plain_object(value: Any) -> bool:
    """Whether `value` is of a class of the model's own, which may keep what forward computes."""
    if isinstance(value, (nn.Module, type)):
        return False
    package = type(value).__module__.partition(".")[0]
    foreign = package == "torch" or package in sys.stdlib_module_names
    own = isinstance(value, types.SimpleNamespace) or not foreign
    return own and isinstance(getattr(value, "__dict__", None), dict)


def _refill(home: Any, held: Any, value: Callable[[Any], Any]) -> None:
    if isinstance(held, dict):
        wanted: Any = {key: _rebuilt(item, value) for key, item in held.items()}
        same = list(home) == list(wanted) and all(home[key] is wanted[key] for key in wanted)
    else:
        wanted = [_rebuilt(item, value) for item in held]
        same = len(home) == len(wanted) and all(map(operator.is_, home, wanted))
    if not same:
        home.clear()
        (home.update if isinstance(home, (dict, set)) else home.extend)(wanted)


def _rebuilt(item: Any, value: Callable[[Any], Any]) -> Any:
    if isinstance(item, (*_PLAIN, *_SIZES)):
        return value(item)
    if isinstance(item, tuple):
        made = [_rebuilt(part, value) for part in item]
        if all(new is old for new, old in zip(made, item, strict=True)):
            return item
        return type(item)(*made) if hasattr(item, "_fields") else tuple(made)
    return item


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Afterwards all attributes of `model` are what they were."""
    before = Attributes(model)
    try:
        yield
    finally:
        before.put_back()


@contextmanager
def watched(
    model: nn.Module, returned: Callable[[Attributes, Attributes, Any], Any]
) -> Iterator[None]:
    """Inside, `returned` gets the attributes before and after each call of `model`, and its result.

    What it returns, unless None, is what the call gives.
    """
    starts: list[Attributes] = []
    handles = (
        model.register_forward_pre_hook(lambda *_: starts.append(Attributes(model)), prepend=True),
        model.register_forward_hook(
            lambda _model, _args, result: returned(starts.pop(), Attributes(model), result)
        ),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
