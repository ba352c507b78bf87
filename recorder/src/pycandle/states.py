"""Finds inputs that come back extended: the state of a recurrent model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from .arguments import identifier, unique
from .errors import RecordError
from .schema import Input, Node, Output, State, ValueRef

_KEY = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")


Wanted = bool | Sequence[str]


def find_states(
    inputs: tuple[Input, ...],
    outputs: tuple[Output, ...],
    nodes: tuple[Node, ...],
    is_within: Callable[[int, int], bool],
    wanted: Wanted = True,
) -> tuple[State, ...]:
    """Pairs of an input and the one output that is `cat([input, new], dim)`.

    The input is open along `dim`, which is to say that it can be empty and grow; input and new
    values have one dtype, and nothing else reads the input. The call that appends, or one within
    it, also reads what comes of it, as attention does, and at least two of them grow by one size,
    as keys and values do: what is joined otherwise is an ordinary input and output.

    `wanted` is whether to look for states, or the arguments that are states, and those alone, of
    which neither of the two is asked. Raises RecordError when one of them is no state. `is_within`
    tells whether a call is another or one that this made.
    """
    listed = None if isinstance(wanted, bool) else _listed(wanted, inputs)
    read: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        for name in _operands(node.args):
            read[name].append(node)
    dtypes = {i.name: i.dtype for i in inputs}
    dtypes |= {value.name: value.dtype for node in nodes for value in node.out}
    made = {value.name: node for node in nodes for value in node.out}
    by_name = {i.name: i for i in inputs}
    returned = [o.value.name for o in outputs if isinstance(o.value, ValueRef)]
    found: list[tuple[Input, Output, int, Node]] = []
    for output in outputs if wanted else ():
        maker = made.get(output.value.name) if isinstance(output.value, ValueRef) else None
        if maker is None or maker.op != "aten.cat.default" or len(_operands(maker.args)) != 2:
            continue
        first, new = _operands(maker.args)
        if first not in by_name or dtypes[new] != dtypes[first]:
            continue
        given = by_name[first]
        dim = dict(maker.args).get("dim", 0) % len(given.shape)
        once = len(read[first]) == 1 and returned.count(output.value.name) == 1
        if once and first not in returned and isinstance(given.shape[dim], str):
            found.append((given, output, dim, maker))
    if listed is None:
        found = [
            state
            for state in found
            if any(is_within(n.call, state[3].call) for n in read[state[1].value.name])
        ]
        grown = Counter(str(given.shape[dim]) for given, _, dim, _ in found)
        found = [state for state in found if grown[str(state[0].shape[state[2]])] > 1]
    else:
        _check_found(listed, {given.name for given, *_ in found})
        found = [state for state in found if state[0].name in listed]
    places = _places([(i.path, str(i.shape[dim]), node.call) for i, _, dim, node in found])
    return tuple(
        State(name, layer, slot, given.name, output.name, dim)
        for (name, layer, slot), (given, output, dim, _) in zip(places, found, strict=True)
    )


def _operands(args: Any) -> list[str]:
    """The values among the arguments of a node, as often as they are there."""
    found = []
    for value in args:
        if isinstance(value, ValueRef):
            found.append(value.name)
        elif isinstance(value, tuple):
            found += _operands(value)
    return found


def _listed(wanted: Sequence[str], inputs: tuple[Input, ...]) -> set[str]:
    """The inputs of the arguments of these names."""
    arguments: dict[str, set[str]] = defaultdict(set)
    for given in inputs:
        match = _KEY.match(given.path)
        arguments[match.group() if match else given.path].add(given.name)
    known = ", ".join(f"`{name}`" for name in arguments)
    if isinstance(wanted, str):
        raise RecordError(f"states is {wanted!r}: give a list of names; the arguments are {known}")
    unknown = ", ".join(f"`{name}`" for name in wanted if name not in arguments)
    if unknown:
        raise RecordError(f"states names {unknown}, the arguments with tensors are {known}")
    return {name for argument in wanted for name in arguments[argument]}


def _check_found(listed: set[str], found: set[str]) -> None:
    missing = ", ".join(f"`{name}`" for name in sorted(listed - found))
    if missing:
        raise RecordError(
            f"states: {missing} cannot be kept as state: it has to come back, once, as "
            "`torch.cat([it, new], dim)` of one dtype, with the size along `dim` open in "
            "dynamic_shapes, and nothing else may read it"
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
