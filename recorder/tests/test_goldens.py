"""Goldens: what they hold, and that they are the model's own values."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from pathlib import Path

import pytest
import small
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from weights import randomise

from pycandle import GoldenRecorder, RecordError, goldens, meta_device
from pycandle.checkpoint import Checkpoint


def test_goldens_hold_inputs_outputs_modules_and_truth(record):
    model = small.Twice().eval()
    x = torch.randn(2, 4)
    got = record(model, x)
    golden, meta = got.golden()
    seen = []
    model.block.register_forward_hook(lambda _m, _i, out: seen.append(out))
    expected = model(x)
    assert torch.equal(golden["input.x"], x)
    assert torch.equal(golden["output.output"], expected)
    assert torch.equal(golden["block#0.out.0"], seen[0])
    assert torch.equal(golden["block#1.out.0"], seen[1])
    truth = golden["truth:output.output"]
    assert truth.dtype == torch.float64
    assert torch.allclose(truth, model.double()(x.double()), rtol=1e-14)
    assert meta["format"] == "pycandle-goldens-1"
    assert meta["dtype"] == "float32" and meta["truth_dtype"] == "float64"
    assert meta["manifest"] == hashlib.sha256(got.text.encode()).hexdigest()


def test_truth_of_bfloat16_is_float32(record):
    got = record(small.Mlp().bfloat16(), torch.randn(2, 6, dtype=torch.bfloat16))
    golden, meta = got.golden()
    assert got.manifest["dtype"] == "bfloat16" and meta["truth_dtype"] == "float32"
    assert golden["output.output"].dtype == torch.bfloat16
    assert golden["truth:output.output"].dtype == torch.float32


def test_integers_have_no_truth(record):
    golden, _ = record(small.TupleOutput(), torch.randn(2, 3, 4)).golden()
    assert golden["output.output_1"].dtype == torch.int64
    assert "truth:output.output_1" not in golden


def test_cases_with_other_sizes_lie_beside_the_first(record):
    got = record(small.Mlp(), torch.randn(2, 6), shapes=[{0: "batch"}])
    got.recorder.record_goldens(got.recorder._model, (torch.randn(7, 6),), case="seven")
    golden, _ = got.golden(".seven")
    assert golden["output.output"].shape == (7, 5)


def test_goldens_need_the_models_own_path(tmp_path):
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.shape[0] < 4 else x - 1

    recorder = GoldenRecorder(tmp_path)
    model = Branch().eval()
    recorder.record(model, torch.zeros(2, 3), dynamic_shapes=[{0: "batch"}])
    with pytest.raises(RecordError, match=r"size `batch` is 5, outside 0\.\.3"):
        recorder.record_goldens(model, (torch.zeros(5, 3),), case="other")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_goldens_of_padding_are_those_of_the_traced_path(record):
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
            return self.encoder(x, src_key_padding_mask=padding)

    model, x = Padded(), torch.randn(2, 5, 8)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    axes = {0: "batch", 1: "sequence"}
    golden, _ = record(model, x, padding, shapes=[axes, axes]).golden()
    with torch.no_grad():
        own = model(x, padding)  # on the fast path
    assert torch.equal(own[padding], torch.zeros(2, 8))
    assert golden["output.output"][padding].abs().min() > 0
    torch.testing.assert_close(golden["output.output"][~padding], own[~padding])


def test_wrong_inputs_are_an_error(record):
    got = record(small.Mlp(), torch.randn(2, 6))
    with pytest.raises(RecordError, match=r"shape \[3, 6\], expected \[2, 6\]"):
        got.recorder.record_goldens(got.recorder._model, (torch.randn(3, 6),))


@pytest.mark.parametrize("max_memory", [None, 64, "64B"])
def test_goldens_after_a_meta_trace_equal_those_of_the_real_model(tmp_path, max_memory):
    real = small.Cnn().eval()
    randomise(real)
    x = torch.randn(2, 2, 8, 8)
    direct = GoldenRecorder(tmp_path / "direct")
    direct.record(real, x)
    direct.save("m", weights=True)
    with meta_device():
        empty = small.Cnn().eval()
    streamed = GoldenRecorder(tmp_path / "streamed")
    streamed.record(empty, x.to("meta"))
    streamed.save("m")
    assert not (tmp_path / "streamed" / "m_trace.safetensors").exists()
    weights = tmp_path / "direct" / "m.safetensors"
    streamed.record_goldens(weights, (x,), max_memory=max_memory)
    (tensors, meta), (others, other_meta) = (
        _read(tmp_path / folder / "m_trace.safetensors") for folder in ("direct", "streamed")
    )
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)
    assert meta["checkpoint"] == other_meta["checkpoint"]


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118


def test_streaming_holds_one_weight_at_a_time(tmp_path, monkeypatch):
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(8)]).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    with meta_device():
        empty = nn.Sequential(*[nn.Linear(64, 64) for _ in range(8)]).eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(empty, torch.zeros(1, 64, device="meta"))
    alive: list[weakref.ref] = []
    most = 0
    plain = Checkpoint.tensor

    def counted(self: Checkpoint, name: str) -> torch.Tensor:
        nonlocal most
        tensor = plain(self, name)
        alive.append(weakref.ref(tensor))
        most = max(most, sum(r() is not None for r in alive))
        return tensor

    monkeypatch.setattr(Checkpoint, "tensor", counted)
    recorder.record_goldens(tmp_path / "w.safetensors", (torch.randn(1, 64),), max_memory=1)
    assert most <= 3


def test_checkpoint_faults_are_errors(tmp_path):
    recorder = GoldenRecorder(tmp_path)
    with meta_device():
        model = small.Mlp().eval()
    recorder.record(model, torch.zeros(2, 6, device="meta"))
    state = small.Mlp().state_dict()
    x = (torch.randn(2, 6),)
    with pytest.raises(RecordError, match="no weights at"):
        recorder.record_goldens(tmp_path / "none.safetensors", x)
    with pytest.raises(RecordError, match=r"lacks 1 weights: up\.bias"):
        recorder.record_goldens({k: v for k, v in state.items() if k != "up.bias"}, x)
    with pytest.raises(RecordError, match=r"`up.bias` has shape \[3\], expected \[16\]"):
        recorder.record_goldens({**state, "up.bias": torch.zeros(3)}, x)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(RecordError, match="cannot read the weights"):
        recorder.record_goldens(tmp_path / "bad.safetensors", x)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(RecordError, match="is not an index of shards"):
        recorder.record_goldens(tmp_path / "model.safetensors.index.json", x)


def test_tied_weights_that_are_both_there_must_be_equal(tmp_path):
    model = small.Tied().eval()
    recorder = GoldenRecorder(tmp_path)
    x = (torch.tensor([[1, 2]]),)
    recorder.record(model, *x)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "both.safetensors")
    recorder.record_goldens(tmp_path / "both.safetensors", x, max_memory=1)
    one = {name: tensor for name, tensor in state.items() if name != "embed.weight"}
    recorder.record_goldens(one, x)
    says = r"`embed\.weight` and `head\.weight` are one tensor in the model and differ"
    for other in (state["head.weight"] + 1, state["head.weight"][:1], state["head.weight"].half()):
        given = {**state, "head.weight": other}
        with pytest.raises(RecordError, match=says):
            recorder.record_goldens(given, x)
        save_file(given, tmp_path / "differ.safetensors")
        with pytest.raises(RecordError, match=r"differ\.safetensors: " + says):
            recorder.record_goldens(tmp_path / "differ.safetensors", x)


def test_saving_removes_goldens_of_an_earlier_recording(record, tmp_path):
    got = record(small.Mlp(), torch.randn(2, 6), shapes=[{0: "batch"}])
    got.recorder.record_goldens(got.recorder._model, (torch.randn(7, 6),), case="seven")
    got.recorder.save("m_trace")
    got.recorder.save("m")
    save_file({"x": torch.zeros(1)}, tmp_path / "m_trace.mine.safetensors")
    (tmp_path / "m_trace.bad.safetensors").write_bytes(b"no header")
    with meta_device():
        model = small.Mlp().eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, torch.zeros(2, 6, device="meta"))
    recorder.save("m")
    assert sorted(p.name for p in tmp_path.glob("*_trace*.safetensors")) == [
        "m_trace.bad.safetensors",
        "m_trace.mine.safetensors",
        "m_trace_trace.safetensors",
        "m_trace_trace.seven.safetensors",
    ]


def test_saving_twice_writes_goldens_for_both(record, tmp_path):
    got = record(small.Mlp(), torch.randn(2, 6))
    got.recorder.save("other")
    first, second = (
        _read(tmp_path / "m_trace.safetensors"),
        _read(tmp_path / "other_trace.safetensors"),
    )
    assert all(torch.equal(first[0][key], second[0][key]) for key in first[0])
    text = (tmp_path / "other_manifest.json").read_bytes()
    assert second[1]["manifest"] == hashlib.sha256(text).hexdigest()


def test_what_is_asked_wrongly_leaves_nothing_behind(record, tmp_path):
    model = small.Mlp()
    got = record(model, torch.randn(2, 6))
    for case in ("a/b", "../x", ""):
        with pytest.raises(RecordError, match="is not a name for files"):
            got.recorder.record_goldens(model, (torch.randn(2, 6),), case=case)
    with pytest.raises(RecordError, match="'much' is not a size of memory; write it in bytes, or"):
        got.recorder.record_goldens(model, (torch.randn(2, 6),), max_memory="much")
    got.recorder.save("again")
    with meta_device():
        model = small.Mlp().eval()
    recorder = GoldenRecorder(tmp_path / "meta")
    recorder.record(model, torch.zeros(2, 6, device="meta"))
    says = r"has up\.weight, .* on meta, without values: give weights by name to `save_w"
    with pytest.raises(RecordError, match=says):
        recorder.save("m", weights=True)
    assert not (tmp_path / "meta").exists()


class Stray(nn.Module):
    """Has another path for values that it was not traced with, which the trace cannot see."""

    stray = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        if not torch.compiler.is_exporting():
            y = y * (1 + self.stray)
        return torch.cat([y, torch.full_like(y[:, :1], torch.finfo(y.dtype).min)], 1)


@pytest.mark.parametrize(
    ("dtype", "stray"),
    [
        (torch.float64, 1e-10),
        (torch.float32, 1e-4),
        (torch.bfloat16, 1e-2),
        (torch.float16, 2e-3),
    ],
)
def test_another_path_is_seen_in_every_precision_and_beside_fills(tmp_path, dtype, stray):
    model = Stray().to(dtype).eval()
    x = torch.randn(2, 64, dtype=dtype)
    GoldenRecorder(tmp_path).record(model, x)
    model.stray = stray
    with pytest.raises(RecordError, match="differs from the model's by up to"):
        GoldenRecorder(tmp_path).record(model, x)


def test_fills_are_compared_exactly():
    fill = torch.tensor([1.0, -1e9])
    assert goldens._close(fill, fill * torch.tensor([1 + 1e-6, 1.0]), 1e-5)
    assert not goldens._close(fill, torch.tensor([1.0, -9.99e8]), 1e-5)
    odd = torch.tensor([float("nan"), float("inf"), 2.0])
    assert goldens._close(odd, odd.clone(), 1e-5)
    assert not goldens._close(odd, torch.tensor([float("nan"), -float("inf"), 2.0]), 1e-5)


def test_rounding_that_differs_in_half_precision_is_no_other_path():
    expected = {"y": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}
    truth = torch.tensor([1.0, 2.01])
    golden = {"output.y": torch.tensor([1.0, 2.015625], dtype=torch.bfloat16)}
    golden["truth:output.y"] = truth
    goldens.compare(golden, expected, lambda: {"y": truth.clone()})
    goldens.compare(golden, expected, lambda: None)
    with pytest.raises(RecordError, match="differs"):
        goldens.compare(golden, expected, lambda: {"y": truth * 1.001})


class Counting(nn.Module):
    """Gives something else each time, by what is kept outside of it, which nothing would say."""

    calls = itertools.count(1)

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        return self.inner(x) * max(1, next(self.calls) - 1)


def test_goldens_of_a_checkpoint_are_those_of_the_model(tmp_path):
    with meta_device():
        model = Counting().eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, torch.zeros(1, 3, device="meta"))
    weights = nn.Linear(3, 2).state_dict()
    state = {f"inner.{name}": tensor for name, tensor in weights.items()}
    recorder.record_goldens(state, (torch.randn(1, 3),))
    with pytest.raises(RecordError, match="the trace differs from the model's"):
        recorder.record_goldens(state, (torch.randn(1, 3),))
