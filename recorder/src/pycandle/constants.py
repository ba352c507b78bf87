"""Tensors that no checkpoint holds, in the shortest form that gives their values back."""

from __future__ import annotations

import torch

from .dtypes import dtype_name
from .errors import RecordError
from .schema import Arange, Constant, FileData, Full, ListData

_SPELLED_OUT = 256  # numbers that generated code has as such; more are nothing to read


def describe(name: str, tensor: torch.Tensor, file: str) -> Constant:
    """The constant `name`; one that is too large for the manifest lies in `file`."""
    if tensor.device.type == "meta":
        raise RecordError(
            f"the tensor `{name}` is made by the model but has no value on meta; build the model "
            "inside `with pycandle.meta_device():`, or register the tensor as a buffer"
        )
    tensor = tensor.detach().cpu()
    dtype = dtype_name(tensor.dtype, f"constant `{name}`")
    return Constant(name, dtype, tuple(tensor.shape), _data(tensor, file))


def _data(tensor: torch.Tensor, file: str) -> Full | Arange | ListData | FileData:
    flat = tensor.reshape(-1)
    count = flat.numel()
    if count and bool((flat == flat[0]).all()) and _one_sign(flat):
        return Full(flat[0].item())
    arange = _as_arange(flat)
    if arange is not None:
        return arange
    if count <= _SPELLED_OUT:
        return ListData(tuple(flat.tolist()))
    return FileData(file)


def _one_sign(flat: torch.Tensor) -> bool:
    """Whether no zero is negative beside a positive one."""
    negative = torch.signbit(flat)
    return bool(negative.all()) or not bool(negative.any())


def _as_arange(flat: torch.Tensor) -> Arange | None:
    """Only exact progressions count: start and step are whole numbers."""
    if flat.dtype == torch.bool or flat.numel() < 4:
        return None
    start, second = flat[0].item(), flat[1].item()
    if not all(abs(x) < 2**31 and x == int(x) for x in (start, second)):
        return None
    step = int(second) - int(start)
    exact = torch.arange(flat.numel(), dtype=torch.int64) * step + int(start)
    if not torch.equal(flat.to(torch.float64), exact.to(torch.float64)):
        return None
    return Arange(type(start)(start), type(start)(step))


def value(constant: Constant, side_file: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tensor that `constant` describes."""
    data = constant.data
    dtype = getattr(torch, constant.dtype)
    if isinstance(data, Full):
        return torch.full(constant.shape, data.value, dtype=dtype)
    if isinstance(data, Arange):
        count = 1
        for size in constant.shape:
            count *= size
        whole = torch.arange(count, dtype=torch.int64) * int(data.step) + int(data.start)
        return whole.to(dtype).reshape(constant.shape)
    if isinstance(data, ListData):
        return torch.tensor(data.values, dtype=dtype).reshape(constant.shape)
    return side_file[constant.name]
