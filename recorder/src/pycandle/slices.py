"""Slices by open sizes, read and assigned to, as PyTorch computes them, for every size.

Some versions of torch take open sizes for 2 or more here, some ask on which side of the size an
index lies. Neither has to be: what is cut off is a minimum or a maximum.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses import FakeTensorMode, fake_impls
from torch.fx.experimental.symbolic_shapes import statically_known_true

_SLICE = torch.ops.aten.slice.Tensor
_PLACES = (int, torch.SymInt, slice, type(...), type(None))  # indices that give a view


@contextmanager
def slices_of_any_size() -> Iterator[None]:
    """Inside, slices of traced tensors by sizes of inputs put no condition on those sizes.

    But where it is open whether an index counts from the end, as of `x[:, -n:]`, which is all of
    `x` for n = 0, the traced sizes decide, and that is a condition.
    """
    known = fake_impls.op_implementations_dict
    before = known.get(_SLICE)

    def sliced(
        mode: Any,
        func: Any,
        self: torch.Tensor,
        dim: int = 0,
        start: Any = None,
        end: Any = None,
        step: Any = 1,
    ) -> Any:
        there = -self.dim() <= dim < self.dim() and (isinstance(step, torch.SymInt) or step > 0)
        if not there or not all(map(_has_value, (*self.shape, start, end, step))):
            given = (mode, func, self, dim, start, end, step)
            return before(*given) if before else NotImplemented
        size, stride = self.shape[dim], self.stride(dim)
        first = 0 if start is None else _index(size, start)
        last = size if end is None else _index(size, end)
        many = last - first
        many = many if statically_known_true(many >= 0) else torch.sym_max(many, 0)
        sizes, strides = list(self.shape), list(self.stride())
        sizes[dim], strides[dim] = (many + step - 1) // step, stride * step
        return self.as_strided(sizes, strides, self.storage_offset() + first * stride)

    known[_SLICE] = sliced
    preferred = getattr(FakeTensorMode, "_view_fake_tensor_impl_ops", {})  # to what decomposes, 2.9
    added = preferred.setdefault(_SLICE, True) if _SLICE not in preferred else False
    try:
        yield
    finally:
        if added:
            del preferred[_SLICE]
        del known[_SLICE]
        if before:
            known[_SLICE] = before


@contextmanager
def assignments_of_any_size() -> Iterator[None]:
    """Inside, `x[:, 1:] = y` copies `y` as it is, where torch first drops what it has of leading
    sizes of 1, and so asks of open ones whether they are. What is broadcast is the same."""
    own = vars(torch.Tensor).get("__setitem__")  # it is inherited, unless somebody replaced it
    original = torch.Tensor.__setitem__

    def assign(self: torch.Tensor, index: Any, value: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        if (
            isinstance(value, torch.Tensor)
            and any(isinstance(size, torch.SymInt) for size in value.shape)
            and all(type(part) in _PLACES for part in parts)
            and (place := self[index]).dim() >= value.dim()
        ):
            place.copy_(value)
        else:
            original(self, index, value)

    torch.Tensor.__setitem__ = assign  # type: ignore
    try:
        yield
    finally:
        if own is None:
            del torch.Tensor.__setitem__
        else:
            torch.Tensor.__setitem__ = own  # type: ignore[method-assign]


def _index(size: Any, index: Any) -> Any:
    """Where in an axis of this size `index` comes out, which counts from the end below 0."""
    if statically_known_true(index == sys.maxsize):
        return size
    if index < 0:
        index += size
        return index if statically_known_true(index >= 0) else torch.sym_max(index, 0)
    return index if statically_known_true(index <= size) else torch.sym_min(index, size)


def _has_value(size: Any) -> bool:
    """Whether a size has a value in this trace, as those of inputs have."""
    return not isinstance(size, torch.SymInt) or size.node.has_hint()
