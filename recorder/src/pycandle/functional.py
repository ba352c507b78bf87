"""Makes a traced program functional: nothing in it writes to a tensor, or may do so.

torch traces the program a second time for this, which takes as long as the first. Most programs
come out of it as they were; that is seen from their operators, and spared.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._export.utils import _is_cia_op, _is_preservable_cia_op
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Node

from .attributes import SIZES

aten = torch.ops.aten
_CASTS = (aten.to.dtype, aten.to.device, aten.to.dtype_layout)


def functional(
    program: ExportedProgram, table: Mapping[OpOverload, Callable[..., Any]]
) -> ExportedProgram:
    """What `program.run_decompositions(table)` gives; it may be `program` itself, changed."""
    graph = program.graph
    if table or not all(map(_stays, graph.nodes)):
        return program.run_decompositions(dict(table))
    for node in list(graph.nodes):
        if _sets_gradients(node):
            graph.erase_node(node)
        elif node.target in _CASTS:
            _cast(node)
        elif node.target is aten.reshape.default:
            node.target = aten.view.default
    graph.eliminate_dead_code()
    return program


def _stays(node: Node) -> bool:
    """Whether a second trace would leave this node as it is, or as `functional` makes it."""
    value, target = node.meta.get("val"), node.target
    if isinstance(value, torch.Tensor) and value.is_complex():
        return False
    if node.op != "call_function":
        return node.op in ("placeholder", "output")
    if not isinstance(target, OpOverload):
        return target is operator.getitem or isinstance(value, SIZES) or _sets_gradients(node)
    if target._schema.is_mutable:
        return False
    known = (*_CASTS, aten.contiguous.default, aten.reshape.default)
    return target in known or not _is_cia_op(target) or _is_preservable_cia_op(target)


def _sets_gradients(node: Node) -> bool:
    return node.target is torch._C._set_grad_enabled


def _cast(node: Node) -> None:
    """`to` is a copy in another dtype, or nothing."""
    tensor = node.args[0]
    assert isinstance(tensor, Node) and isinstance(node.target, OpOverload)
    if tensor.meta["val"].dtype == node.meta["val"].dtype:
        node.replace_all_uses_with(tensor)
        return
    names = [argument.name for argument in node.target._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    taken = [argument.name for argument in aten._to_copy.default._schema.arguments[1:]]
    node.args = (tensor,)
    node.kwargs = {name: given[name] for name in taken if given.get(name)}
    node.target = aten._to_copy.default
