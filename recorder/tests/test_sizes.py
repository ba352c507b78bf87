"""Sizes that a model computes: squeezed, divided, rounded, counted from the end."""

from __future__ import annotations

import math

import pytest
import sympy
import torch
from open_sizes import (
    A,
    B,
    dim_of,
    draw,
    holds,
    limits,
    recorded,
    right_or_refused,
)
from torch.nn import functional as F
from torch.utils._sympy import functions as sf

from pycandle import RecordError
from pycandle.dims import evaluate
from pycandle.rounding import without_idle_operands
from pycandle.wholes import whole


@pytest.mark.parametrize(
    "squeeze",
    [
        lambda x: x.squeeze(),
        lambda x: x.squeeze(0),
        lambda x: x.squeeze(-3),
        lambda x: x.squeeze((0, 1)),
        lambda x: x.clone().squeeze_(0),
    ],
)
def test_squeeze_keeps_an_open_size_that_is_not_one(tmp_path, squeeze):
    manifest, recorder, model = recorded(tmp_path, squeeze, draw(4, 1, 3))
    assert holds(manifest) == [{"ne": ["a", 1]}]
    assert right_or_refused(recorder, model, (1, 1, 3), (2, 1, 3)) == [False, True]


def test_squeeze_of_a_size_that_is_at_least_one_moves_the_range(tmp_path):
    def squeeze(x):
        torch._check(x.shape[0] >= 1)
        return x.squeeze()

    manifest, _, _ = recorded(tmp_path, squeeze, draw(4, 1, 3))
    assert limits(manifest) == {"a": (2, None)} and holds(manifest) == []


@pytest.mark.parametrize("few", [lambda x: x[:1], lambda x: x[-1:]])
def test_squeeze_of_one_element_takes_at_least_one(tmp_path, few):
    manifest, recorder, model = recorded(tmp_path, lambda x: few(x).squeeze(0), draw(4, 3))
    assert limits(manifest) == {"a": (1, None)} and holds(manifest) == []
    assert right_or_refused(recorder, model, (1, 3), (7, 3)) == [True, True]


def test_only_the_size_that_is_squeezed_takes_at_least_one(tmp_path):
    def last_and_all(x, past):
        return x[:, -1:].squeeze(1) + torch.cat([past, x], 1).sum(1)

    shapes = [{0: "a", 1: "n"}, {0: "a", 1: "m"}]
    manifest, recorder, model = recorded(
        tmp_path, last_and_all, draw(4, 5, 3), draw(4, 2, 3), shapes=shapes
    )
    assert limits(manifest) == {"a": (0, None), "n": (1, None), "m": (0, None)}
    assert right_or_refused(recorder, model, [(1, 1, 3), (1, 0, 3)]) == [True]


@pytest.mark.parametrize(
    ("function", "least"),
    [
        (lambda x, y: x[: 12 // y.shape[0]], 1),
        (lambda x, y: x[: 12 % y.shape[0]], 1),
        (lambda x, y: x[: 12 // (y.shape[0] - 3)], 4),
        (lambda x, y: x * 2 if x.shape[0] % y.shape[0] else x + 1, 1),
    ],
)
def test_what_a_size_is_divided_by_is_above_zero(tmp_path, function, least):
    manifest, _, _ = recorded(tmp_path, function, draw(16, 3), draw(5, 3), shapes=(A, B))
    assert limits(manifest) == {"a": (0, None), "b": (least, None)}


def test_squeeze_of_a_computed_size(tmp_path):
    manifest, recorder, model = recorded(tmp_path, lambda x: x[3:].squeeze(), draw(8, 1, 3))
    (condition,) = holds(manifest)
    assert [n for n in range(9) if not evaluate(dim_of(condition), {"a": n})] == [4]
    assert right_or_refused(recorder, model, (4, 1, 3), (5, 1, 3)) == [False, True]


def test_squeeze_traced_at_one_is_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"open_sizes.py:\d+: .*made with a = 1; trace with"):
        recorded(tmp_path, lambda x: x.squeeze(0), draw(1, 1, 3))


@pytest.mark.parametrize(
    ("function", "shape", "taken"),
    [
        (lambda x: x.split(2)[1], lambda n: (n, 3), {3, 4}),
        (lambda x: x.chunk(2)[1], lambda n: (n, 3), {2, 3, 4, 5, 6, 7, 8, 9}),
        (lambda x: x.view(-1, 4), lambda n: (n, 2), {0, 2, 4, 6, 8}),
        (lambda x: x.unflatten(0, (2, -1)), lambda n: (n, 3), {0, 2, 4, 6, 8}),
        (lambda x: x[:5].sum(0), lambda n: (n, 3), set(range(10))),
        (lambda x: x[-5:].sum(0), lambda n: (n, 3), set(range(10))),
        (lambda x: x[2], lambda n: (n, 3), {3, 4, 5, 6, 7, 8, 9}),
        (lambda x: F.pixel_unshuffle(x, 2), lambda n: (1, 3, n, 4), {2, 4, 6, 8}),
        (lambda x: F.pad(x, (2, 2), mode="reflect"), lambda n: (3, n), {3, 4, 5, 6, 7, 8, 9}),
        (lambda x: F.avg_pool1d(x, 3, 2), lambda n: (1, 3, n), {3, 4, 5, 6, 7, 8, 9}),
    ],
)
def test_operators_are_right_or_refused_at_every_size(tmp_path, function, shape, taken):
    start = draw(shape(4))
    axis = next(i for i, (m, n) in enumerate(zip(shape(4), shape(5), strict=True)) if m != n)
    _, recorder, model = recorded(tmp_path, function, start, shapes=({axis: "n"},))
    got = right_or_refused(recorder, model, *map(shape, range(10)))
    assert {n for n, right in enumerate(got) if right} == taken


def test_as_many_as_another_size_from_the_end(tmp_path):
    manifest, recorder, model = recorded(
        tmp_path, lambda x, y: y[:, -x.shape[0] :], draw(3), draw(2, 5), shapes=(A, {1: "b"})
    )
    assert limits(manifest)["a"] == (1, None)  # of none from the end, torch gives all
    sizes = ((3, 5), (1, 5), (5, 3), (2, 2), (4, 1), (0, 3))
    taken = right_or_refused(recorder, model, *([(a,), (2, b)] for a, b in sizes))
    assert taken == [True] * 5 + [False]


def _shift(x):
    made = torch.zeros_like(x)
    made[:, 1:] = x[:, :-1].clone()
    made[:, 0] = 9
    return made


def _broadcasts(x):
    made = x.new_zeros(3, x.shape[1], 2, x.shape[0], dtype=torch.float64)
    made[1, None, 1:] = x.T[1:, None]
    return made


@pytest.mark.parametrize("function", [_shift, _broadcasts])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_assigned_to_a_slice_may_be_one(tmp_path, function, batch):
    shapes = ({0: "a", 1: "n"},)
    _, recorder, model = recorded(tmp_path, function, draw(batch, 4), shapes=shapes)
    taken = [right_or_refused(recorder, model, *((a, n) for n in (1, 2, 6))) for a in (1, 3)]
    assert taken == [[True] * 3] * 2


def test_what_is_assigned_may_have_more_axes_of_size_one(tmp_path):
    def function(x):
        made = torch.zeros_like(x)
        made[0] = x[None, :1]
        return made

    _, recorder, model = recorded(tmp_path, function, draw(2, 4))
    assert right_or_refused(recorder, model, (1, 4), (3, 4)) == [True, True]


@pytest.mark.parametrize(
    "pooled",
    [
        lambda x: F.adaptive_avg_pool1d(x, 3),
        lambda x: F.adaptive_avg_pool2d(x[:, :, None].expand(-1, -1, 7, -1), (2, 3)),
        lambda x: x.roll((1, 2), (1, 2)),
    ],
)
def test_what_asks_of_memory_alone_leaves_every_batch(tmp_path, pooled):
    manifest, recorder, model = recorded(tmp_path, pooled, draw(2, 4, 6))
    assert limits(manifest) == {"a": (0, None)} and holds(manifest) == []
    assert right_or_refused(recorder, model, (1, 4, 6), (3, 4, 6)) == [True, True]


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        (lambda x: x[: math.floor(x.shape[0] * 0.75)], range(12)),
        (lambda x: F.pad(x, (0, 0, 0, math.ceil(x.shape[0] / 7) * 7 - x.shape[0])), range(12)),
        (lambda x: x + torch.arange(x.shape[0] - 1, -1, -1.0)[:, None], range(12)),
        (lambda x: F.interpolate(x[None], scale_factor=1.5), range(1, 12)),
        (lambda x: x * 2 if x.shape[0] / 2 > 2.25 else x + 1, range(5, 12)),
        (lambda x: x[: math.ceil((x.shape[0] / 3 + 1) / 7)], range(12)),
    ],
)
def test_sizes_that_went_through_a_float_are_whole(tmp_path, function, taken):
    _, recorder, model = recorded(tmp_path, function, draw(6, 2))
    got = right_or_refused(recorder, model, *((n, 2) for n in taken))
    assert got == [True] * len(taken)


def test_what_rounds_where_it_matters_stays_a_float():
    n = sympy.Symbol("n")
    third, tenth = sf.FloatTrueDiv(sf.ToFloat(n), sympy.Float(3.0)), sympy.Float(0.1)
    kept = [
        sf.FloorToInt(tenth * sf.ToFloat(n)),
        sf.FloorToInt(third * sympy.Float(3.0)),
        sf.FloorToInt(third + sf.FloatTrueDiv(sf.ToFloat(2 * n), sympy.Float(3.0))),
        sf.TruncToInt(sympy.Float(0.5) * (sf.ToFloat(n) - 8)),
        sympy.Eq(third, sf.FloatTrueDiv(sf.ToFloat(n), sympy.Float(7.0))),
    ]
    assert [whole(expr) for expr in kept] == kept
    halves = sf.CeilToInt(sympy.Float(0.5) * sf.ToFloat(n) - sympy.Float(1.5))
    for size in range(9):
        assert whole(halves).subs(n, size) == math.ceil(0.5 * size - 1.5)


def test_int_of_a_number_takes_the_traced_size(tmp_path):
    with pytest.raises(RecordError, match=r"write `int\(…\)` of a size with `//`"):
        recorded(tmp_path, lambda x: x[: int(x.shape[0] * 0.75)], draw(12, 2))


def test_a_number_of_sizes_that_need_not_be_whole_is_no_argument(tmp_path):
    with pytest.raises(RecordError, match=r"is the number `IntTrueDiv\(a, 2\)`, .* a tensor"):
        recorded(tmp_path, lambda x: x / (x.shape[0] / 2), draw(12, 2))


def test_the_last_of_a_size_is_one_where_there_is_any(tmp_path):
    function = lambda x: x.cumsum(0) / (x.cumsum(0)[-1:] + 3)  # noqa: E731
    manifest, recorder, model = recorded(tmp_path, function, draw(4, 2))
    assert limits(manifest) == {"a": (1, None)}
    assert right_or_refused(recorder, model, (0, 2), (1, 2), (5, 2)) == [False, True, True]


@pytest.mark.parametrize("part", [lambda x: x[:, :1], lambda x: x[:, :1].expand(-1, x.shape[1])])
def test_the_first_of_a_sequence_broadcasts(tmp_path, part):
    shapes = [{0: "batch", 1: "length"}]
    manifest, recorder, model = recorded(
        tmp_path, lambda x: x - part(x), torch.randn(2, 5), shapes=shapes
    )
    assert limits(manifest)["length"] == (1, None)
    for batch, length in ((1, 1), (3, 2), (2, 9)):
        recorder.record_goldens(model, (torch.randn(batch, length),), case="x")


def chunks(x):
    rest = (4 - x.shape[0] % 4) % 4
    whole = F.pad(x, (0, 0, 0, rest)).reshape(-1, 4, x.shape[1]).cumsum(1)
    return whole.reshape(-1, x.shape[1])[: x.shape[0]].reshape(1, x.shape[0], x.shape[1])


def test_padding_to_a_multiple_and_cutting_it_off_leaves_every_size(tmp_path):
    manifest, recorder, model = recorded(tmp_path, chunks, draw(6, 2))
    assert holds(manifest) == []
    assert limits(manifest) == {"a": (0, None)}
    assert all(right_or_refused(recorder, model, (0, 2), (1, 2), (4, 2), (7, 2), (8, 2)))


def test_what_never_decides_is_left_out_and_nothing_else():
    n, m = sympy.symbols("n m", integer=True, nonnegative=True)
    up = 8 * sf.FloorDiv(n + sf.Mod(8 - sf.Mod(n, 8), 8), 8)
    ranges = {"n": (0, None), "m": (3, None)}
    for expr, simple in (
        (sf.Min(n, up), n),
        (sf.Max(n, up) - n, 8 * sf.FloorDiv(n + 7, 8) - n),
        (sf.Min(n, n + m - 3, n + m), n),
        (sf.Min(n, up - 1), None),
        (sf.Max(n, n + m - 4), None),
        (sympy.Eq(sf.Mod(m - n, 4) + sf.Max(0, n), 2), None),
    ):
        got = without_idle_operands(expr, ranges)
        assert got == simple or simple is None
        for size in range(20):
            sizes = {n: sympy.Integer(size), m: sympy.Integer(20 + size * 5 % 7)}
            assert sympy.simplify(got.subs(sizes)) == sympy.simplify(expr.subs(sizes))
    assert without_idle_operands(sf.Min(n, up - 1), ranges).has(sf.Min)
