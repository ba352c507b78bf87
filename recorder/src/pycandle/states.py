"""Finds inputs that come back extended: the state of a recurrent model."""

from __future__ import annotations

import re
from collections import Counter

from .schema import Input, Node, Output, State, ValueRef

_CACHE = re.compile(r"^(?P<name>\w+)\[(?P<layer>\d+)\]\.(?P<slot>\w+)$")


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
    found = []
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
        found.append((given, output, dim))
    times = Counter(given.name for given, _, _ in found)
    found = [pair for pair in found if times[pair[0].name] == 1]
    names = [_place(given, i) for i, (given, _, _) in enumerate(found)]
    return tuple(
        State(name, layer, slot, given.name, output.name, dim)
        for (name, layer, slot), (given, output, dim) in zip(names, found, strict=True)
    )


def _place(given: Input, index: int) -> tuple[str, int, str]:
    """Cache, layer and slot of an input: from its path, or a cache of its own."""
    match = _CACHE.match(given.path)
    if match:
        return match["name"], int(match["layer"]), match["slot"]
    return given.name, 0, "value"
