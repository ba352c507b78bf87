"""Keeps recurrent layers whole in a trace.

PyTorch finds the shapes of `lstm`, `gru` and `rnn_*` by running them step by step, which fixes the
length of the sequence. Their shapes follow from those of the inputs, so that no step has to run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._ops import OpOverload

from .errors import RecordError

_ATEN = torch.ops.aten
_ONE_STATE = (_ATEN.gru.input, _ATEN.rnn_tanh.input, _ATEN.rnn_relu.input)


@contextmanager
def sequences_stay_open() -> Iterator[None]:
    """Inside, the recurrent layers of PyTorch have shapes and no steps."""
    shapes = dict.fromkeys(_ONE_STATE, _one_state) | {_ATEN.lstm.input: _lstm}
    before = {op: (decomposition_table[op], dict(op.py_kernels)) for op in shapes}
    for op, shape in shapes.items():
        _set(op, shape, dict.fromkeys(op.py_kernels, shape))
    try:
        yield
    finally:
        for op, kernels in before.items():
            _set(op, *kernels)


def _set(op: OpOverload, decomposition: Any, kernels: dict[Any, Any]) -> None:
    decomposition_table[op] = decomposition
    op.py_kernels.update(kernels)
    op._dispatch_cache.clear()


def _lstm(x: Tensor, hx: Sequence[Tensor], *args: Any) -> tuple[Tensor, ...]:
    return _results(x, hx, *args)


def _one_state(x: Tensor, hx: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return _results(x, [hx], *args)


def _results(
    x: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """The outputs of every step and the last states, without values."""
    if train and dropout:
        raise RecordError("a recurrent layer drops out: call `model.eval()` first")
    batch, steps = (0, 1) if batch_first else (1, 0)
    torch._check(x.shape[steps] >= 1, lambda: "a recurrent layer needs at least one step")
    for state in states:
        torch._check(
            state.shape[1] == x.shape[batch],
            lambda: "the state of a recurrent layer and its input differ in their batch",
        )
    width = states[0].shape[2] * (2 if bidirectional else 1)
    y = x.new_empty((x.shape[0], x.shape[1], width))
    return y, *(state.new_empty(state.shape) for state in states)
