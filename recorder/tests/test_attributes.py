"""Whatever a model keeps is what it was after its attributes were put back."""

from __future__ import annotations

from array import array
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from pycandle.attributes import Attributes, kept

CONTAINERS: tuple[Any, ...] = (OrderedDict, dict, list, set, deque, array, bytearray)


class Hiding(dict):
    """Shows some of its keys, and other values than it holds."""

    def __iter__(self):
        return iter([key for key in dict.__iter__(self) if not key.startswith("_")])

    def keys(self):
        return list(self)

    def __getitem__(self, key):
        return f"shown {dict.__getitem__(self, key)}"


class Strict(OrderedDict):
    def __setitem__(self, key, value):
        raise TypeError("it is closed")


class Other(list):
    def __iter__(self):
        return iter(["something else"])


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    b: Any = None


class Slots:
    __slots__ = ("a", "b")

    def __getattr__(self, name):
        return object()


class Closed:
    @property
    def __dict__(self):
        raise RuntimeError("not now")


class Key:
    def __repr__(self):
        return "key"


def held(value: Any) -> Any:
    """What is in a container, whatever its class shows."""
    base = next((k for k in CONTAINERS if isinstance(value, k)), None)
    if base is None:
        return value
    items = list(base.__iter__(value))
    return [(k, dict.__getitem__(value, k)) for k in items] if issubclass(base, dict) else items


def hiding() -> Hiding:
    made = Hiding()
    dict.update(made, {"_private": 1, "open": 2})
    return made


def strict() -> Strict:
    made = Strict()
    OrderedDict.__setitem__(made, "a", 1)
    OrderedDict.__setitem__(made, "b", 2)
    return made


CHANGED = {
    "hiding": (hiding, lambda d: dict.__setitem__(d, "new", 3)),
    "strict": (strict, lambda d: d.move_to_end("a")),
    "other": (lambda: Other([1, 2]), lambda v: list.append(v, 3)),
    "default": (lambda: defaultdict(list, a=[1]), lambda d: d["b"].append(2)),
    "bounded": (lambda: deque([1, 2], maxlen=2), lambda d: d.append(3)),
    "set": (lambda: {1, 2}, lambda s: s.add(3)),
    "array": (lambda: array("d", [0, 1]), lambda a: a.append(2)),
    "bytes": (lambda: bytearray(b"ab"), lambda b: b.extend(b"cd")),
    "keys": (lambda: {Key(): 1, Key(): 2}, lambda d: d.popitem()),
}


@pytest.mark.parametrize("name", CHANGED)
def test_containers_hold_again_what_they_held(name):
    make, change = CHANGED[name]
    model = nn.Module()
    model.kept = make()
    before, value = held(model.kept), model.kept
    with kept(model):
        assert held(value) == before
        change(value)
        assert held(value) != before
    assert model.kept is value and held(value) == before


def test_slots_and_frozen_objects_hold_again_what_they_held():
    model = nn.Module()
    model.frozen, model.slots, model.closed = Frozen(torch.ones(1)), Slots(), Closed()
    model.slots.a = 1
    one = model.frozen.a
    with kept(model):
        object.__setattr__(model.frozen, "a", 2)
        model.slots.a, model.slots.b = 2, 3
    assert model.frozen == Frozen(one) and model.frozen.a is one
    assert model.slots.a == 1 and not isinstance(model.slots.b, int)


def test_arrays_modules_and_buffers_are_what_they_were():
    model = nn.Module()
    model.counts, model.stray, model.inner = np.arange(4.0), [nn.Linear(2, 2)], nn.ReLU()
    weight, inner = model.stray[0].weight, model.inner
    with kept(model):
        model.counts[1] = 7
        model.stray[0].weight = nn.Parameter(torch.zeros(1))
        model.inner = nn.Tanh()
        model.register_buffer("made", torch.ones(2), persistent=False)
    assert model.counts.tolist() == [0, 1, 2, 3] and model.stray[0].weight is weight
    assert model.inner is inner and not hasattr(model, "made")
    assert model._non_persistent_buffers_set == set()


class Pair(NamedTuple("Pair", [("a", Any), ("b", Any)])):
    def __new__(cls, only):
        return super().__new__(cls, only, 1)


class Marked(tuple):
    pass


def test_tuples_of_any_class_are_made_again():
    one, two = torch.ones(1), torch.zeros(1)
    model = nn.Module()
    model.pair, model.most, model.marked = Pair(one), torch.max(one, 0), Marked([one])
    model.marked.note = 3
    whole = model.most
    with kept(model, lambda value: two if isinstance(value, torch.Tensor) else value):
        assert model.pair.a is two and model.pair.b == 1
        assert type(model.most) is type(whole) and model.most.values is two
        assert model.marked[0] is two and model.marked.note == 3
        model.marked.note = 4
    assert model.pair.a is one and model.most is whole and model.marked[0] is one


def test_arrays_in_any_order_are_what_they_were():
    model = nn.Module()
    model.turned, model.sparse = np.ones((2, 3)).T, np.arange(6)[::2]
    before = Attributes(model).values
    with kept(model):
        model.turned[0, 1] = 7
        model.sparse += 1
        after = Attributes(model).values
        assert all(after[name] != before[name] for name in ("turned", "sparse"))
    assert (model.turned == 1).all() and model.sparse.tolist() == [0, 2, 4]


def test_every_part_is_seen_by_its_path():
    model = nn.Module()
    model.add_module("inner", nn.Module())
    model.inner.kept = {"a": [1, (2.0, torch.ones(1))], (0, 1): 3, Key(): 4}
    model.frozen = Frozen(5)
    values = Attributes(model).values
    paths = ["['a'][0]", "['a'][1][0]", "[tuple 1]", "[Key 2]"]
    assert [values[f"inner.kept{path}"] for path in paths] == [1, 2.0, 3, 4]
    assert values["frozen.a"] == 5 and values["inner"] is model.inner
