"""Arguments of every kind, and what is said of their sizes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.export import Dim

from pycandle import GoldenRecorder, RecordError


class Star(nn.Module):
    def forward(self, first, *rest, gain=None, **more):
        return first + rest[0] * rest[1] + gain + more["bias"]


ROWS = {0: "rows"}


@pytest.mark.parametrize(
    "shapes",
    [
        [ROWS, ROWS, ROWS, ROWS, ROWS],
        {"first": ROWS, "rest": (ROWS, ROWS), "gain": ROWS, "bias": ROWS},
    ],
)
def test_star_arguments_are_a_tuple_and_keywords_keep_their_names(record, shapes):
    first, left, right, gain, bias = (torch.randn(3, 4) for _ in range(5))
    got = record(Star(), first, left, right, bias=bias, gain=gain, shapes=shapes)
    assert [(i["name"], i["path"]) for i in got.manifest["inputs"]] == [
        ("first", "first"),
        ("rest_0", "rest[0]"),
        ("rest_1", "rest[1]"),
        ("gain", "gain"),
        ("bias", "bias"),
    ]
    assert all(i["shape"] == ["rows", 4] for i in got.manifest["inputs"])
    assert [s["name"] for s in got.manifest["symbols"]] == ["rows"]
    golden, _ = got.golden()
    assert torch.equal(golden["output.output"], first + left * right + gain + bias)
    again = tuple(torch.randn(7, 4) for _ in range(3)), {"gain": gain[:1].expand(7, 4)}
    got.recorder.record_goldens(
        got.recorder._model, (again[0], again[1] | {"bias": torch.ones(7, 4)}), case="seven"
    )
    assert got.golden(".seven")[0]["output.output"].shape == (7, 4)


def test_star_arguments_need_no_shapes(record):
    class Sum(nn.Module):
        def forward(self, *parts):
            return sum(parts)

    got = record(Sum(), torch.randn(2), torch.randn(2))
    assert [i["path"] for i in got.manifest["inputs"]] == ["parts[0]", "parts[1]"]


@dataclasses.dataclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor | None = None


class Swap(nn.Module):
    def forward(self, pair: Pair) -> Pair:
        return Pair(pair.right * 2, pair.left + 1)


def test_dataclasses_are_taken_apart(record):
    pair = Pair(torch.randn(2, 3), torch.randn(2, 3))
    both = {0: "batch"}
    got = record(Swap(), pair, shapes={"pair": {"left": both, "right": both}})
    assert [i["path"] for i in got.manifest["inputs"]] == ["pair.left", "pair.right"]
    assert [o["path"] for o in got.manifest["outputs"]] == ["left", "right"]
    assert got.manifest["model"]["output_class"] == "test_arguments.Pair"
    assert torch.equal(got.golden()[0]["output.left"], pair.right * 2)


class Pool(nn.Module):
    def forward(self, x, mask):
        return (x * mask[..., None]).sum(1)


X, MASK = torch.ones(2, 3, 4), torch.ones(2, 3)


def test_axes_count_from_either_end(record):
    shapes = {"x": {-3: "batch", -2: "tokens"}, "mask": {0: "batch", -1: "tokens"}}
    inputs = record(Pool(), X, MASK, shapes=shapes).manifest["inputs"]
    assert [i["shape"] for i in inputs] == [["batch", "tokens", 4], ["batch", "tokens"]]


def test_an_axis_may_be_given_as_the_size_that_it_has(record):
    shapes = {"x": (2, "tokens", None), "mask": {1: "tokens"}}
    inputs = record(Pool(), X, MASK, shapes=shapes).manifest["inputs"]
    assert [i["shape"] for i in inputs] == [[2, "tokens", 4], [2, "tokens"]]


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"x": {0: "b", 5: "t"}}, r"`x` has the axis 5, the tensor has 3 axes"),
        ({"x": {-4: "t"}}, r"`x` has the axis -4, the tensor has 3 axes"),
        ({"x": {1: "t", -2: "t"}}, r"`x` has the axis 1 twice"),
        ({"x": {"b": 0}}, r"`x` has the axis 'b'; axes are numbers"),
        ({"x": {True: "b"}}, r"`x` has the axis True"),
        ({"x": {0: 3}}, r"`x`, axis 0 is to be 3, the tensor has 2 there"),
        ({"x": {0: Dim("b", min=4)}}, r"`x`, axis 0 is to be at least 4, the tensor has 2 there"),
        ({"x": {1: 2 * Dim("t", max=1)}}, r"`x`, axis 1 is to be at most 2, the tensor has 3"),
        ({"x": {0: 2.5}}, r"`x`, axis 0 is 2\.5: give the size's name"),
        ({"x": {0: "batch size"}}, r"`x`, axis 0: `batch size` is no name of a size"),
        ({"x": {0: "größe"}}, r"is no name of a size"),
        ({"x": {0: "3"}}, r"is no name of a size"),
        ({"x": "b"}, r"`x` is 'b': give a mapping from axis"),
        ({"x": ("b",)}, r"`x` has 1 entries, the tensor has 3 axes"),
        ("b", r"dynamic_shapes is of type str"),
        ([None] * 3, r"dynamic_shapes has 3 entries for \['x', 'mask'\]"),
        ({"z": {0: "b"}}, r"dynamic_shapes names \['z'\], the arguments are \['x', 'mask'\]"),
    ],
)
def test_shapes_that_do_not_fit_are_errors(tmp_path, shapes, says):
    with pytest.raises(RecordError, match=says):
        GoldenRecorder(tmp_path).record(Pool().eval(), X, MASK, dynamic_shapes=shapes)


def test_shapes_follow_the_arguments(tmp_path):
    class Nested(nn.Module):
        def forward(self, batch, scale):
            return batch["x"] + batch["rest"][0] * scale

    def record(shapes):
        batch = {"x": torch.ones(2), "rest": [torch.ones(2)]}
        GoldenRecorder(tmp_path).record(Nested().eval(), batch, 2.0, dynamic_shapes=shapes)

    record({"batch": {"x": {0: "n"}, "rest": [{0: "n"}]}})
    with pytest.raises(RecordError, match=r"`batch` names \['y'\], it has \['x', 'rest'\]"):
        record({"batch": {"y": {0: "n"}}})
    with pytest.raises(RecordError, match=r"`batch\.rest`: .* does not follow the 1 parts of a li"):
        record({"batch": {"rest": [{0: "n"}, None]}})
    with pytest.raises(RecordError, match=r"`batch\.rest\[0\]` has the axis 1, the tensor has 1"):
        record({"batch": {"rest": [{1: "n"}]}})
    with pytest.raises(RecordError, match="`scale`: the argument is no tensor and has no axes"):
        record({"scale": {0: "n"}})


def test_arguments_that_forward_does_not_take_are_an_error(tmp_path):
    for args, kwargs, says in (
        ((X,), {}, "forward of Pool takes other arguments: missing a required argument: 'mask'"),
        ((X, MASK, X), {}, "takes other arguments: too many positional arguments"),
        ((X, MASK), {"y": X}, "takes other arguments: got an unexpected keyword argument 'y'"),
        ((X.numpy(), MASK), {}, "the argument `x` is of type ndarray.*give tensors"),
    ):
        with pytest.raises(RecordError, match=says):
            GoldenRecorder(tmp_path).record(Pool().eval(), *args, **kwargs)


class Parts(nn.Module):
    """A use of its own for each of its arguments, parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 3))
        self.register_buffer("scale", torch.randn(1, 3))

    def forward(self, a, b):
        return (a * self.weight - b["c"] * self.scale) / b["d"][0]


SHARED = {
    "one for all": lambda _, x: (x, {"c": x, "d": [x]}),
    "a view": lambda _, x: (x, {"c": x[:], "d": [x[:, :]]}),
    "kept by the model": lambda m, _: (m.weight, {"c": m.scale, "d": [m.weight.detach()]}),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", SHARED)
def test_arguments_that_are_one_tensor_stay_apart(name, device, record):
    model = Parts().to(device)
    a, b = SHARED[name](model, torch.randn(2, 3, device=device))
    rows = {0: "rows"}
    shapes = {"a": rows, "b": {"c": rows, "d": [rows]}} if len(a) > 1 else None
    apart = torch.randn(a.shape), {"c": torch.randn(a.shape), "d": [torch.randn(a.shape)]}
    expected = record(Parts(), *apart, shapes=shapes).text
    assert record(model, a, b, shapes=shapes).text == expected


def test_a_view_of_what_forward_writes_to_is_an_argument_of_its_own(record):
    class Adds(nn.Module):
        def forward(self, x, y):
            return {"x": x.add_(y.sum()), "y": y * 2}

    x = torch.ones(4)
    tensors, _ = record(Adds(), x, x[:2]).golden()
    assert tensors["output.x"].tolist() == [3.0] * 4
    assert tensors["output.y"].tolist() == [2.0, 2.0]
    assert x.tolist() == [1.0] * 4


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_cache_may_be_one_tensor_many_times(device, record):
    class Grows(nn.Module):
        def forward(self, x, past):
            new = [tuple(torch.cat([part, x * i], 1) for part in pair) for i, pair in past]
            return sum((k * v).sum() for k, v in new), new

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grows = Grows()

        def forward(self, x, past):
            return self.grows(x, list(enumerate(past, 2)))

    x, empty = torch.ones(2, 1, device=device), torch.zeros(2, 0, device=device)
    axes = {0: "batch", 1: "past"}
    shapes = {"x": {0: "batch", 1: "sequence"}, "past": [(axes, axes)] * 3}
    got = record(Layers(), x, [(empty, empty)] * 3, shapes=shapes)
    assert len(got.manifest["states"]) == 6
