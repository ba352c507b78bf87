"""Kinds of models that cannot be recorded as they are, and how each is told to its user."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn

from pycandle import RecordError, meta_device

Pair = namedtuple("Pair", "a b")
Nested = namedtuple("Nested", "pair c")


def with_sparse() -> nn.Module:
    model = nn.Linear(3, 3)
    model.register_buffer("links", torch.eye(3).to_sparse())
    return model


REFUSED = {
    "parallel": (lambda: nn.DataParallel(nn.Linear(3, 3)), r"DataParallel.*its `\.module`"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), r"0\.weight, 0\.bias have no shape.*once"),
    "sparse": (with_sparse, r"links are not kept as dense.*to_dense"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("on_meta", [False, True])
def test_what_cannot_be_recorded_says_what_can(name, on_meta, record):
    make, said = REFUSED[name]
    x = torch.randn(2, 3)
    if on_meta:
        x = x.to("meta")
        with meta_device():
            model = make()
    else:
        model = make()
    with pytest.raises(RecordError, match=said):
        record(model, x)


class Choosing(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class Mapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x):
        return torch.vmap(lambda row: self.weight @ row)(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Choosing, r"test_accepted\.py:\d+.*`cond` runs a part of the model.*torch\.where"),
        (Mapping, r"torch does not trace through, as `torch\.vmap`.*einsum"),
    ],
)
def test_what_torch_does_not_trace_says_what_to_write(model, said, record):
    with pytest.raises(RecordError, match=said):
        record(model(), torch.randn(2, 3))


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Module()
        self.inner.layers = [nn.Linear(3, 3)]

    def forward(self, x):
        return self.inner.layers[0](x)


def test_modules_in_a_plain_list_on_meta_are_an_error(record):
    with meta_device():
        model = Hidden()
    with pytest.raises(RecordError, match=r"`inner\.layers` keeps modules.*nn\.ModuleList"):
        record(model, torch.empty(2, 3, device="meta"))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_a_weight_that_a_hook_makes_needs_no_value_on_meta(record):
    with meta_device():
        model = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 3)))
    recorded = record(model, torch.empty(2, 3, device="meta"), shapes=[{0: "n"}])
    weights = torch.nn.utils.weight_norm(nn.Linear(3, 3)).state_dict()
    state = {f"0.{name}": tensor for name, tensor in weights.items()}
    recorded.recorder.record_goldens(state, (torch.randn(5, 3),))  # held against the model


class Named(nn.Module):
    def forward(self, given):
        return Nested(Pair(given.pair.a + 1, given.pair.b), given.c * 2)


@pytest.mark.parametrize(
    "shapes",
    [
        Nested(Pair({0: "n"}, {0: "n"}), {0: "n"}),
        (({0: "n"}, {0: "n"}), {0: "n"}),
        {"pair": {"a": {0: "n"}, "b": {0: "n"}}, "c": {0: "n"}},
    ],
)
def test_sizes_of_named_tuples_are_given_as_such_as_tuples_or_by_name(shapes, record):
    given = Nested(Pair(torch.randn(4, 3), torch.randn(4, 3)), torch.randn(4))
    manifest = record(Named(), given, shapes={"given": shapes}).manifest
    assert [i["shape"] for i in manifest["inputs"]] == [["n", 3], ["n", 3], ["n"]]
    assert [s["name"] for s in manifest["symbols"]] == ["n"]


def test_a_wrong_name_in_the_sizes_of_a_named_tuple_is_an_error(record):
    given = Nested(Pair(torch.randn(4, 3), torch.randn(4, 3)), torch.randn(4))
    with pytest.raises(RecordError, match=r"`given\.pair` names \['x'\], it has \['a', 'b'\]"):
        record(Named(), given, shapes={"given": {"pair": {"x": {0: "n"}}}})
