"""What counts as the state of a recurrent model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pycandle import GoldenRecorder, RecordError
from pycandle.states import _places


class Extend(nn.Module):
    """`read` of what is joined to two, which come back."""

    def __init__(self, read=torch.sum) -> None:
        super().__init__()
        self.read = read

    def forward(self, past: list[torch.Tensor], x: torch.Tensor):
        joined = [torch.cat([part, x * 2], 1) for part in past]
        return self.read(joined[0] * joined[1]), joined


class Sum(nn.Module):
    """A module that only reads."""

    def forward(self, x: torch.Tensor):
        return x.sum()


class Joined(nn.Module):
    """One function of two inputs."""

    def __init__(self, function) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.function = function

    def forward(self, past: torch.Tensor, x: torch.Tensor):
        return self.function(past, x, self.linear)


def cat(*tensors):
    return torch.cat(tensors, 1)


def _and_read(joined):
    return joined, joined.sum()


SHAPES = [{1: "past"}, {1: "sequence"}]
INPUTS = torch.randn(2, 3), torch.randn(2, 4)
PAIR = [INPUTS[0], INPUTS[0] + 1]
PAIRS = [[SHAPES[0]] * 2, SHAPES[1]]
STREAMS = torch.randn(2, 5, 3), torch.randn(2, 4, 3)


def states(got):
    return [(s["input"], s["dim"]) for s in got.manifest["states"]]


@pytest.mark.parametrize("read", [torch.sum, Sum()])
def test_open_inputs_that_are_extended_read_and_returned_are_states(record, read):
    found = states(record(Extend(read), PAIR, INPUTS[1], shapes=PAIRS))
    assert found == [("past_0", 1), ("past_1", 1)]


def test_a_fixed_size_is_no_state(record):
    assert states(record(Extend(), PAIR, INPUTS[1])) == []


def test_differing_dtypes_are_no_state(record):
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    assert states(record(Extend(), PAIR, x, shapes=PAIRS)) == []
    past = [torch.ones(2, 3, dtype=torch.long)] * 2
    assert states(record(Extend(), past, INPUTS[1], shapes=PAIRS)) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, linear: cat(a, linear(b)),
        lambda a, b, linear: (cat(a, b), linear(b)),
        lambda a, b, linear: cat(a, linear(a)),
        lambda a, b, linear: _and_read(cat(a, linear(a))),
        lambda a, b, linear: _and_read(cat(a, a)),
        lambda a, b, linear: (a, _and_read(cat(a, b))),
        lambda a, b, linear: ([cat(a, b)], a.sum()),
        lambda a, b, linear: (_and_read(cat(a, b)), cat(a, linear(b))),
        lambda a, b, linear: (_and_read(cat(a, b)), a[:, :1]),
        lambda a, b, linear: (2 * _and_read(cat(a, b)),),
        lambda a, b, linear: _and_read(cat(a, b, b)),
        lambda a, b, linear: cat(a, b).sum(),
        lambda a, b, linear: (cat(a, b), linear(cat(a, b))),
        # One tensor may be a stream that is joined to another.
        lambda a, b, linear: (lambda both: (both, linear(both)))(cat(a, b)),
        lambda a, b, linear: _and_read(cat(a, b)),
    ],
)
def test_what_is_joined_otherwise_stays_input_and_output(record, function):
    shapes = [{0: "batch", 1: "past"}, {0: "batch", 1: "sequence"}]
    got = record(Joined(function), *STREAMS, shapes=shapes)
    assert states(got) == []
    assert "past" in [i["name"] for i in got.manifest["inputs"]]
    made = {name for _, _, outputs in got.calls()[:1] for name in outputs}
    returned = {o["value"]["v"] for o in got.manifest["outputs"]} - {"past"}
    assert returned <= made


def _states(tmp_path, model, wanted):
    recorder = GoldenRecorder(tmp_path, states=wanted)
    manifest = recorder.record(model.eval(), *INPUTS, dynamic_shapes=SHAPES)
    return [state.input for state in manifest.states]


def test_states_can_be_named_and_ruled_out(tmp_path):
    def only(past, x, _):
        return cat(past, x)

    def reading(past, x, _):
        return _and_read(cat(past, x))

    assert _states(tmp_path, Joined(reading), False) == []
    assert _states(tmp_path, Joined(reading), []) == []
    assert _states(tmp_path, Joined(reading), ["past"]) == ["past"]
    assert _states(tmp_path, Joined(only), True) == []
    assert _states(tmp_path, Joined(only), ["past"]) == ["past"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (["x"], "states: `x` cannot be kept as state: it has to come back"),
        (["past", "y"], "states names `y`, the arguments with tensors are `past`, `x`"),
        ("past", "states is 'past': give a list of names"),
        (None, "states is None: give True, False or a list of names"),
    ],
)
def test_states_that_cannot_be_are_errors(tmp_path, wanted, says):
    with pytest.raises(RecordError, match=says):
        _states(tmp_path, Joined(lambda a, b, _: _and_read(cat(a, b))), wanted)


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
