"""Attributes that forward changes: caches are recorded, and what a later call reads is refused."""

from __future__ import annotations

import copy
import math
from collections import Counter, OrderedDict, UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as all_modules

from pycandle import RecordError, meta_device

N = {"x": {0: "n"}}


class Kept(nn.Module):
    """Keeps an attribute in a submodule, which `step` computes by and changes."""

    def __init__(self, step: Any, **attributes: Any) -> None:
        super().__init__()
        self.block = nn.Module()
        for name, value in attributes.items():
            setattr(self.block, name, value)
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.step(self.block, x) + 1


def running(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.h = x.mean(0) if block.h is None else block.h * 0.9 + x.mean(0)
    return x * block.h


def decaying(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.h = block.h * 0.9
    return x * block.h


def counting(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.seen["calls"][0] += 1
    return x * block.seen["calls"][0]


def tallying(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.seen["calls"] += 1
    return x * block.seen["calls"]


def warming_up(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.calls += 1
    return x if block.calls < 3 else -x


def delaying(block: Any, x: torch.Tensor) -> torch.Tensor:
    y = x * block.older
    block.older, block.newer = block.newer, x.mean(0)
    return y


def alternating(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.mode = "b" if block.mode == "a" else "a"
    return x if block.mode == "a" else -x


def switching(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.act, block.other = block.other, block.act
    return block.act(x)


def appending(block: Any, x: torch.Tensor) -> torch.Tensor:
    state = block.state
    state.rows = x if state.rows is None else torch.cat([state.rows, x])
    return x + state.rows.sum(0)


def centred_by_first(block: Any, x: torch.Tensor) -> torch.Tensor:
    if not block.ready:
        block.mean, block.ready = x.mean(0), True
    return x - block.mean


def in_place(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.h.mul_(0.9)
    return x * block.h


def settled(block: Any, x: torch.Tensor) -> torch.Tensor:
    if math.isnan(block.scale):
        block.scale = 2.0
        return x
    return x * block.scale


class Named(dict[str, int]):
    """Of a class of the model's own."""


@dataclass(slots=True)
class Rows:
    rows: torch.Tensor | None


def turning(block: Any, x: torch.Tensor) -> torch.Tensor:
    first = next(iter(block.scales))
    block.scales.move_to_end(first)
    return x * block.scales[first]


def pointing(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.now = block.all[1] if block.now is block.all[0] else block.all[0]
    return x * block.now.scale


def emptying(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.full, block.empty = block.empty, block.full
    return x if isinstance(block.full, dict) else -x


def signing(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.zero = -block.zero
    return x * math.copysign(2.0, block.zero)


def counting_in_place(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.count[0] += 1
    return x * float(block.count[0])


def in_a_stray_module(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.stray[0].h = block.stray[0].h + x.mean(0)
    return x * block.stray[0].h


def stray() -> nn.Module:
    module = nn.Module()
    module.register_buffer("h", torch.zeros(3), persistent=False)
    return module


SCALES = [SimpleNamespace(scale=1.0), SimpleNamespace(scale=2.0)]
REMEMBERS = {
    "unset": (settled, {"scale": math.nan}, r"`block\.scale` \(from nan to 2\.0\)"),
    "input": (running, {"h": torch.zeros(3)}, r"tensor `block\.h`.*from its inputs"),
    "later": (running, {"h": None}, r"tensor `block\.h`.*from its inputs"),
    "alone": (decaying, {"h": torch.ones(3)}, r"tensor `block\.h`.*something else"),
    "number": (
        counting,
        {"seen": {"calls": [0]}},
        r"`block\.seen\['calls'\]\[0\]` \(from 0 to 1\)",
    ),
    "string": (alternating, {"mode": "a"}, r"`block\.mode` \(from 'a' to 'b'\)"),
    "tally": (
        tallying,
        {"seen": Counter(calls=0)},
        r"`block\.seen\['calls'\]` \(from 0 to 1\)",
    ),
    "subclass": (
        tallying,
        {"seen": Named(calls=0)},
        r"`block\.seen\['calls'\]` \(from 0 to 1\)",
    ),
    "third call": (warming_up, {"calls": 0}, r"`block\.calls` \(from 0 to 2\)"),
    "delay": (
        delaying,
        {"older": torch.ones(3), "newer": torch.ones(3)},
        r"tensor `block\.older`.*from its inputs",
    ),
    "function": (
        switching,
        {"act": torch.relu, "other": torch.tanh},
        r"`block\.act`, `block\.other`, and",
    ),
    "slots": (appending, {"state": Rows(None)}, r"tensor `block\.state\.rows`"),
    "order": (turning, {"scales": OrderedDict(a=1.0, b=2.0)}, r"`block\.scales \(order\)`"),
    "pointer": (pointing, {"all": SCALES, "now": SCALES[0]}, r"`block\.now`"),
    "no parts": (emptying, {"full": [], "empty": {}}, r"`block\.empty`, `block\.full`"),
    "module": (switching, {"act": nn.ReLU(), "other": nn.Tanh()}, r"`block\.act`"),
    "sign": (signing, {"zero": 0.0}, r"`block\.zero` \(from 0\.0 to -0\.0\)"),
    "array": (counting_in_place, {"count": np.zeros(1)}, r"`block\.count`, and"),
    "stray": (in_a_stray_module, {"stray": [stray()]}, r"tensor `block\.stray\[0\]\.h`"),
    "user dict": (tallying, {"seen": UserDict(calls=0)}, r"`block\.seen\.data\['calls'\]`"),
    "object": (appending, {"state": SimpleNamespace(rows=None)}, r"tensor `block\.state\.rows`"),
    "flag": (centred_by_first, {"ready": False, "mean": None}, r"tensor `block\.mean`"),
    "in place": (in_place, {"h": torch.ones(3)}, r"writes to the tensor `block\.h`"),
}


def afterwards(model: nn.Module) -> dict[str, Any]:
    """All attributes of `model`, and what is in its dicts, to be compared by identity."""
    found = {
        (path, name): value for path, m in model.named_modules() for name, value in vars(m).items()
    }
    dicts = [(of, value) for of, value in found.items() if isinstance(value, dict)]
    return found | {(of, key): value for of, held in dicts for key, value in held.items()}


def same(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    return list(before) == list(after) and all(v is after[k] for k, v in before.items())


@pytest.mark.parametrize("name", REMEMBERS)
def test_what_a_later_call_reads_is_refused_by_name(name, record):
    step, attributes, said = REMEMBERS[name]
    model = Kept(step, **copy.deepcopy(attributes)).eval()
    before = afterwards(model)
    with pytest.raises(RecordError, match=said + r".*pass it as an argument and return it"):
        record(model, torch.randn(5, 3), shapes=N)
    assert same(before, afterwards(model))
    for part in ("seen", "state"):  # what is kept in them is the same, too
        assert getattr(model.block, part, None) == attributes.get(part)


def test_what_a_hook_of_the_users_changes_is_seen(record):
    model = Kept(lambda block, x: x * block.n, n=1).eval()
    model.register_forward_pre_hook(lambda m, _: setattr(m.block, "n", m.block.n + 1))
    with pytest.raises(RecordError, match=r"`block\.n` \(from 1 to 2\)"):
        record(model, torch.randn(5, 3), shapes=N)
    assert model.block.n == 1


def doubled(*parts: Any) -> torch.Tensor:
    return parts[-1] * 2


def hooking(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.inner.register_forward_hook(doubled)
    return block.inner(x)


def hooking_everything(block: Any, x: torch.Tensor) -> torch.Tensor:
    all_modules.register_module_forward_hook(doubled)
    return block.inner(x)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (hooking, r"`block\.inner\._forward_hooks`"),
        (hooking_everything, r"`torch\.nn\.modules\.module\._global_forward_hooks`"),
    ],
)
def test_hooks_that_add_up_are_seen(step, said, record):
    model = Kept(step, inner=nn.ReLU()).eval()
    before, of_all = afterwards(model), dict(all_modules._global_forward_hooks)
    with pytest.raises(RecordError, match=said + ", and a later call computes something else"):
        record(model, torch.randn(5, 3), shapes=N)
    assert same(before, afterwards(model)) and all_modules._global_forward_hooks == of_all


def hooking_once(block: Any, x: torch.Tensor) -> torch.Tensor:
    if not block.hooked:
        block.inner.register_forward_hook(doubled)
        block.inner.register_forward_pre_hook(lambda m, args, kwargs: None, with_kwargs=True)
        block.hooked = True
    return block.inner(x)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_hooks_of_the_first_call_are_there_once(device, record):
    model = Kept(hooking_once, inner=nn.Linear(3, 3), hooked=False).to(device).eval()
    x, before = torch.randn(5, 3, device=device), afterwards(model)
    first = record(model, x, shapes=N)
    assert first.ops == ["aten.linear.default", "aten.mul.Tensor", "aten.add.Tensor"]
    assert same(before, afterwards(model))
    assert record(model, x, shapes=N).text == first.text
    for _ in range(2):
        model(x)
        assert len(model.block.inner._forward_hooks) == 1


def test_what_stays_is_not_named(record):
    model = Kept(counting, seen={"calls": [0]}, linear=nn.Linear(3, 3), spare=[nn.ReLU()])
    with pytest.raises(RecordError, match=r"^forward changes `block\.seen\['calls'\]\[0\]` \("):
        record(model, torch.randn(5, 3), shapes=N)


def test_a_model_that_changes_nothing_is_traced_once(record, monkeypatch):
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("pycandle.trace.refuse_memory", never)

    def sized(block: Any, x: torch.Tensor) -> torch.Tensor:
        block.width = (x.shape[-1], None)
        return block.stack(x)

    stack = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model = Kept(sized, stack=stack, width=(3, None))
    record(model, torch.randn(5, 3), shapes=N)


def test_a_buffer_of_a_submodule_that_forward_replaces_is_state(record):
    model = Kept(running)
    model.block.register_buffer("h", torch.zeros(3))
    with pytest.raises(RecordError, match=r"tensor `block\.h`.*pass it as an argument"):
        record(model, torch.randn(5, 3), shapes=N)


def waves(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None].cos()


def filled_once(block: Any, x: torch.Tensor) -> torch.Tensor:
    if block.cos is None or block.cos.shape[0] < x.shape[0]:
        block.cos = waves(x.shape[0])
    return x * block.cos[: x.shape[0]]


def filled_by_length(block: Any, x: torch.Tensor) -> torch.Tensor:
    if x.shape[0] != block.length:
        block.cos, block.length = waves(x.shape[0]), x.shape[0]
    return x * block.cos


def registered(block: Any, x: torch.Tensor) -> torch.Tensor:
    if not hasattr(block, "cos"):
        block.register_buffer("cos", waves(x.shape[0]), persistent=False)
    return x * block.cos[: x.shape[0]]


def noted(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.calls += 1
    block.last, block.log = x * 2, [*block.log, x]
    return x * waves(x.shape[0])


def converted(block: Any, x: torch.Tensor) -> torch.Tensor:
    block.scale = block.scale.to(x.dtype)
    return x * waves(x.shape[0]) * block.scale


FORGETS = {
    "absent": (filled_once, {"cos": None}),
    "too short": (filled_once, {"cos": torch.zeros(2, 1)}),
    "by length": (filled_by_length, {"cos": None, "length": 0}),
    "buffer": (registered, {}),
    "never read": (noted, {"calls": 0, "log": []}),
    "converted": (converted, {"scale": torch.ones(3, dtype=torch.float64)}),
}


@pytest.mark.parametrize("name", FORGETS)
def test_what_is_computed_again_is_recorded_for_every_size(name, record):
    step, attributes = FORGETS[name]
    model = Kept(step, **copy.deepcopy(attributes)).eval()
    before = afterwards(model)
    recorded = record(model, torch.randn(5, 3), shapes=N)
    for size in (7, 3):
        x = torch.randn(size, 3)
        recorded.recorder.record_goldens(model, (x,))
        tensors, _ = recorded.golden()
        assert same(before, afterwards(model))
        assert torch.equal(tensors["output.output"], x * waves(size) + 1)


class Buffers(nn.Module):
    """Writes to buffers as a whole, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros(3))
        self.register_buffer("spare", torch.zeros(3))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.scale.copy_(x.mean(0))
        self.spare[:] = x.amax(0)
        return x * self.scale + self.spare


def test_what_is_overwritten_before_it_is_read_is_no_state(record):
    x = torch.randn(5, 3)
    recorded = record(Buffers(), x, shapes=N)
    tensors, _ = recorded.golden()
    assert torch.equal(tensors["output.output"], x * x.mean(0) + x.amax(0))


@dataclass
class Measured:
    """Its class asks something of what it is made of."""

    y: torch.Tensor

    def __post_init__(self) -> None:
        self.size = self.y.shape[-1]


def test_results_of_any_class_are_compared(record):
    def measured(block: Any, x: torch.Tensor) -> Measured:
        block.calls += 1
        return Measured(x * 2)

    class Model(Kept):
        def forward(self, x: torch.Tensor) -> Any:
            return self.step(self.block, x)

    assert record(Model(measured, calls=0), torch.randn(5, 3), shapes=N).ops == ["aten.mul.Tensor"]


def test_on_meta_it_is_the_same(record):
    class Model(nn.Module):
        def __init__(self, h: torch.Tensor | None) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.h = h
            self.weight: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.weight is None:
                self.weight = self.linear.weight.softmax(0)
            y = x @ self.weight
            if self.h is not None:
                self.h = self.h + y.mean(0)
                y = y * self.h
            return y

    with meta_device():
        good, bad = Model(None), Model(torch.zeros(3))
    x = torch.empty(5, 3, device="meta")
    assert "aten.softmax.int" in record(good, x, shapes=N).ops
    with pytest.raises(RecordError, match=r"tensor `h`"):
        record(bad, x, shapes=N)


def test_an_open_size_as_a_key_is_an_error_that_says_so(record):
    def looked_up(block: Any, x: torch.Tensor) -> torch.Tensor:
        return x * block.made.setdefault(x.shape[0], waves(x.shape[0]))

    with pytest.raises(RecordError, match=r"test_memory\.py:\d+.*open size as the key of a dict"):
        record(Kept(looked_up, made={}), torch.randn(5, 3), shapes=N)
    record(Kept(looked_up, made={}), torch.randn(5, 3))
