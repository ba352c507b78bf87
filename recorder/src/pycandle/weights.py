"""Weights that a model keeps twice, where torch takes one of them for a constant."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from .attributes import identity, storage
from .errors import RecordError


def bind_weights(program: ExportedProgram, model: nn.Module) -> None:
    """Makes what is a parameter or persistent buffer of `model` that one, wherever it is kept.

    In an attribute, as in a list, or as a buffer that is not persistent, it would keep the values
    that it has now, whatever checkpoint is loaded later. Raises RecordError where it is a view of
    one, which would have to be computed from it.
    """
    state = model.state_dict(keep_vars=True)
    held = {name: t for name, t in state.items() if isinstance(t, torch.Tensor)}
    names = {identity(tensor): name for name, tensor in reversed(held.items())}
    views = {storage(t): name for name, t in reversed(held.items()) if _is_strided(t)}
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    faults = []
    for spec in program.graph_signature.input_specs:
        is_value = spec.kind is InputKind.BUFFER and not spec.persistent
        if spec.kind is not InputKind.CONSTANT_TENSOR and not is_value:
            continue
        tensor = program.constants[str(spec.target)]
        if not isinstance(tensor, torch.Tensor):
            continue
        if (name := names.get(identity(tensor))) is not None:
            is_parameter = isinstance(held[name], nn.Parameter)
            spec.kind = InputKind.PARAMETER if is_parameter else InputKind.BUFFER
            spec.target, spec.persistent = name, None if is_parameter else True
        elif spec.arg.name in used and _is_strided(tensor) and storage(tensor) in views:
            faults.append(f"`{views[storage(tensor)]}`")
    if faults:
        raise RecordError(
            f"an attribute or buffer keeps a view of {', '.join(dict.fromkeys(faults))}, which "
            "other weights would not change: make the view in forward"
        )


def _is_strided(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided
