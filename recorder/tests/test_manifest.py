"""What a manifest says about a model."""

from __future__ import annotations

import pytest
import small
import torch
from torch import nn

from pycandle import GoldenRecorder, RecordError
from pycandle.convert import _fixed, list_parameters


def test_module_called_twice_has_two_calls(record):
    got = record(small.Twice(), torch.randn(2, 4))
    assert [c[:2] for c in got.calls()] == [
        ("", 0),
        ("block", 0),
        ("block.0", 0),
        ("block.1", 0),
        ("block", 1),
        ("block.0", 1),
        ("block.1", 1),
        ("head", 0),
    ]
    linear = [n for n in got.nodes if n["op"] == "aten.linear.default"]
    assert [n["args"]["weight"]["param"] for n in linear[:2]] == ["block.0.weight"] * 2


def test_outputs_of_a_call_are_the_values_used_outside_it(record):
    got = record(small.TupleOutput(), torch.randn(2, 3, 4))
    by_module = {m: outputs for m, _, outputs in got.calls()}
    assert by_module["rnn.cell"] == ["linear"]
    assert by_module[""] == ["mul", "argmax"]


def test_tied_weight_is_named_as_the_module_that_uses_it_names_it(record):
    got = record(small.Tied(), torch.tensor([[1, 2]]))
    tied = {p["name"]: p["tied_to"] for p in got.manifest["parameters"]}
    assert tied["embed.weight"] is None
    assert tied["head.weight"] == "embed.weight"
    used = {n["op"]: n["args"]["weight"]["param"] for n in got.nodes if "weight" in n["args"]}
    assert used["aten.embedding.default"] == "embed.weight"
    assert used["aten.linear.default"] == "head.weight"


def test_shared_module_keeps_both_names(record):
    got = record(small.Shared(), torch.randn(2, 4))
    assert {"first", "second"} <= {m["path"] for m in got.manifest["modules"]}
    tied = {p["name"]: p["tied_to"] for p in got.manifest["parameters"]}
    assert tied["second.weight"] == "first.weight"
    assert {c[0] for c in got.calls()} >= {"first", "second"}


def test_constants_take_their_shortest_form(record):
    class Constants(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("full", torch.full((3, 4), 0.5), persistent=False)
            self.register_buffer("range", torch.arange(4) * 2 + 1, persistent=False)
            self.register_buffer("list", torch.tensor([1.0, -2.0, 0.25, 7.5]), persistent=False)
            self.register_buffer("file", torch.randn(5000, 4), persistent=False)
            self.register_buffer("kept", torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + self.full.sum(0) + self.range + self.list + self.file.sum(0) + self.kept
            return y * torch.tensor([1.0, 2.0, 3.0, 5.0])

    got = record(Constants(), torch.randn(2, 4))
    data = {c["name"]: c["data"] for c in got.manifest["constants"]}
    assert data["full"] == {"full": 0.5}
    assert data["range"] == {"arange": {"start": 1, "step": 2}}
    assert data["list"] == {"list": [1.0, -2.0, 0.25, 7.5]}
    assert data["file"] == {"file": "m_constants.safetensors"}
    assert {"list": [1.0, 2.0, 3.0, 5.0]} in data.values()
    assert (got.folder / "m_constants.safetensors").exists()
    assert [p["name"] for p in got.manifest["parameters"]] == ["kept"]


def test_sizes_are_expressions_over_named_symbols(record):
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.reshape(x.shape[0] * x.shape[1], -1)
            return torch.cat([y, y[1:]])

    got = record(Flat(), torch.randn(2, 3, 4), shapes=[{0: "batch", 1: "rows"}])
    assert got.manifest["symbols"] == [
        {"name": "batch", "min": 0, "max": None},
        {"name": "rows", "min": 0, "max": None},
    ]
    assert got.nodes[0]["args"]["size"][0] == {"sym": {"mul": ["batch", "rows"]}}


def test_range_follows_the_models_own_conditions(record):
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("position", torch.arange(64)[None], persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[0] > 3:
                raise ValueError("too many")
            return x + self.position[:, : x.shape[1]]

    got = record(Bounded(), torch.randn(2, 5), shapes={"x": {0: "batch", 1: "length"}})
    limits = {s["name"]: (s["min"], s["max"]) for s in got.manifest["symbols"]}
    assert limits == {"batch": (0, 3), "length": (0, 64)}


def test_extended_input_is_a_state(record):
    shapes = [{0: "batch", 1: "sequence"}, {0: "batch", 1: "past"}]
    inputs = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    got = record(small.Recurrent(), *inputs, shapes=shapes, states=["past"])
    assert got.manifest["states"] == [
        {
            "name": "past",
            "layer": 0,
            "slot": "value",
            "input": "past",
            "output": "output_1",
            "dim": 1,
        }
    ]


def test_inputs_and_outputs_keep_paths(record):
    batch = {"x": torch.randn(2, 3, 4), "weight": torch.randn(2, 3)}
    got = record(small.DictOutput(), batch)
    assert [(i["name"], i["path"]) for i in got.manifest["inputs"]] == [
        ("batch_x", "batch.x"),
        ("batch_weight", "batch.weight"),
    ]
    assert [o["path"] for o in got.manifest["outputs"]] == ["hidden", "pooled.mean", "pooled.max"]


class Views(nn.Module):
    """Parameters that are the same memory, a part of it, or another view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Parameter(torch.zeros(2, 2))
        self.same = nn.Parameter(self.whole.data)
        self.turned = nn.Parameter(self.whole.data.T)
        self.part = nn.Parameter(self.whole.data[1])
        self.apart = nn.Parameter(self.whole.data.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.whole + self.same + self.turned + self.part + self.apart


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_is_what_is_the_same_memory(device):
    with torch.device(device):
        model = Views()
    tied = {p.name: p.tied_to for p in list_parameters(model) if p.tied_to}
    assert tied == {"same": "whole"}


def test_an_argument_that_has_no_form_is_refused():
    # torch.export refuses most of them itself.
    assert [_fixed("a", value) for value in (True, 2, 0.5, "x")] == [True, 2, 0.5, "x"]
    with pytest.raises(RecordError, match="`then` is of type Tanh, which the manifest has no form"):
        _fixed("then", nn.Tanh())


def test_other_arguments_are_fixed_inputs(record):
    got = record(
        small.ManyInputs(), torch.randn(2, 4), torch.randn(2, 3), gate=torch.randn(2, 6), gain=0.5
    )
    assert got.manifest["fixed_inputs"] == [{"name": "gain", "value": 0.5}]


def test_nodes_know_their_source_line_without_absolute_paths(record):
    got = record(small.Mlp(), torch.randn(2, 6))
    assert all(n["at"].startswith("small.py:") for n in got.nodes)
    assert "/" not in got.nodes[0]["at"]


def test_nothing_that_computes_nothing_is_left(record):
    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.exp()  # dead
            empty = torch.tensor([])
            return torch.cat([empty, self.drop(x).clone().detach().contiguous()], 0) + 1

    assert record(Noise(), torch.randn(2, 3)).ops == ["aten.add.Tensor"]


def test_same_model_gives_same_bytes(tmp_path):
    texts = []
    for folder in ("a", "b"):
        torch.manual_seed(0)
        recorder = GoldenRecorder(tmp_path / folder)
        recorder.record(small.Cnn().eval(), torch.ones(2, 2, 8, 8), dynamic_shapes=[{0: "batch"}])
        recorder.save("m", weights=True)
        texts.append([p.read_bytes() for p in sorted((tmp_path / folder).iterdir())])
    assert texts[0] == texts[1]


def test_training_mode_is_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"call `model.eval\(\)` first"):
        GoldenRecorder(tmp_path).record(small.Mlp(), torch.randn(2, 6))


def test_hidden_state_is_an_error(record):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add_(1)
            return x + self.seen

    with pytest.raises(RecordError, match="forward changes `seen`"):
        record(Counting(), torch.randn(2))


def test_complex_values_are_an_error_with_operator_and_module(record):
    class Spectrum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.rfft(x).abs()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spectrum = Spectrum()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.spectrum(x)

    with pytest.raises(RecordError, match=r"fft.* in module `spectrum` \(.*of sines"):
        record(Outer(), torch.randn(8))


def test_unknown_and_unequal_sizes_are_errors(record):
    x, y = torch.randn(2, 4), torch.randn(3, 3)
    gate = torch.randn(2, 6)
    with pytest.raises(RecordError, match=r"dynamic_shapes names \['z'\]"):
        record(small.Mlp(), torch.randn(2, 6), shapes={"z": {0: "batch"}})
    with pytest.raises(RecordError, match="`batch`, but they are 2 and 3"):
        shapes = {"a": {0: "batch"}, "b": {0: "batch"}}
        record(small.ManyInputs(), x, y, gate=gate, shapes=shapes)
    with pytest.raises(RecordError, match="nowhere is not among the names"):
        record(small.Mlp(), torch.randn(2, 6), shapes={"x": {0: "nowhere + 1"}})


class Gated(nn.Module):
    def forward(self, x):
        return nn.functional.glu(x)


def test_an_operator_is_decomposed_on_request(tmp_path):
    def ops(**options):
        recorder = GoldenRecorder(tmp_path, **options)
        return [node.op for node in recorder.record(Gated().eval(), torch.randn(2, 4)).nodes]

    assert ops() == ["aten.glu.default"]
    decomposed = ops(decompose=["aten.glu"])
    assert "aten.sigmoid.default" in decomposed and "aten.glu.default" not in decomposed


def test_an_operator_without_decomposition_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"no decomposition of aten\.mm"):
        GoldenRecorder(tmp_path, decompose=["aten.mm"]).record(Gated().eval(), torch.randn(2, 4))
    with pytest.raises(RecordError, match=r"no operator `glu`"):
        GoldenRecorder(tmp_path, decompose=["glu"]).record(Gated().eval(), torch.randn(2, 4))


def test_a_negative_zero_is_kept(record):
    class Zeros(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mixed", torch.tensor([0.0, -0.0]), persistent=False)
            self.register_buffer("minus", torch.full((2,), -0.0), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / self.mixed + x / self.minus

    data = {c["name"]: c["data"] for c in record(Zeros(), torch.ones(2)).manifest["constants"]}
    assert str(data["mixed"]["list"]) == "[0.0, -0.0]"
    assert str(data["minus"]["full"]) == "-0.0"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.rand(3),
        torch.randn_like,
        torch.bernoulli,
        nn.functional.dropout,
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    ],
)
def test_random_operators_are_an_error_with_operator_module_and_line(record, function):
    class Draw(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.draw = Draw()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.draw(x)

    pattern = r"aten.* in module `draw` \(test_manifest.py:\d+\) draws random numbers"
    with pytest.raises(RecordError, match=pattern):
        record(Outer(), torch.full((2, 3), 0.5))


def test_dropout_that_is_off_is_not_random(record):
    class Off(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.scaled_dot_product_attention(x, x, x)
            return nn.functional.rrelu(nn.functional.dropout(y, training=False))

    assert record(Off(), torch.randn(1, 2, 3)).ops[0].startswith("aten.scaled_dot")
