"""What counts as the state of a recurrent model."""

from __future__ import annotations

import torch
from torch import nn


class Extend(nn.Module):
    def forward(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([past, x * 2], 1)


class Both(nn.Module):
    def forward(self, past: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([past, x * 2], 1), torch.cat([past, x * 3], 1)


SHAPES = [{1: "past"}, {1: "sequence"}]


def states(got):
    return [(s["input"], s["dim"]) for s in got.manifest["states"]]


def test_an_open_input_that_comes_back_extended_is_a_state(record):
    got = record(Extend(), torch.randn(2, 3), torch.randn(2, 4), shapes=SHAPES)
    assert states(got) == [("past", 1)]


def test_a_fixed_size_is_no_state(record):
    assert states(record(Extend(), torch.randn(2, 3), torch.randn(2, 4))) == []


def test_differing_dtypes_are_no_state(record):
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    assert states(record(Extend(), torch.randn(2, 3), x, shapes=SHAPES)) == []
    past = torch.ones(2, 3, dtype=torch.long)
    assert states(record(Extend(), past, torch.randn(2, 4), shapes=SHAPES)) == []


def test_an_input_extended_twice_is_no_state(record):
    got = record(Both(), torch.randn(2, 3), torch.randn(2, 4), shapes=SHAPES)
    assert states(got) == []
