"""Takes out of a traced graph what computes nothing: assertions, aliases, empty cats, dead code.

What PyTorch has several names for gets one.

The graph is functional, so a copy is its source. Strides are not part of a manifest: whether torch
needed a copy before a `view` depends on them, and two equal layers may differ in it.
"""

from __future__ import annotations

import torch
from torch.fx import Graph, Node

_ASSERTIONS = (
    "_assert_tensor_metadata",
    "_assert_async",
    "_assert_scalar",
    "sym_constrain_range",
    "sym_constrain_range_for_size",
)
_ALIASES = (
    "alias",
    "alias_copy",
    "clone",
    "contiguous",
    "detach",
    "detach_copy",
    "lift",
    "lift_fresh",
    "lift_fresh_copy",
)
_SYNONYMS = {
    **{"absolute": "abs", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "arctan2": "atan2"},
    **{"clip": "clamp", "concat": "cat", "concatenate": "cat", "divide": "div", "fix": "trunc"},
    **{"ger": "outer", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"},
    **{"multiply": "mul", "negative": "neg", "not_equal": "ne", "subtract": "sub"},
    **{"special_erf": "erf", "special_expit": "sigmoid", "special_expm1": "expm1"},
    **{"special_log1p": "log1p", "special_logsumexp": "logsumexp", "special_softmax": "softmax"},
    **{"swapaxes": "transpose", "swapdims": "transpose"},
}


def clean(graph: Graph) -> None:
    """Changes `graph` in place; what it computes stays the same."""
    for node in list(graph.nodes):
        name = _aten_name(node)
        if name in _ASSERTIONS:
            graph.erase_node(node)
        elif name in _ALIASES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif name == "_unsafe_view":
            node.target = torch.ops.aten.view.default
        elif name in _SYNONYMS:
            _rename(node, getattr(torch.ops.aten, _SYNONYMS[name]))
    for node in list(graph.nodes):
        if _aten_name(node) == "cat":
            _drop_empty_operands(node)
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:
            graph.erase_node(node)


def _rename(node: Node, packet: torch._ops.OpOverloadPacket) -> None:
    """One name for what PyTorch has several of, where both take arguments of the same types."""
    assert isinstance(node.target, torch._ops.OpOverload)
    wanted = _types(node.target)
    others = (getattr(packet, name) for name in packet.overloads())
    node.target = next((op for op in others if _types(op) == wanted), node.target)


def _types(op: torch._ops.OpOverload) -> list[tuple[str, bool]]:
    return [(str(a.type), a.kwarg_only) for a in op._schema.arguments]


def _aten_name(node: Node) -> str | None:
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return None
    namespace, _, name = target._schema.name.partition("::")
    return name if namespace == "aten" else None


def _drop_empty_operands(node: Node) -> None:
    """`cat` skips a tensor that is empty for every size of the symbols."""
    operands = node.args[0]
    assert isinstance(operands, (list, tuple))
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    assert isinstance(given, int)
    result = node.meta["val"]
    kept = [x for x in operands if not _empty(x, given, result)]  # type: ignore[arg-type]
    if not kept or len(kept) == len(operands):
        return
    if any(x.meta["val"].dtype != result.dtype for x in kept):  # type: ignore[union-attr]
        return
    if len(kept) == 1:
        node.replace_all_uses_with(kept[0])  # type: ignore[arg-type]
        node.graph.erase_node(node)
    else:
        node.args = (kept, *node.args[1:])


def _empty(operand: Node, dim: int, result: torch.Tensor) -> bool:
    shape = operand.meta["val"].shape
    if len(shape) != result.dim():
        return len(shape) == 1 and isinstance(shape[0], int) and shape[0] == 0
    return isinstance(shape[dim], int) and shape[dim] == 0


def is_random(node: Node) -> bool:
    """Whether the operator draws random numbers with the arguments that it has here."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    given = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    given |= {a.name: v for a, v in zip(target._schema.arguments, node.args, strict=False)}
    given |= node.kwargs
    trained = [given[name] for name in ("train", "training") if name in given]
    rates = [given[name] for name in ("dropout_p", "dropout") if name in given]
    return False not in trained and not any(rate == 0 for rate in rates)
