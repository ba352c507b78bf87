"""Building a model without its weights: parameters on meta, everything else as usual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from .errors import RecordError

_T = TypeVar("_T")


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


def has_values(model: nn.Module, inputs: Any) -> bool:
    """Whether no parameter or buffer of `model` and no tensor in `inputs` is on meta."""
    held = [*model.parameters(), *model.buffers(), *pytree.tree_leaves(inputs)]
    return not any(isinstance(t, torch.Tensor) and t.device.type == "meta" for t in held)


def non_persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that no checkpoint holds, by dotted name."""
    found = {}
    for prefix, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            buffer = module._buffers.get(name)
            if buffer is not None:
                found[f"{prefix}.{name}" if prefix else name] = buffer
    return found


def check_values(model: nn.Module) -> None:
    """Raises RecordError when a tensor that no checkpoint holds has lost its value on meta."""
    lost = [n for n, b in non_persistent_buffers(model).items() if b.device.type == "meta"]
    _refuse_lost("non-persistent buffer", lost)
    plain = []
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.device.type == "meta":
                plain.append(f"{prefix}.{name}" if prefix else name)
    _refuse_lost("attribute", plain)


def _refuse_lost(kind: str, lost: list[str]) -> None:
    if lost:
        names = ", ".join(f"`{n}`" for n in lost)
        raise RecordError(
            f"no checkpoint holds the {kind} {names}, and its value was lost on meta; build the "
            'model inside `with pycandle.meta_device():` instead of `with torch.device("meta"):`, '
            f"or assign the {kind.split()[-1]} after construction"
        )


@contextmanager
def as_on_cpu(model: nn.Module, inputs: _T) -> Iterator[_T]:
    """Inside, what is on meta in `model` looks as on the CPU; yields `inputs` with the same done.

    These tensors have a shape and no memory, as on meta. But tensors that `forward` makes or keeps
    as attributes lie on the CPU and have values that the trace needs, operators refuse tensors of
    two devices, and a model that asks for its device takes the path that goldens can be made by.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    twins: dict[int, torch.Tensor] = {}

    def twin(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != "meta":
            return tensor
        if id(tensor) not in twins:
            with mode:
                made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            twins[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if is_parameter else made
        return twins[id(tensor)]

    homes = [home for m in model.modules() for home in (m._parameters, m._buffers)]
    before = [dict(home) for home in homes]
    try:
        for home in homes:
            for name, tensor in home.items():
                home[name] = None if tensor is None else twin(tensor)  # type: ignore[assignment]
        yield pytree.tree_map_only(torch.Tensor, twin, inputs)
    finally:
        for home, held in zip(homes, before, strict=True):
            home.update(held)  # type: ignore[arg-type]
