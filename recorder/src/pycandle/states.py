"""Finds inputs that come back extended: the state of a recurrent model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from .arguments import identifier, unique
from .schema import Input, Node, Output, State, ValueRef

_KEY = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")


def find_states(
    inputs: tuple[Input, ...], outputs: tuple[Output, ...], nodes: tuple[Node, ...]
) -> tuple[State, ...]:
    """Pairs of an input and the one output that is `cat([input, new], dim)`.

    The input is open along `dim`, which is to say that it can be empty and grow; input and new
    values have one dtype. An input that comes back extended in several outputs is no state.
    """
    by_name = {i.name: i for i in inputs}
    dtypes = {i.name: i.dtype for i in inputs}
    dtypes |= {value.name: value.dtype for node in nodes for value in node.out}
    made = {value.name: node for node in nodes for value in node.out}
    found: list[tuple[Input, Output, int, int]] = []
    for output in outputs:
        if not isinstance(output.value, ValueRef):
            continue
        node = made.get(output.value.name)
        if node is None or node.op != "aten.cat.default":
            continue
        args = dict(node.args)
        if len(args["tensors"]) != 2:
            continue
        first, new = args["tensors"]
        if not isinstance(first, ValueRef) or first.name not in by_name:
            continue
        given = by_name[first.name]
        dim = args.get("dim", 0) % len(given.shape)
        if not isinstance(given.shape[dim], str):
            continue
        if not isinstance(new, ValueRef) or dtypes[new.name] != given.dtype:
            continue
        found.append((given, output, dim, node.call))
    times = Counter(given.name for given, *_ in found)
    found = [state for state in found if times[state[0].name] == 1]
    places = _places([(given.path, str(given.shape[dim]), call) for given, _, dim, call in found])
    return tuple(
        State(name, layer, slot, given.name, output.name, dim)
        for (name, layer, slot), (given, output, dim, _) in zip(places, found, strict=True)
    )


def _places(states: Sequence[tuple[str, str, int]]) -> list[tuple[str, int, str]]:
    """Cache, layer and slot of each state, from its path, the size that grows and its call.

    The states of one argument that grow by one size are a cache. Which part of a path is what
    follows from who appends: what one call tells apart is a slot of it (the two of
    `past[3][0]` and `past[3][1]`, or `past.key[3]` and `past.value[3]`), an index that only other
    calls differ in is a layer, and a name before the layer is one of several caches.
    """
    keys = [tuple(index or name for index, name in _KEY.findall(path)) for path, *_ in states]
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, (_, size, _) in enumerate(states):
        kinds = "".join("#" if key.isdigit() else "." for key in keys[i])
        groups[keys[i][0], size, kinds].append(i)
    caches: dict[tuple[str, ...], dict[int, tuple[tuple[int, ...], str]]] = defaultdict(dict)
    for (_, size, kinds), members in groups.items():
        told_apart = _told_apart([(keys[i], states[i][2]) for i in members])
        indices = [p for p, kind in enumerate(kinds) if kind == "#"]
        layers = [p for p in indices if p not in told_apart]
        if len(told_apart) == len(kinds) - 1 > 1:
            layers = indices[:1]  # one call appends to all of them
        before = range(1, layers[0] if layers else len(kinds))
        names = [0] + [p for p in before if p not in told_apart and p not in indices]
        slots = [p for p in range(len(kinds)) if p not in layers + names]
        for i in members:
            name = identifier("_".join(keys[i][p] for p in names))
            slot = re.sub(r"\W", "_", "_".join(keys[i][p] for p in slots)) or "value"
            caches[name, size, kinds][i] = tuple(int(keys[i][p]) for p in layers), slot
    return _numbered(caches, len(states))


def _told_apart(states: Sequence[tuple[tuple[str, ...], int]]) -> set[int]:
    """The positions in which paths differ that one call appends to."""
    by_call: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for keys, call in states:
        by_call[call].append(keys)
    return {
        p
        for paths in by_call.values()
        for p in range(len(paths[0]))
        if len({path[p] for path in paths}) > 1
    }


def _numbered(
    caches: dict[tuple[str, ...], dict[int, tuple[tuple[int, ...], str]]], count: int
) -> list[tuple[str, int, str]]:
    """Caches with names of their own, and one number per layer."""
    times = Counter(name for name, *_ in caches)
    taken = {name for name in times if times[name] == 1}
    places = [("", 0, "")] * count
    for (name, size, _), members in caches.items():
        if times[name] > 1:
            name = unique(identifier(f"{name}_{size}"), taken)
        order = sorted({layer for layer, _ in members.values()})
        for i, (layer, slot) in members.items():
            places[i] = (name, order.index(layer), slot)
    return places
