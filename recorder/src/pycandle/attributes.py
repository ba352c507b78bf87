"""What a model keeps: attributes, parameters and buffers among them, and what is in them."""

from __future__ import annotations

import operator
import re
import sys
import types
from array import array
from collections import ChainMap, OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as all_modules

SIZES = (torch.SymInt, torch.SymFloat, torch.SymBool)
_PLAIN = (torch.Tensor, bool, int, float, complex, str, type(None), *SIZES)
_OWN = frozenset(vars(nn.Module())) - {"training"}  # of every module: parameters, hooks, …
_HOOKS = sorted(name for name in _OWN if "_hooks" in name)
_HOOKS_OF_ALL = sorted(name for name in vars(all_modules) if re.match("_global.*_hooks", name))
_CONTAINERS: tuple[Any, ...] = (OrderedDict, dict, list, set, deque, bytearray, array)
_FIXED = (tuple, frozenset)  # they hold what they held, in which something may change
_HOLDERS = (types.SimpleNamespace, UserDict, UserList, ChainMap)  # objects of Python's own
_DEEPEST = 8
_LARGEST = 1 << 24  # bytes of an array that are looked at


class Order(tuple[int, ...]):
    """In which order keys or hooks are kept, by what objects they are."""


class Attributes:
    """The attributes of all modules of a model, and their hooks, as they are now.

    Lists, dicts, sets and plain objects in an attribute are read part by part, eight deep; of those
    only the parts are kept, so what is in them can be put back.
    """

    def __init__(self, model: nn.Module) -> None:
        # What is kept, by path: by value what has one, and everything by what object it is.
        self.values: dict[str, Any] = {}
        self._held: list[tuple[Any, Any]] = []  # what holds parts, with a copy of them
        self._seen: set[int] = set()
        self._module(model, "", _DEEPEST)
        self._hooks(vars(all_modules), _HOOKS_OF_ALL, "torch.nn.modules.module.")

    def put_back(self, value: Callable[[Any], Any] = lambda value: value) -> None:
        """Makes all attributes what they were, those that are tensors or numbers by `value`."""
        for home, held in self._held:
            _refill(home, held, value)

    def _module(self, model: nn.Module, path: str, depth: int) -> None:
        modules = [pair for pair in model.named_modules() if id(pair[1]) not in self._seen]
        self._seen.update(id(module) for _, module in modules)
        for name, module in modules:
            prefix = f"{path}{name}." if name else path
            self.values |= {f"{prefix}{key}": child for key, child in module._modules.items()}
            self.values[f"{prefix}modules (order)"] = Order(map(id, module._modules))
            self._hooks(vars(module), _HOOKS, prefix)
            own = module._non_persistent_buffers_set
            self._held += [(module._modules, dict(module._modules)), (own, list(own))]
            for home in (vars(module), module._parameters, module._buffers):
                self._held.append((home, dict(home)))
                for key, part in home.items():
                    if key not in _OWN:
                        self._visit(part, f"{prefix}{key}", depth - 1)

    def _hooks(self, home: dict[str, Any], names: list[str], prefix: str) -> None:
        for name in names:
            hooks = home[name]
            self._held.append((hooks, dict(hooks)))
            if hooks:
                self.values[f"{prefix}{name}"] = Order(map(id, hooks.values()))

    def _visit(self, value: Any, path: str, depth: int) -> None:
        # One tuple is as good as another of the same parts.
        self.values[path] = len(value) if isinstance(value, tuple) else value
        if isinstance(value, _PLAIN) or not depth:
            return
        if isinstance(value, _FIXED):
            for i, item in enumerate(value):
                self._visit(item, f"{path}[{i}]", depth - 1)
        if id(value) in self._seen:
            return
        if isinstance(value, nn.Module):
            self._module(value, f"{path}.", depth)
            return
        self._seen.add(id(value))
        if isinstance(value, np.ndarray) and value.nbytes <= _LARGEST:
            self.values[path] = value.tobytes()
            self._held.append((value, value.copy()))
        for home, held, start, end in _homes(value):
            self._held.append((home, held))
            if end and held and isinstance(held, dict):
                self.values[f"{path} (order)"] = Order(map(id, held))
            items = held.items() if isinstance(held, dict) else enumerate(held)
            for i, (key, part) in enumerate(items):
                self._visit(part, f"{path}{start}{_shown(key, i, end)}{end}", depth - 1)


def storage(tensor: torch.Tensor) -> int:
    """Which memory the elements of a tensor are in; views of one have the same.

    On meta, too, where all addresses are 0.
    """
    return tensor.untyped_storage()._cdata


def identity(tensor: torch.Tensor) -> Hashable:
    """Equal for two tensors when every element of one is the same element of the other."""
    try:
        place = storage(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()
    except RuntimeError:  # it is sparse or nested, or made of other tensors
        return id(tensor)
    return *place, tensor.dtype


def _homes(value: Any) -> Iterator[tuple[Any, Any, str, str]]:
    """What holds the parts of `value`, a copy of them, and what stands around the name of one.

    Read by the methods of Python's classes: those of a class of the user's may show something else.
    """
    base = _base(value)
    if base is not None:
        keys = list(base.__iter__(value))
        is_dict = isinstance(value, dict)
        yield value, {k: dict.__getitem__(value, k) for k in keys} if is_dict else keys, "[", "]"
    if isinstance(value, type) or not _is_own(type(value)):
        return
    if isinstance(attributes := _attributes(value), dict):
        yield attributes, dict(attributes), ".", ""
    if base is None and _slots(type(value)):
        yield value, _filled_slots(value), ".", ""


def _base(value: Any) -> Any:
    return next((kind for kind in _CONTAINERS if issubclass(type(value), kind)), None)


def _is_own(kind: type) -> bool:
    """Whether a class may be of the model's own, and keep what forward computes."""
    package = str(kind.__module__).partition(".")[0]
    foreign = package == "torch" or package in sys.stdlib_module_names
    return issubclass(kind, _HOLDERS) or not foreign


def _attributes(value: Any) -> Any:
    try:
        return value.__dict__
    except Exception:  # whatever a property of that name raises
        return None


def _slots(kind: type) -> dict[str, types.MemberDescriptorType]:
    return {
        name: member
        for parent in reversed(kind.__mro__)
        for name, member in vars(parent).items()
        if isinstance(member, types.MemberDescriptorType)
    }


def _filled_slots(value: Any) -> dict[str, Any]:
    found = {}
    for name, slot in _slots(type(value)).items():
        try:
            found[name] = slot.__get__(value)
        except AttributeError:  # nothing is in it
            continue
    return found


def _shown(key: Any, place: int, end: str) -> str:
    """A key as it is written, where all that say the same are the same."""
    if not end:
        return str(key)
    return repr(key) if type(key) in (bool, int, float, str) else f"{type(key).__name__} {place}"


def _refill(home: Any, held: Any, value: Callable[[Any], Any]) -> None:
    base = _base(home)
    if isinstance(held, np.ndarray):
        if home.tobytes() != held.tobytes() and home.shape == held.shape:
            np.copyto(home, held)
        return
    wanted: Any = (
        {key: _rebuilt(item, value) for key, item in held.items()}
        if isinstance(held, dict)
        else [_rebuilt(item, value) for item in held]
    )
    if base is None:
        _refill_slots(home, wanted)
        return
    now = list(base.__iter__(home))
    if isinstance(home, dict):
        are = [dict.__getitem__(home, key) for key in now]
        if _are_same(now, list(wanted)) and _are_same(are, list(wanted.values())):
            return
        base.clear(home)
        for key, item in wanted.items():
            base.__setitem__(home, key, item)
    elif not _are_same(now, wanted):
        if base in (set, deque):
            base.clear(home)
        else:
            base.__delitem__(home, slice(None))
        (base.update if base is set else base.extend)(home, wanted)


def _refill_slots(home: Any, wanted: dict[str, Any]) -> None:
    now = _filled_slots(home)
    for name, slot in _slots(type(home)).items():
        if name in wanted and (name not in now or now[name] is not wanted[name]):
            slot.__set__(home, wanted[name])
        elif name in now and name not in wanted:
            slot.__delete__(home)


def _are_same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _rebuilt(item: Any, value: Callable[[Any], Any]) -> Any:
    if isinstance(item, _PLAIN):
        return value(item)
    if isinstance(item, tuple):
        made = [_rebuilt(part, value) for part in item]
        if _are_same(made, list(item)):
            return item
        return _like(item, made)
    return item


def _like(item: tuple[Any, ...], made: list[Any]) -> tuple[Any, ...]:
    """A tuple of the class of `item`, whatever that asks of who makes one."""
    kind = type(item)
    try:
        new = tuple.__new__(kind, made)
    except TypeError:  # a class of C, as those that operators return
        return kind(made)
    if isinstance(attributes := _attributes(item), dict):
        vars(new).update(attributes)
    return new


@contextmanager
def kept(model: nn.Module, inside: Callable[[Any], Any] = lambda value: value) -> Iterator[None]:
    """Afterwards all attributes and hooks of `model` are what they were.

    Inside, those that are tensors or numbers are what `inside` makes of them.
    """
    before = Attributes(model)
    try:
        before.put_back(inside)
        yield
    finally:
        before.put_back()
