"""For which sizes a manifest says that it holds."""

from __future__ import annotations

import pytest
import torch
from open_sizes import (
    A,
    B,
    OneFn,
    draw,
    holds,
    limits,
    recorded,
    right_or_refused,
)
from torch import nn
from torch.nn import functional as F

from pycandle import GoldenRecorder, RecordError


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


def test_what_only_grows_is_a_range(tmp_path):
    def some(x):
        n = x.shape[0]
        return x + 1 if n + min(n, 1) > 0 and max(n // 3, n - 9) < 7 else x * 2

    manifest, recorder, model = recorded(tmp_path, some, draw(4))
    assert (limits(manifest), holds(manifest)) == ({"a": (1, 15)}, [])
    assert right_or_refused(recorder, model, (1,), (15,), (0,), (16,)) == [True, True, False, False]


def test_equal_sizes_are_any_size(tmp_path):
    _, recorder, model = recorded(tmp_path, torch.add, draw(4, 3), draw(4, 3), shapes=(A, A))
    assert right_or_refused(recorder, model, [(1, 3), (1, 3)], [(0, 3), (0, 3)]) == [True, True]


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


def test_a_dim_is_a_name_whose_bounds_the_model_has_to_take(tmp_path):
    def cut(x):
        return x[:8] * 2 if x.shape[0] > 10 else x

    dim = torch.export.Dim
    for said in ("n", dim("n"), dim("n", min=11), dim("n", max=64)):
        manifest, recorder, model = recorded(tmp_path, cut, draw(12), shapes=({0: said},))
        most = getattr(said, "max", None)
        assert limits(manifest) == {"n": (11, most if isinstance(most, int) else None)}
        assert right_or_refused(recorder, model, [(11,)], [(10,)]) == [True, False]
    for said, wider in ((dim("n", min=4, max=64), "64"), (dim("n", min=10), None)):
        bounds = "min=11, max=64" if wider else "min=11"
        pattern = rf"test_conditions.py:\d+: what is traced .* from 11 .*Dim\(\"n\", {bounds}\)"
        with pytest.raises(RecordError, match=pattern):
            recorded(tmp_path, cut, draw(12), shapes=({0: said},))
    with pytest.raises(RecordError, match=r"`n` \(axis 0 of `x`\) can only be 12; .*shapes$"):
        steps = lambda x: x * torch.linspace(0, 1, x.shape[0])  # noqa: E731
        recorded(tmp_path, steps, draw(12), shapes=({0: dim("n", min=4)},))
    with pytest.raises(RecordError, match=r"can only be 3; leave .*, or name the axes of other"):
        recorded(tmp_path, torch.add, draw(3), draw(3), shapes=({0: dim("n")}, None))
    with pytest.raises(RecordError, match=r"of `x` and one of `y` `n`, but they are 3 and 4"):
        recorded(tmp_path, lambda x, y: (x, y), draw(3), draw(4), shapes=({0: dim("n")},) * 2)


def test_a_size_is_computed_from_one_that_an_axis_has(tmp_path):
    h = torch.export.Dim("h", min=1, max=8)
    shapes = ({0: h}, {0: 2 * h})
    manifest, recorder, model = recorded(
        tmp_path, lambda x, y: x.repeat(2) + y, draw(3), draw(6), shapes=shapes
    )
    assert limits(manifest) == {"h": (1, 8)}
    assert right_or_refused(recorder, model, [(5,), (10,)], [(9,), (18,)]) == [True, False]
    pattern = r"the size `2\*h` \(axis 0 of `x`\) from one that no axis has: call it by one name"
    with pytest.raises(RecordError, match=pattern):
        recorded(tmp_path, lambda x: x + 1, draw(6), shapes=({0: 2 * h},))


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
