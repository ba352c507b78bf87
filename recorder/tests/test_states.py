"""What counts as the state of a recurrent model."""

from __future__ import annotations

import torch
from torch import nn

from pycandle.states import _places


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


def places(*states):
    """Cache, layer and slot of states given as path, size that grows and call."""
    return [f"{name} {layer} {slot}" for name, layer, slot in _places(states)]


def test_pairs_by_layer_are_one_cache():
    paths = [f"past[{i}]{slot}" for i in range(2) for slot in ("[0]", "[1]")]
    calls = [1, 1, 2, 2]
    given = [(path, "past", call) for path, call in zip(paths, calls, strict=True)]
    assert places(*given) == ["past 0 0", "past 0 1", "past 1 0", "past 1 1"]
    # The same from one function that is no module.
    assert places(*[(path, "past", 0) for path in paths]) == places(*given)
    given = [(f"past[{i}].{slot}", "past", i) for i in (0, 1) for slot in ("key", "value")]
    assert places(*given) == ["past 0 key", "past 0 value", "past 1 key", "past 1 value"]


def test_lists_by_slot_are_one_cache():
    given = [(f"past.{slot}[{i}]", "past", i) for slot in ("k", "v") for i in (0, 1)]
    assert places(*given) == ["past 0 k", "past 1 k", "past 0 v", "past 1 v"]
    given = [(f"past[{slot}][{i}]", "past", i) for slot in (0, 1) for i in (0, 1)]
    assert places(*given) == ["past 0 0", "past 1 0", "past 0 1", "past 1 1"]


def test_who_appends_says_what_an_index_is():
    assert places(("past[0]", "past", 1), ("past[1]", "past", 1)) == ["past 0 0", "past 0 1"]
    assert places(("past[0]", "past", 1), ("past[1]", "past", 2)) == [
        "past 0 value",
        "past 1 value",
    ]
    assert places(("past", "past", 1)) == ["past 0 value"]


def test_nested_lists_are_counted_through():
    given = [(f"p[{i}][{j}].k", "past", 2 * i + j) for i in (0, 1) for j in (0, 1)]
    assert places(*given) == ["p 0 k", "p 1 k", "p 2 k", "p 3 k"]
    assert places(("p[3].k", "past", 1), ("p[7].k", "past", 2)) == ["p 0 k", "p 1 k"]


def test_what_grows_by_itself_is_a_cache_of_its_own():
    given = [(f"{name}[{slot}]", name, ord(name)) for name in ("a", "b") for slot in (0, 1)]
    assert places(*given) == ["a 0 0", "a 0 1", "b 0 0", "b 0 1"]
    given = [(f"both.{name}[{slot}]", name, ord(name)) for name in ("a", "b") for slot in (0, 1)]
    assert places(*given) == ["both_a 0 0", "both_a 0 1", "both_b 0 0", "both_b 0 1"]
    given = [(f"past[{i}].k", f"n{i}", i) for i in (0, 1)]
    assert places(*given) == ["past_n0 0 k", "past_n1 0 k"]
