"""What `forward` writes to the model itself."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, OutputSpec
from torch.fx import Node

from .errors import RecordError
from .failures import KEEPS_NOTHING

_MUTATIONS = (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION)


def refuse_hidden_state(program: ExportedProgram) -> None:
    """Raises RecordError when a run of `program` changes what the next one computes.

    A buffer that `forward` overwrites as a whole before anything reads it is no state: in the graph
    its readers take what was written.
    """
    changed = [spec for spec in program.graph_signature.output_specs if spec.kind in _MUTATIONS]
    faults = [f"`{spec.target}`" for spec in changed if not _overwritten(program, spec)]
    if faults:
        raise RecordError(f"forward changes {', '.join(faults)}; {KEEPS_NOTHING}")


def _overwritten(program: ExportedProgram, spec: OutputSpec) -> bool:
    kind = InputKind.BUFFER if spec.kind is OutputKind.BUFFER_MUTATION else InputKind.PARAMETER
    inputs = program.graph_signature.input_specs
    names = {s.arg.name for s in inputs if s.kind is kind and s.target == spec.target}
    held = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    writes = [user for node in held for user in node.users]
    if not all(replaces(user) for user in writes):
        return False
    for write in writes:
        write.replace_all_uses_with(write.args[1])  # type: ignore[arg-type]
        program.graph.erase_node(write)
    return True


def replaces(node: Node) -> bool:
    """Whether `node` gives another tensor in place of a buffer, of its shape and dtype."""
    if node.target is not torch.ops.aten.copy.default or not isinstance(node.args[1], Node):
        return False
    old, new = (x.meta["val"] for x in node.args[:2])  # type: ignore[union-attr]
    return node.args[0] is not node.args[1] and (old.shape, old.dtype) == (new.shape, new.dtype)
