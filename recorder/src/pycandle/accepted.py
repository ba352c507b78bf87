"""What kinds of models can be recorded, said before anything is traced."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .errors import RecordError, shown
from .failures import place

_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def check_model(model: object) -> None:
    """Raises RecordError for what is no model, or one of a kind that cannot be traced."""
    if not isinstance(model, nn.Module):
        raise RecordError(
            f"the model is of type {type(model).__name__}: give a `torch.nn.Module`, built"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise RecordError(
            "the model is TorchScript, compiled by `torch.jit`, and cannot be traced again: "
            "record the `torch.nn.Module` that it was made from"
        )
    _refuse(
        model,
        lambda module: isinstance(module, _PARALLEL),
        "spreads its module over devices, which a recorded model does not: record what it wraps, "
        "its `.module`",
    )
    _refuse(
        model,
        lambda module: type(module).__module__.startswith(_QUANTIZED),
        "keeps quantized weights in a form of PyTorch's own: record the model as it was before "
        "`torch.ao.quantization`",
    )
    held = [*model.named_parameters(), *model.named_buffers()]
    lazy = [name for name, tensor in held if is_lazy(tensor)]
    if lazy:
        raise RecordError(
            f"{shown(lazy)} have no shape before the model ran: call it once on real inputs, "
            "`model(...)`, and record it then"
        )
    sparse = [name for name, tensor in held if tensor.layout is not torch.strided]
    if sparse:
        raise RecordError(
            f"{shown(sparse)} are not kept as dense tensors, which is the one form that a "
            "checkpoint has: make them so with `to_dense()`"
        )


def _refuse(model: nn.Module, refused: Callable[[nn.Module], bool], why: str) -> None:
    for name, module in model.named_modules():
        if refused(module):
            raise RecordError(f"{place(name, None)} is a {type(module).__name__} and {why}")
