"""A batch of one and a length of one are sizes like any other to the layers of PyTorch."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pycandle import GoldenRecorder, RecordError

draw = torch.randn
BATCH_AND_LENGTH = {0: "batch", 1: "length"}


class Cross(nn.Module):
    """Attention over another sequence, with padding and weights."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, x, memory, padding):
        return self.attention(x, memory, memory, key_padding_mask=padding)


class Attend(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class First(nn.Module):
    """The first of a module's results."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        return self.inner(*inputs)[0]


class Circular(nn.Module):
    def forward(self, x):
        return F.pad(x.transpose(1, 2), (1, 1), mode="circular")


def _layer(kind=nn.TransformerEncoderLayer, **options):
    return kind(8, 2, 12, dropout=0.0, batch_first=True, **options)


def _encoder():
    return nn.TransformerEncoder(_layer(norm_first=True), 2, enable_nested_tensor=False)


def _decoder():
    return nn.TransformerDecoder(_layer(nn.TransformerDecoderLayer), 2)


def _norm():
    return nn.BatchNorm1d(8).eval()


@pytest.mark.parametrize("traced", [(1, 4), (2, 1), (1, 1), (3, 4)])
@pytest.mark.parametrize("make", [Attend, _layer, _encoder, Circular])
def test_one_sequence_of_any_batch_and_length(tmp_path, make, traced):
    model = make().eval()
    recorder = GoldenRecorder(tmp_path)
    manifest = recorder.record(model, draw(*traced, 8), dynamic_shapes=[BATCH_AND_LENGTH])
    assert [(s.max, s.min < 2) for s in manifest.symbols] == [(None, True)] * 2
    assert manifest.conditions == ()
    for batch, length in ((1, 1), (1, 5), (4, 1), (2, 3)):
        recorder.record_goldens(model, (draw(batch, length, 8),), case="x")


@pytest.mark.parametrize("traced", [(1, 4, 1), (2, 1, 3), (1, 1, 1), (3, 4, 5)])
@pytest.mark.parametrize("make", [Cross, _decoder])
def test_two_sequences_of_any_batch_and_length(tmp_path, make, traced):
    def inputs(batch, length, memory):
        both = draw(batch, length, 8), draw(batch, memory, 8)
        return both if make is _decoder else (*both, torch.zeros(batch, memory, dtype=torch.bool))

    memory = {0: "batch", 1: "memory"}
    model = make().eval()
    recorder = GoldenRecorder(tmp_path)
    given = inputs(*traced)
    shapes = [BATCH_AND_LENGTH, memory, memory][: len(given)]
    assert recorder.record(model, *given, dynamic_shapes=shapes).conditions == ()
    for sizes in ((1, 1, 1), (1, 5, 1), (4, 1, 3), (2, 3, 1)):
        recorder.record_goldens(model, inputs(*sizes), case="x")


@pytest.mark.parametrize("traced", [(1, 1), (3, 5)])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN, partial(nn.RNN, nonlinearity="relu")])
def test_recurrent_layers_of_any_batch_and_length(tmp_path, kind, traced):
    model = First(kind(4, 6, 2, batch_first=True, bidirectional=True)).eval()
    recorder = GoldenRecorder(tmp_path)
    shapes = {"inputs": [BATCH_AND_LENGTH]}
    manifest = recorder.record(model, draw(*traced, 4), dynamic_shapes=shapes)
    assert manifest.conditions == () and [s.min for s in manifest.symbols] == [0, 1]
    for batch, length in ((1, 1), (2, 7), (5, 1), (1, 3)):
        recorder.record_goldens(model, (draw(batch, length, 4),), case="x")


def test_a_recurrent_layer_takes_a_state_of_its_batch(tmp_path):
    class Stepped(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(4, 6, proj_size=3)

        def forward(self, x, h, c):
            return self.cell(x, (h, c))

    sizes = ({0: "length", 1: "batch"}, {1: "batch"}, {1: "batch"})
    recorder = GoldenRecorder(tmp_path)
    given = draw(5, 2, 4), draw(1, 2, 3), draw(1, 2, 6)
    manifest = recorder.record(Stepped().eval(), *given, dynamic_shapes=sizes)
    assert [value.name for value in manifest.outputs] == ["output_0", "output_1_0", "output_1_1"]
    apart = ({0: "length", 1: "batch"}, {1: "other"}, {1: "other"})
    with pytest.raises(RecordError, match="other"):
        recorder.record(Stepped().eval(), *given, dynamic_shapes=apart)


def test_a_recurrent_layer_that_is_taken_apart_keeps_its_length(tmp_path):
    model = First(nn.GRU(4, 6, batch_first=True)).eval()
    recorder = GoldenRecorder(tmp_path, decompose=["aten.gru"])
    with pytest.raises(RecordError, match="length"):
        recorder.record(model, draw(2, 5, 4), dynamic_shapes={"inputs": [BATCH_AND_LENGTH]})


def test_batch_norm_takes_an_empty_batch(tmp_path):
    recorder = GoldenRecorder(tmp_path)
    model = _norm()
    manifest = recorder.record(model, draw(2, 8, 3), dynamic_shapes=[{0: "batch", 2: "length"}])
    assert manifest.conditions == ()
    for sizes in ((0, 8, 3), (1, 8, 1), (2, 8, 0)):
        recorder.record_goldens(model, (draw(*sizes),), case="x")


@pytest.mark.parametrize("traced", [(1, 3, 2), (2, 4, 5)])
@pytest.mark.parametrize("channels", [1, 4])
def test_convolutions_take_images_of_any_size(tmp_path, traced, channels):
    layers = [nn.Conv2d(channels, 4, 3, 2, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)]
    model = nn.Sequential(*layers).eval()
    recorder = GoldenRecorder(tmp_path)
    batch, *size = traced
    shapes = [{0: "batch", 2: "height", 3: "width"}]
    manifest = recorder.record(model, draw(batch, channels, *size), dynamic_shapes=shapes)
    assert manifest.conditions == () and [s.min for s in manifest.symbols] == [0, 1, 1]
    for batch, *size in ((1, 1, 1), (0, 3, 3), (1, 6, 1), (3, 1, 2)):
        recorder.record_goldens(model, (draw(batch, channels, *size),), case="x")


def test_instance_norm_takes_any_batch_and_refuses_a_length_of_one(tmp_path):
    model = nn.InstanceNorm1d(8, affine=True).eval()
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, draw(1, 8, 3), dynamic_shapes=[{0: "batch", 2: "length"}])
    for batch in (1, 2):
        recorder.record_goldens(model, (draw(batch, 8, 4),), case="x")
    with pytest.raises(RecordError, match="length"):
        recorder.record_goldens(model, (draw(2, 8, 1),), case="x")


def test_torch_is_as_it_was():
    before = torch.Tensor.contiguous, torch._debug_has_internal_overlap
    with pytest.raises(RecordError):
        GoldenRecorder("unused").record(nn.Linear(2, 3).eval(), draw(4, 4))
    assert (torch.Tensor.contiguous, torch._debug_has_internal_overlap) == before
    assert "contiguous" not in vars(torch.Tensor)
