"""Finds inputs that come back extended: the state of a recurrent model."""

from __future__ import annotations

import re

from .schema import Input, Node, Output, State, ValueRef

_CACHE = re.compile(r"^(?P<name>\w+)\[(?P<layer>\d+)\]\.(?P<slot>\w+)$")


def find_states(
    inputs: tuple[Input, ...], outputs: tuple[Output, ...], nodes: tuple[Node, ...]
) -> tuple[State, ...]:
    """Pairs of an input and an output that is `cat([input, new], dim)`."""
    by_name = {i.name: i for i in inputs}
    made = {value.name: node for node in nodes for value in node.out}
    found = []
    for output in outputs:
        if not isinstance(output.value, ValueRef):
            continue
        node = made.get(output.value.name)
        if node is None or node.op != "aten.cat.default":
            continue
        args = dict(node.args)
        first = args["tensors"][0]
        if not isinstance(first, ValueRef) or first.name not in by_name:
            continue
        given = by_name[first.name]
        if len(args["tensors"]) != 2:
            continue
        dim = args.get("dim", 0) % len(given.shape)
        found.append((given, output, dim))
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
