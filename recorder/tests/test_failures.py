"""What is said when a model cannot be recorded: where, what, and what mends it."""

from __future__ import annotations

import errno
import os

import pytest
import small
import torch
from torch import nn

from pycandle import GoldenRecorder, RecordError, meta_device


class Inner(nn.Module):
    """Calls a function in a module of its own, so that the place of an error is not the root."""

    def __init__(self, function) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.function = function

    def forward(self, x: torch.Tensor):
        return self.function(self.linear(x))


def _branch(x):
    return x if x.sum() > 0 else -x


def _wrong_shape(x):
    return x @ x


def _missing(x):
    return {}["mine"] + x


def _item(x):
    return x * x.sum().item()


def _numpy(x):
    return torch.from_numpy(x.numpy())


def _some(x):
    return x[x[:, 0] > 0]


def _scaled_mask(x):
    x[x < 0] *= 0.5
    return x


def _as_many(x):
    return x.new_zeros(x.long().sum().item(), 3)


WHERE = r"module `0\.1` \(test_failures\.py:\d+\)"


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize(
    ("function", "says"),
    [
        (_branch, rf"^{WHERE} takes a path that depends on the values of a tensor.*torch\.where"),
        (_wrong_shape, rf"^{WHERE} cannot be recorded: RuntimeError: .*has to run on these inp"),
        (_missing, rf"^{WHERE} cannot be recorded: KeyError: 'mine'; forward has to run on"),
        (_numpy, rf"^{WHERE} cannot be recorded: .*; forward has to run on these inputs"),
        (_item, rf"in {WHERE} makes a Python number of a tensor's value.*keep it a tensor"),
        (_some, rf"in {WHERE}: a size depends on the values of a tensor.*`torch\.where` and"),
        (_scaled_mask, rf"in {WHERE}: a size depends on the values of a tensor.*`masked_fill`"),
        (_as_many, r"test_failures\.py:\d+: a size depends on the values of a tensor.*`item\(\)`"),
    ],
)
def test_a_failure_in_the_model_is_one_line_with_its_place(
    tmp_path, capfd, function, says, on_meta
):
    with meta_device() if on_meta else torch.device("cpu"):
        model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), Inner(function))).eval()
    x = torch.randn(2, 4, device="meta" if on_meta else "cpu")
    with pytest.raises(RecordError, match=says) as caught:
        GoldenRecorder(tmp_path).record(model, x)
    said = str(caught.value)
    assert "\n" not in said
    assert not any(word in said for word in ("export", "draft", "torch._check", "u0", "Dynamo"))
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err and "aten" not in shown.err + shown.out
    # The model is as it was.
    assert not model._forward_hooks
    assert all(p.device == x.device for p in model.parameters())


def test_the_exception_stays_the_cause(tmp_path):
    with pytest.raises(RecordError) as caught:
        GoldenRecorder(tmp_path).record(Inner(_missing).eval(), torch.randn(2, 4))
    assert isinstance(caught.value.__cause__, KeyError)


class Plain:
    pass


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda _: None, "forward of Inner returns nothing: let it return"),
        (lambda _: (), "forward of Inner returns nothing: let it return"),
        (lambda x: (x, Plain()), r"forward of Inner returns Plain \(`\[1\]`\).*return tensors"),
        (lambda x: (x, 3), r"output `\[1\]` is 3, not a tensor: leave it out, or make"),
        (lambda x: (x, "a"), r"output `\[1\]` is 'a', not a tensor: leave it out, or make"),
    ],
)
def test_results_without_a_form_are_errors(tmp_path, function, says):
    with pytest.raises(RecordError, match=says):
        GoldenRecorder(tmp_path).record(Inner(function).eval(), torch.randn(2, 4))


def test_an_output_that_is_a_size_is_an_error(tmp_path):
    model = Inner(lambda x: (x, x.shape[0])).eval()
    with pytest.raises(RecordError, match=r"output `\[1\]` is a size, not a tensor: leave it out"):
        GoldenRecorder(tmp_path).record(model, torch.randn(2, 4), dynamic_shapes=[{0: "a"}])


def test_a_size_that_is_a_fraction_is_an_error(tmp_path):
    model = Inner(lambda x: nn.functional.interpolate(x, scale_factor=1.1)).eval()
    says = r"in the model \(.*: a size is computed with Float, .*`size=` in place of `scale_factor="
    with pytest.raises(RecordError, match=says):
        GoldenRecorder(tmp_path).record(model, torch.randn(1, 3, 2, 4), dynamic_shapes=[{2: "a"}])


def test_compiled_models_are_errors(tmp_path):
    compiled = torch.jit.script(nn.Linear(4, 4).eval())
    for model in (compiled, nn.Sequential(compiled).eval()):
        with pytest.raises(RecordError, match=r"is TorchScript.*record the `torch.nn.Module` that"):
            GoldenRecorder(tmp_path).record(model, torch.randn(2, 4))


def test_an_operator_that_raises_for_some_values_is_named(tmp_path):
    recorder = GoldenRecorder(tmp_path, decompose=["aten.linalg_inv"])
    with pytest.raises(
        RecordError, match=r"^the model.*: aten\._linalg_check_errors\.default raises"
    ):
        recorder.record(Inner(torch.linalg.inv).eval(), torch.randn(4, 4))


@pytest.mark.parametrize("model", [None, 3, nn.Linear])
def test_what_is_no_module_is_an_error(tmp_path, model):
    with pytest.raises(RecordError, match=r"give a `torch\.nn\.Module`"):
        GoldenRecorder(tmp_path).record(model, torch.randn(2, 4))


def test_decomposing_in_vain_is_an_error(tmp_path):
    def record(function, *names):
        recorder = GoldenRecorder(tmp_path, decompose=names)
        return recorder.record(Inner(function).eval(), torch.randn(2, 4))

    says = r"decompose=\['aten\.special_i0e'\].*`prims\.bessel_i0e` comes of it"
    with pytest.raises(RecordError, match=says):
        record(torch.special.i0e, "aten.special_i0e")
    assert record(torch.relu, "aten.special_i0e").nodes[-1].op == "aten.relu.default"


@pytest.mark.parametrize("name", ["bad/name", "..", "", "a\\b", "x" * 300, "a\0b", None])
def test_a_name_that_is_no_file_name_is_an_error(tmp_path, name):
    recorder = GoldenRecorder(tmp_path / "out")
    recorder.record(small.Mlp().eval(), torch.randn(2, 6))
    with pytest.raises(RecordError, match="is not a name for files: give"):
        recorder.save(name)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    recorder = GoldenRecorder(tmp_path / "file")
    recorder.record(small.Mlp().eval(), torch.randn(2, 6))
    with pytest.raises(RecordError, match=r"cannot write .*file"):
        recorder.save("m")


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch, whole):
    recorder = GoldenRecorder(tmp_path)
    recorder.record(small.Mlp().eval(), torch.randn(2, 6))
    before = {path: path.read_bytes() for path in (recorder.save("m"), *tmp_path.iterdir())}
    written = 0

    def fsync(_: int) -> None:
        nonlocal written
        written += 1
        if written > whole:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RecordError, match=r"cannot write .*/m[._].*: No space left on device"):
        recorder.save("m", weights=True)
    # The manifest is the last of them, and an earlier one goes first.
    kept = {path for path in before if path.name != "m_manifest.json"}
    weights = {tmp_path / "m.safetensors"} if whole == 2 else set()
    assert set(tmp_path.iterdir()) == kept | weights
    assert all(path.read_bytes() == before[path] for path in kept)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"a": torch.randn(2, 4)}, "missing a required argument"),
        (
            (torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 3, device="meta")),
            "`a` has dtype torch.int64, expected torch.float32; `b` is on meta and has no values",
        ),
        ({"a": 3, "b": torch.randn(2, 3)}, "`a` is of type int, expected a tensor"),
        (
            {"a": torch.randn(2, 4), "b": torch.randn(2, 3), "c": torch.randn(2)},
            "`c` is no input of the model",
        ),
        ("ab", "of type str: give a tuple"),
        (None, "of type NoneType: give a tuple"),
    ],
)
def test_inputs_of_goldens_that_do_not_fit_are_errors(record, inputs, says):
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a[:, :3] + b

    got = record(Two(), torch.randn(2, 4), torch.randn(2, 3))
    with pytest.raises(RecordError, match=says):
        got.recorder.record_goldens(got.recorder._model, inputs)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, scale=1.0, options=None, *, negate=False):
        y = self.linear(x) * scale
        for factor in options or ():
            y = y * factor
        return -y if negate else y


X = torch.randn(2, 4)


def test_an_argument_that_is_none_may_be_left_out(tmp_path):
    model = Scaled().eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, X, 0.5, options=None)
    recorder.record_goldens(model, (X, 0.5), case="x")
    recorder.record_goldens(model, ((X, 0.5), {"options": None}), case="y")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ((X, 0.9, [2, 3]), "`scale` is 0.9, and fixed to 0.5 by the trace: give that, or record"),
        ({"x": X, "scale": 123.0}, "`scale` is 123.0, and fixed to 0.5"),
        ({"x": X, "options": [2, 4]}, r"`options\[1\]` is 4, and fixed to 3"),
        ({"x": X, "negate": True}, "`negate` is True, and fixed to False"),
        ((X, 0.5), r"`options\[0\]` is missing, and fixed to 2"),
        ((X, 0.5, [2, 3, 4]), r"`options\[2\]` is 4, and no argument of the trace"),
        (((X, 0.5, [2, 3]), {"negate": 0}), "`negate` is 0, and fixed to False"),
        ((X,), "`scale` is 1.0, and fixed to 0.5 by the trace.*`options"),
    ],
)
def test_goldens_of_another_call_are_errors(record, inputs, says):
    got = record(Scaled(), X, 0.5, options=[2, 3])
    with pytest.raises(RecordError, match=says):
        got.recorder.record_goldens(got.recorder._model, inputs, case="x")


@pytest.mark.parametrize(
    "inputs",
    [
        (X, 0.5, [2, 3]),
        ((X,), {"negate": False, "scale": 0.5, "options": [2, 3]}),
        {"x": X},  # tensors by the names of the inputs
        {"x": X, "scale": 0.5, "options": [2, 3]},
    ],
)
def test_goldens_of_the_traced_call_are_taken(record, inputs):
    got = record(Scaled(), X, 0.5, options=[2, 3])
    got.recorder.record_goldens(got.recorder._model, inputs, case="x")
    assert torch.equal(got.golden(".x")[0]["output.output"], got.golden()[0]["output.output"])


def test_an_operator_that_does_not_run_is_named(record):
    got = record(nn.Embedding(3, 4), torch.zeros(2, dtype=torch.long))
    says = r"aten\.embedding\.default in the model .*does not run on these inputs: IndexError"
    with pytest.raises(RecordError, match=says):
        got.recorder.record_goldens({"weight": torch.zeros(3, 4)}, (torch.tensor([1, 7]),))


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (3, "the checkpoint is of type int: give a path"),
        (None, "the checkpoint is of type NoneType"),
        ({"weight": 3}, "weight are not tensors"),
        ({"weight": torch.zeros(3, 4, dtype=torch.int32)}, "has dtype torch.int32, expected torch"),
        ({"table": torch.zeros(3, 4)}, "lacks 1 weights: weight; it has table"),
    ],
)
def test_checkpoints_that_do_not_fit_are_errors(record, checkpoint, says):
    got = record(nn.Embedding(3, 4), torch.zeros(2, dtype=torch.long))
    with pytest.raises(RecordError, match=says):
        got.recorder.record_goldens(checkpoint, (torch.tensor([1, 2]),))
