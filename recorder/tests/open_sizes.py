"""Models of one function, and for which sizes their manifests hold."""

from __future__ import annotations

import json

import torch
from torch import nn

from pycandle import GoldenRecorder, RecordError
from pycandle.schema import DimExpr

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


def dim_of(form):
    if isinstance(form, dict):
        ((op, operands),) = form.items()
        return DimExpr(op, tuple(dim_of(o) for o in operands))
    return form
