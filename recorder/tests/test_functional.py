"""The program that a second trace would give, without one where nothing asks for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from pycandle.blocks import blocks_stay_in_place
from pycandle.clean import clean
from pycandle.functional import functional


class Model(nn.Module):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4, dtype=torch.bfloat16)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(4))
        self.run = run

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def attending(m: Model, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = m.linear(x.to(torch.bfloat16))
    y = y.reshape(x.shape[0], -1, 2, 2).transpose(1, 2).contiguous()
    y = F.scaled_dot_product_attention(y, y, y, is_causal=True)
    return y.transpose(1, 2).reshape(*x.shape).float()


def casting(m: Model, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    whole = x.to("cpu", torch.int64, copy=True)
    twice = x.to(torch.float64).to(x.dtype, memory_format=torch.contiguous_format)
    return whole, twice, x.to(torch.float32), x.float().double(), whole.bool()


def unused(m: Model, x: torch.Tensor) -> torch.Tensor:
    x.sum(-1).exp()
    return torch.stack([part + 1 for part in x.unbind(-1)]).expand(4, -1, -1)


def writing(m: Model, x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 0].add_(1)
    return y


def keeping(m: Model, x: torch.Tensor) -> torch.Tensor:
    m.count.copy_(x.mean((0, 1)))
    return x + m.count


def normed(m: Model, x: torch.Tensor) -> torch.Tensor:
    return m.norm(x.transpose(1, 2)).flatten(1)


def autocast(m: Model, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.linear(x)


def rotating(m: Model, x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * 1j)


AT_ONCE = [attending, casting, unused]
TRACED_AGAIN = [writing, keeping, normed, autocast, rotating]


def exported(run: Any) -> ExportedProgram:
    given = (torch.randn(3, 5, 4),)
    shapes = {"x": {0: Dim.AUTO, 1: Dim.AUTO}}
    model = Model(run).eval().requires_grad_(False)
    with blocks_stay_in_place(model):
        return torch.export.export(model, given, dynamic_shapes=shapes, strict=False)


def written(program: ExportedProgram) -> list[str]:
    """What is computed, node by node: operators, operands, shapes and dtypes."""
    clean(program.graph)
    numbers: dict[Any, str] = {}
    lines = []
    for node in program.graph.nodes:
        numbers[node] = f"%{len(numbers)}"
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), numbers.__getitem__)  # type: ignore
        values = node.meta.get("val")
        values = values if isinstance(values, (list, tuple)) else [values]
        of = [(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v for v in values]
        given = node.name if node.op == "placeholder" else node.target
        lines.append(f"{given} {args} {kwargs} {of} {list(node.meta.get('nn_module_stack', {}))}")
    return lines


@pytest.mark.parametrize("run", AT_ONCE + TRACED_AGAIN)
def test_the_program_is_that_of_a_second_trace(run):
    program = exported(run)
    found = functional(program, {})
    assert (found is program) == (run in AT_ONCE)
    assert written(found) == written(exported(run).run_decompositions({}))


def test_what_is_to_come_apart_is_traced_again():
    program = exported(attending)
    table = torch.export.default_decompositions()
    only = {op: table[op] for op in table if op is torch.ops.aten.transpose.int}
    assert functional(program, only) is not program
