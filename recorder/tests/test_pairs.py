"""Complex numbers, buffers that `forward` writes to, and names of one operator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pycandle import GoldenRecorder, RecordError


class Fn(nn.Module):
    """A model that is one function of two tensors, of which it makes complex numbers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.table = torch.polar(torch.ones(4, 3), torch.arange(12.0).reshape(4, 3))

    def forward(self, x, y):
        return self.function(torch.complex(x, y), self.table)


def real(z):
    return torch.view_as_real(z.contiguous())


@pytest.mark.parametrize(
    "function",
    [
        lambda z, t: real(z * t + t),
        lambda z, t: real(z.conj() * z - t),
        lambda z, t: z.real * z.imag,
        lambda z, t: (z.abs(), z.angle()),
        lambda z, t: real(-z / 3.0 * torch.arange(3.0)),
        lambda z, t: real(z.to(torch.complex128) * t),
        lambda z, t: real(torch.cat([z, t[None]], -3).transpose(-1, 0)),
        lambda z, t: real(torch.stack([z[0], t], -1)[:, 1:].permute(2, 0, -2)),
        lambda z, t: real(z.flatten(1).unsqueeze(-1).expand(-1, -1, 2)),
        lambda z, t: real(t[torch.tensor([2, 0])] * z[:, 1:3].squeeze(-1)),
        lambda z, t: ((z + t).to(torch.float64), (z + t).to(torch.bfloat16)),
        lambda z, t: real(z * torch.tensor(0.5, dtype=torch.float64) * z.shape[0]),
        lambda z, t: real(torch.stack([z, z * 2.0])).sum(0) * real(t),
    ],
)
def test_complex_numbers_are_pairs(tmp_path, function):
    model = Fn(function).eval()
    recorder = GoldenRecorder(tmp_path)
    x, y = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    recorder.record(model, x, y, dynamic_shapes=[{0: "batch"}, {0: "batch"}])
    recorder.record_goldens(model, (y[:1], x[:1]))  # held against the model itself
    assert not any("complex" in value.dtype for n in recorder.manifest.nodes for value in n.out)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda z, t: z * t, "an output is complex"),
        (lambda z, t: real(z.exp()), r"aten.exp.default in the model \(.*:\d+\) is computed"),
        (lambda z, t: real(z + 1.0), "a sum of a complex and a real number"),
        (lambda z, t: real(t / z), "a quotient of two complex numbers"),
        (lambda z, t: real(torch.add(z, t, alpha=2)), "aten.add.Tensor with .*alpha.* has no form"),
        (lambda z, t: real(z.real * 1j), "aten.mul.Tensor with a complex number has no form"),
    ],
)
def test_other_uses_of_complex_numbers_are_refused(tmp_path, function, said):
    with pytest.raises(RecordError, match=said):
        GoldenRecorder(tmp_path).record(Fn(function).eval(), *torch.randn(2, 2, 4, 3))


class Writes(nn.Module):
    """Writes to a buffer, before or after it is read."""

    buffer: torch.Tensor

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep
        self.register_buffer("buffer", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.buffer.copy_(x.sum(0) + self.buffer * self.keep if self.keep else x.sum(0))
        return x * self.buffer


def test_a_buffer_that_is_written_before_it_is_read_is_no_state(tmp_path):
    model = Writes(0.0).eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, torch.randn(2, 3))
    recorder.record_goldens(model, (torch.randn(2, 3),))
    state = {"buffer": torch.zeros(3)}
    recorder.record_goldens(state, (torch.randn(2, 3),), case="other")
    assert not model.buffer.any() and not state["buffer"].any()  # they are the user's
    with pytest.raises(RecordError, match="forward changes `buffer`"):
        recorder.record(Writes(0.5).eval(), torch.randn(2, 3))


def test_one_operator_has_one_name(record):
    class Names(nn.Module):
        def forward(self, x, y):
            x = torch.clip(torch.multiply(x, y), -1, 1)
            x = torch.where(torch.greater(x, y), torch.absolute(x), torch.subtract(x, 0.5))
            return torch.concat([torch.swapaxes(x, 0, 1), torch.divide(y, 2.0).mT], 0)

    found = set(record(Names(), torch.randn(2, 3), torch.randn(2, 3)).ops)
    assert found >= {"aten.mul.Tensor", "aten.clamp.default", "aten.cat.default"}
    named = ("multiply", "clip", "greater", "absolute", "subtract", "concat", "swapaxes", "divide")
    assert not any(op.split(".")[1] in named for op in found)
