"""For which sizes a manifest says that it holds."""

from __future__ import annotations

import json
import math

import pytest
import sympy
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._sympy import functions as sf

from pycandle import GoldenRecorder, RecordError
from pycandle.dims import evaluate
from pycandle.rounding import without_idle_operands
from pycandle.schema import DimExpr
from pycandle.wholes import whole

A, B = {0: "a"}, {0: "b"}
draw = torch.randn


class Fn(nn.Module):
    """A model that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class OneFn(Fn):
    def forward(self, x):
        return self.function(x)


class TwoFn(Fn):
    def forward(self, x, y):
        return self.function(x, y)


def recorded(folder, function, *inputs, shapes=(A,)):
    """The manifest, and the recorder to make goldens with."""
    model = (OneFn if len(inputs) == 1 else TwoFn)(function).eval()
    recorder = GoldenRecorder(folder)
    recorder.record(model, *inputs, dynamic_shapes=list(shapes))
    path = recorder.save("m")
    return json.loads(path.read_text()), recorder, model


def limits(manifest):
    return {s["name"]: (s["min"], s["max"]) for s in manifest["symbols"]}


def holds(manifest):
    return [c["holds"] for c in manifest.get("conditions", [])]


def right_or_refused(recorder, model, *shapes):
    """For each of the shapes: whether goldens can be made, which compares them with the model."""
    taken = []
    for shape in shapes:
        inputs = tuple(draw(s) for s in shape) if isinstance(shape, list) else (draw(shape),)
        try:
            recorder.record_goldens(model, inputs, case="x")
        except RecordError as error:
            assert "holds only where" in str(error) or "outside" in str(error)
            taken.append(False)
        else:
            taken.append(True)
    return taken


def test_one_size_left_out_is_a_condition_with_its_line(tmp_path):
    def branches(x):
        if x.shape[0] == 77:
            return x * 2
        return x + 1

    manifest, recorder, model = recorded(tmp_path, branches, draw(4, 2))
    assert limits(manifest) == {"a": (0, None)}
    (condition,) = manifest["conditions"]
    assert condition["holds"] == {"ne": ["a", 77]}
    assert condition["at"].startswith("test_conditions.py:")
    assert manifest["version"] == [2, 0]
    assert right_or_refused(recorder, model, (76, 2), (77, 2), (78, 2)) == [True, False, True]


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.shape[0] == 0,
        lambda x: x.numel() == 0,
        lambda x: x.shape[0] < 1,
        lambda x: F.linear(x, torch.ones(2, 2)).shape[0] == 0,
    ],
)
def test_a_branch_on_nothing_at_all_is_seen(tmp_path, asks):
    manifest, recorder, model = recorded(
        tmp_path, lambda x: x.sum() + 3 if asks(x) else x.sum(), draw(4, 2)
    )
    assert limits(manifest) == {"a": (1, None)}
    assert right_or_refused(recorder, model, (0, 2), (1, 2)) == [False, True]


def test_a_manifest_without_conditions_does_not_have_the_list(tmp_path):
    manifest, _, _ = recorded(tmp_path, torch.exp, draw(4, 2))
    assert "conditions" not in manifest and manifest["version"] == [1, 0]


def test_a_remainder_is_a_condition(tmp_path):
    manifest, recorder, model = recorded(
        tmp_path, lambda x: x + 1 if x.shape[0] % 64 else x * 2, draw(5, 2)
    )
    assert holds(manifest) == [{"ne": [{"mod": ["a", 64]}, 0]}]
    assert right_or_refused(recorder, model, (63, 2), (64, 2), (130, 2)) == [True, False, True]


def test_intervals_become_ranges_however_they_are_written(tmp_path):
    def narrow(x):
        torch._check(3 * x.shape[0] - 7 <= 50)  # at most 19
        torch._check((x.shape[0] + 1) // 2 >= 2)  # at least 3
        torch._check(-2 * x.shape[0] < -6)  # at least 4
        torch._check(max(x.shape[0], 3) < 19)  # at most 18
        return x + 1

    manifest, recorder, model = recorded(tmp_path, narrow, draw(8))
    assert limits(manifest) == {"a": (4, 18)} and holds(manifest) == []
    assert right_or_refused(recorder, model, (3,), (4,), (18,), (19,)) == [False, True, True, False]


def test_far_ends_of_a_range_are_exact(tmp_path):
    def far(x):
        if x.shape[0] * 1000 + 1 < 10**12:
            return x + 1
        return x * 2

    manifest, _, _ = recorded(tmp_path, far, draw(8))
    assert limits(manifest) == {"a": (0, 10**9 - 1)}


def test_a_condition_at_the_end_of_a_range_moves_the_end(tmp_path):
    def edges(x):
        torch._check(x.shape[0] >= 1)
        torch._check(x.shape[0] <= 9)
        if x.shape[0] == 1 or x.shape[0] == 2 or x.shape[0] == 9 or x.shape[0] == 12:
            return x * 2
        return x + 1

    manifest, _, _ = recorded(tmp_path, edges, draw(5))
    assert limits(manifest) == {"a": (3, 8)} and holds(manifest) == []


@pytest.mark.parametrize(
    ("asks", "condition", "taken"),
    [
        (lambda a, b: a < b, {"lt": ["a", "b"]}, [True, False, False]),
        (lambda a, b: a + b < 12, {"le": [{"add": ["a", "b"]}, 11]}, [True, True, False]),
        (lambda a, b: a != b, {"ne": ["a", "b"]}, [True, False, True]),
        (lambda a, b: a * 2 >= b, {"le": ["b", {"mul": ["a", 2]}]}, [False, True, True]),
        (lambda a, b: max(a, b) < 6, None, [True, True, False]),
    ],
)
def test_relations_of_two_sizes(tmp_path, asks, condition, taken):
    def both(x, y):
        return x.sum() + y.sum() if asks(x.shape[0], y.shape[0]) else x.sum() - y.sum()

    inputs = draw(3), draw(5)
    manifest, recorder, model = recorded(tmp_path, both, *inputs, shapes=(A, B))
    assert condition is None or condition in holds(manifest)
    assert right_or_refused(recorder, model, [(2,), (5,)], [(4,), (4,)], [(7,), (6,)]) == taken


@pytest.mark.parametrize(
    ("asks", "least", "conditions"),
    [
        (lambda a, b: a // 3 * 3 <= a, (0, 0), []),
        (lambda a, b: (a - 1) // 4 * 4 + 4 >= a, (0, 0), []),
        (lambda a, b: (a + b) // 3 * 3 + 2 >= a + b, (0, 0), []),
        (lambda a, b: ((a - 1) // 2 + 1) // 2 * 2 <= (a - 1) // 2 + 1, (0, 0), []),
        (lambda a, b: a // 3 * 3 + 1 >= a, (0, 0), [{"le": ["a", "…"]}]),
        (lambda a, b: a // 3 * 3 < a, (0, 0), [{"lt": ["…", "a"]}]),
        (lambda a, b: a * b != 0, (1, 1), []),
        (lambda a, b: a + a * (b // 2) != 0, (1, 0), []),
        (lambda a, b: a + a * (b // 2) + a * (b // 3) * (b // 2) != 0, (1, 0), []),
        (lambda a, b: a * a != b * b, (0, 0), [{"ne": ["…", 0]}, {"ne": ["a", "b"]}]),
        (lambda a, b: a * 2 + b * 4 != 7, (0, 0), []),
        (lambda a, b: a * 2 + b * 4 != 10, (0, 0), [{"ne": ["…", 5]}]),
    ],
)
def test_what_follows_from_the_ranges_is_no_condition(tmp_path, asks, least, conditions):
    def both(x):
        return x.sum() if asks(x.shape[0], x.shape[1]) else x.sum() + 1

    a, b = next((a, b) for a in range(4, 8) for b in range(5, 8) if asks(a, b))
    manifest, recorder, model = recorded(tmp_path, both, draw(a, b), shapes=({0: "a", 1: "b"},))
    assert tuple(low for low, _ in limits(manifest).values()) == least

    def short(form):
        return form if not isinstance(form, dict) else "…"

    found = [{op: [short(s) for s in sides]} for c in holds(manifest) for op, sides in c.items()]
    assert sorted(found, key=str) == sorted(conditions, key=str)
    for size in ((a, b) for a in range(6) for b in range(6)):
        (taken,) = right_or_refused(recorder, model, size)
        assert taken == asks(*size)


def test_two_names_for_what_the_model_makes_one_size_are_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"`a` and `b`.*equal \(test_conditions.py:\d+\)"):
        recorded(tmp_path, lambda x, y: x + y, draw(4), draw(4), shapes=(A, B))


def test_sizes_that_happen_to_be_equal_stay_two(tmp_path):
    manifest, recorder, model = recorded(
        tmp_path, lambda x, y: x.sum() + y.sum(), draw(4), draw(4), shapes=(A, B)
    )
    assert [i["shape"] for i in manifest["inputs"]] == [["a"], ["b"]]
    assert right_or_refused(recorder, model, [(3,), (7,)]) == [True]


def test_a_size_that_the_model_fixes_is_an_error_with_name_and_line(tmp_path):
    weight = draw(5, 8)
    for function in (
        lambda x: F.linear(x, weight),
        lambda x: x @ weight.T,
        lambda x: torch.einsum("ij,kj->ik", x, weight),
        lambda x: x.reshape(4, 4) + 1,
    ):
        with pytest.raises(RecordError, match=r"test_conditions.py:\d+: the size `n` .*only be 8"):
            recorded(tmp_path, function, draw(2, 8), shapes=({1: "n"},))


def test_a_mask_of_fixed_length_fixes_the_length(tmp_path):
    def attend(x, mask):
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    with pytest.raises(RecordError, match=r"`n`.*can only be 5"):
        inputs = draw(2, 2, 5, 4), draw(1, 1, 5, 5)
        recorded(tmp_path, attend, *inputs, shapes=({2: "n"}, None))


def test_a_branch_on_one_is_seen_after_a_layer_asked_the_same(tmp_path):
    weight = draw(4, 4)

    def after(x):
        y = F.linear(x, weight)
        return y * 2 if x.shape[0] == 1 else y + 1

    manifest, recorder, model = recorded(tmp_path, after, draw(3, 2, 4))
    assert holds(manifest) == [{"ne": ["a", 1]}]
    assert right_or_refused(recorder, model, (1, 2, 4), (2, 2, 4)) == [False, True]


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
    assert [n for n in range(9) if not evaluate(_dim(condition), {"a": n})] == [4]
    assert right_or_refused(recorder, model, (4, 1, 3), (5, 1, 3)) == [False, True]


def test_squeeze_traced_at_one_is_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"test_conditions.py:\d+: .*made with a = 1; trace with"):
        recorded(tmp_path, lambda x: x.squeeze(0), draw(1, 1, 3))


def test_a_size_that_comes_out_fixed_is_an_error(tmp_path):
    says = r"test_conditions.py:\d+: the size `b` can only be 1; leave it out of .*, or trace with"
    with pytest.raises(RecordError, match=says):
        recorded(
            tmp_path, lambda x, y: torch.where(x > 0, x, y), draw(4, 3), draw(1, 3), shapes=(A, B)
        )
    with pytest.raises(RecordError, match=says.replace("`b`", "`a`")):
        recorded(
            tmp_path, lambda x: x * 2 if x.shape[0] == 1 else x, draw(1, 2), shapes=({0: "a"},)
        )


def test_equal_sizes_are_any_size(tmp_path):
    _, recorder, model = recorded(tmp_path, torch.add, draw(4, 3), draw(4, 3), shapes=(A, A))
    assert right_or_refused(recorder, model, [(1, 3), (1, 3)], [(0, 3), (0, 3)]) == [True, True]


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


def test_what_a_manifest_cannot_say_is_an_error(tmp_path):
    def half(x):
        return x + 1 if (x.shape[0] / 3) ** 0.5 != 5.5 else x * 2

    pattern = r"test_conditions.py:\d+: .*cannot say; leave `a` out of dynamic_shapes, or give"
    with pytest.raises(RecordError, match=pattern):
        recorded(tmp_path, half, draw(4))


def test_a_given_range_in_which_a_condition_always_holds_leaves_none(tmp_path):
    a = torch.export.Dim("a", min=2, max=64)
    manifest, _, _ = recorded(
        tmp_path, lambda x: x + 1 if x.shape[0] != 77 else x * 2, draw(4), shapes=({0: a},)
    )
    assert limits(manifest) == {"a": (2, 64)} and holds(manifest) == []


def test_a_decomposition_asks_as_the_model_does(tmp_path):
    model = OneFn(lambda x: F.adaptive_avg_pool2d(x, (4, 4))).eval()
    taken = {}
    for decompose in ((), ("aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d")):
        recorder = GoldenRecorder(tmp_path, decompose=decompose)
        recorder.record(model, draw(1, 2, 8, 4), dynamic_shapes=[{2: "n"}])
        shapes = [(1, 2, n, 4) for n in (4, 8, 9, 12)]
        taken[len(decompose)] = right_or_refused(recorder, model, *shapes)
    # The decomposition divides 8 by 4 into a kernel of 2.
    assert taken == {0: [True] * 4, 2: [False, True, False, False]}


def test_as_many_as_another_size_from_the_end(tmp_path):
    manifest, recorder, model = recorded(
        tmp_path, lambda x, y: y[:, -x.shape[0] :], draw(3), draw(2, 5), shapes=(A, {1: "b"})
    )
    assert limits(manifest)["a"] == (1, None)  # of none from the end, torch gives all
    sizes = ((3, 5), (1, 5), (5, 3), (2, 2), (4, 1), (0, 3))
    taken = right_or_refused(recorder, model, *([(a,), (2, b)] for a, b in sizes))
    assert taken == [True] * 5 + [False]


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


class Net(nn.Module):
    """Batch, two sequences that depend on each other, and a cut of them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        both = torch.cat([memory, self.mix(query)], 1)
        attended = F.scaled_dot_product_attention(query, both, both)
        if memory.shape[1] >= query.shape[1]:
            attended = attended + memory[:, : query.shape[1]]
        return attended.unflatten(1, (2, -1))


def test_several_open_sizes_at_other_sizes_than_the_traced(tmp_path):
    shapes = ({0: "batch", 1: "queries"}, {0: "batch", 1: "memory"})
    recorder = GoldenRecorder(tmp_path)
    model = Net().eval()
    recorder.record(model, draw(2, 4, 4), draw(2, 6, 4), dynamic_shapes=list(shapes))
    for batch in (1, 2, 5):
        for queries in range(0, 9):
            for memory in range(0, 9):
                inputs = [(batch, queries, 4), (batch, memory, 4)]
                expected = queries % 2 == 0 and memory >= queries
                assert right_or_refused(recorder, model, inputs) == [expected]


def _dim(form):
    if isinstance(form, dict):
        ((op, operands),) = form.items()
        return DimExpr(op, tuple(_dim(o) for o in operands))
    return form


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
