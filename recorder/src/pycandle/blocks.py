"""Keeps what runs within `torch.autocast` or `torch.enable_grad` in the modules that it is of.

torch.export moves such a block into a graph of its own. Taken back from there, its operators have
neither the modules that they were called in nor their Python lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch._export.passes import replace_autocast_with_hop_pass as autocast
from torch._export.passes import replace_set_grad_with_hop_pass as gradients
from torch.export import ExportGraphSignature
from torch.fx import GraphModule

_Signature = ExportGraphSignature | None


@contextmanager
def blocks_stay_in_place(model: nn.Module) -> Iterator[None]:
    """Inside, operators stay between those that begin and end a block, which a decomposition runs:
    what autocast casts then stands in the graph. No parameter asks for a gradient."""
    before = autocast.replace_autocast_with_hop_pass, gradients.replace_set_grad_with_hop_pass
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def stay(gm: GraphModule, graph_signature: _Signature) -> tuple[GraphModule, _Signature]:
        return gm, graph_signature

    autocast.replace_autocast_with_hop_pass = stay
    gradients.replace_set_grad_with_hop_pass = stay
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        autocast.replace_autocast_with_hop_pass, gradients.replace_set_grad_with_hop_pass = before
        for parameter in trained:
            parameter.requires_grad_(True)
