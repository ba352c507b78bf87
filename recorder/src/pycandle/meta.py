"""Building a model without its weights: parameters on meta, everything else as usual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .errors import RecordError


@contextmanager
def meta_device() -> Iterator[None]:
    """Inside, modules are built with their parameters on meta; buffers keep their values.

    A parameter moves to meta the moment it is registered, before the module's initialisation
    writes to it, so memory that `torch.empty` reserved for it is never touched.
    Outside `nn.Module` nothing changes, so values computed during construction are real.
    """
    original = nn.Module.register_parameter
    moved: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def register_parameter(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(self, name, param)
        registered = self._parameters.get(name)
        if registered is None or registered.device.type == "meta":
            return
        if id(registered) not in moved:
            moved[id(registered)] = (registered, _to_meta(registered))
        self._parameters[name] = moved[id(registered)][1]

    nn.Module.register_parameter = register_parameter  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def _to_meta(param: nn.Parameter) -> nn.Parameter:
    """`param` itself, now on meta, where torch can swap it; otherwise a twin on meta.

    Swapping keeps the identity, so code that holds on to the parameter to tie it still does, and
    it frees the memory.
    """
    twin = type(param)(param.detach().to("meta"), requires_grad=param.requires_grad)
    for key, value in vars(param).items():
        setattr(twin, key, value)
    try:
        torch.utils.swap_tensors(param, twin)
    except RuntimeError:
        return twin
    return param


def has_meta_parameters(model: nn.Module) -> bool:
    """Whether any parameter of `model` lives on meta."""
    return any(p.device.type == "meta" for p in model.parameters())


def non_persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that no checkpoint holds, by dotted name."""
    found = {}
    for prefix, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            buffer = module._buffers.get(name)
            if buffer is not None:
                found[f"{prefix}.{name}" if prefix else name] = buffer
    return found


def check_buffers(model: nn.Module) -> None:
    """Raises RecordError when a buffer that no checkpoint holds has lost its value on meta."""
    lost = [n for n, b in non_persistent_buffers(model).items() if b.device.type == "meta"]
    if lost:
        names = ", ".join(f"`{n}`" for n in lost)
        raise RecordError(
            f"no checkpoint holds the non-persistent buffer {names}, and its value was lost on "
            "meta; build the model inside `with pycandle.meta_device():` instead of "
            '`with torch.device("meta"):`, or assign the buffer after construction'
        )


@contextmanager
def buffers_on_meta(model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Inside, every buffer is on meta, as the parameters are; yields the real values by name.

    Operators refuse tensors of two devices, and a trace needs no values.
    """
    homes: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    values: dict[str, torch.Tensor] = {}
    twins: dict[int, torch.Tensor] = {}
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is None:
                continue
            values[f"{prefix}.{name}" if prefix else name] = buffer
            if buffer.device.type != "meta":
                homes.append((module._buffers, name, buffer))
                twins.setdefault(id(buffer), buffer.to("meta"))
    try:
        for home, name, buffer in homes:
            home[name] = twins[id(buffer)]
        yield values
    finally:
        for home, name, buffer in homes:
            home[name] = buffer
