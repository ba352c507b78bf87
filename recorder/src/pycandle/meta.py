"""Building a model without its weights: parameters on meta, everything else as usual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from .attributes import Attributes, kept, storage
from .errors import RecordError

_T = TypeVar("_T")


@contextmanager
def meta_device() -> Iterator[None]:
    """Inside, modules are built with their parameters on meta; buffers keep their values.

    A parameter moves to meta the moment it is registered, before the module's initialisation
    writes to it, so memory that `torch.empty` reserved for it is never touched.
    Outside `nn.Module` nothing changes, so values computed during construction are real.
    """
    original = nn.Module.register_parameter
    moved: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def register_parameter(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(self, name, param)
        registered = self._parameters.get(name)
        if registered is None or is_lazy(registered) or registered.device.type == "meta":
            return
        if id(registered) not in moved:
            moved[id(registered)] = (registered, _to_meta(registered))
        self._parameters[name] = moved[id(registered)][1]

    nn.Module.register_parameter = register_parameter  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def _to_meta(param: nn.Parameter) -> nn.Parameter:
    """`param` itself, now on meta, where torch can swap it; otherwise a twin on meta.

    Swapping keeps the identity, so code that holds on to the parameter to tie it still does, and
    it frees the memory.
    """
    twin = type(param)(param.detach().to("meta"), requires_grad=param.requires_grad)
    for key, value in vars(param).items():
        setattr(twin, key, value)
    try:
        torch.utils.swap_tensors(param, twin)
    except RuntimeError:
        return twin
    return param


def has_values(model: nn.Module, inputs: Any) -> bool:
    """Whether no parameter or buffer of `model` and no tensor in `inputs` is on meta."""
    held = [*model.parameters(), *model.buffers(), *pytree.tree_leaves(inputs)]
    return not any(isinstance(t, torch.Tensor) and t.device.type == "meta" for t in held)


def non_persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that no checkpoint holds, by dotted name."""
    found = {}
    for prefix, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            buffer = module._buffers.get(name)
            if buffer is not None:
                found[f"{prefix}.{name}" if prefix else name] = buffer
    return found


def check_values(model: nn.Module) -> None:
    """Raises RecordError when a tensor that no checkpoint holds has lost its value on meta."""
    lost = [n for n, b in non_persistent_buffers(model).items() if b.device.type == "meta"]
    _refuse_lost("non-persistent buffer", lost)
    held = set(model.modules())
    for path, value in _attributes(model):
        items = value.values() if type(value) is dict else value
        parts = list(items) if type(value) in (list, tuple, dict) else []
        if any(isinstance(p, nn.Module) and p not in held and _on_meta(p) for p in parts):
            raise RecordError(
                f"`{path}` keeps modules where PyTorch does not see their weights: keep them in "
                "`nn.ModuleList` or `nn.ModuleDict`"
            )


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            yield f"{prefix}.{name}" if prefix else name, value


def _on_meta(module: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in module.parameters())


def refuse_lost_constants(program: ExportedProgram, lost: Mapping[int, str]) -> None:
    """Raises RecordError when `program` reads an attribute of these, which have no values.

    They are named by the storage that stands for theirs.
    """
    read = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    inputs = program.graph_signature.input_specs
    constants = [s for s in inputs if s.kind is InputKind.CONSTANT_TENSOR and s.arg.name in read]
    tensors = [program.constants[str(spec.target)] for spec in constants]
    found = [lost.get(storage(t)) for t in tensors if isinstance(t, torch.Tensor)]
    _refuse_lost("attribute", [path for path in found if path is not None])


def _refuse_lost(kind: str, lost: list[str]) -> None:
    if lost:
        names = ", ".join(f"`{n}`" for n in lost)
        raise RecordError(
            f"no checkpoint holds the {kind} {names}, and its value was lost on meta; build the "
            'model inside `with pycandle.meta_device():` instead of `with torch.device("meta"):`, '
            f"or assign the {kind.split()[-1]} after construction"
        )


@contextmanager
def as_on_cpu(model: nn.Module, inputs: _T) -> Iterator[tuple[_T, dict[int, str]]]:
    """Inside, what is on meta in `model` looks as on the CPU; yields `inputs` with the same done.

    Each input is a tensor of its own there, in memory of its own: a trace takes two arguments that
    are one tensor for one input, and an argument that the model keeps for what it keeps.

    These tensors have a shape and no memory, as on meta. But tensors that `forward` makes or keeps
    as attributes lie on the CPU and have values that the trace needs, operators refuse tensors of
    two devices, and a model that asks for its device takes the path that goldens can be made by.

    Attributes that are neither parameters nor buffers are constants of a program, which have to
    have memory: one element stands for each that was lost. Yields their paths by storage, too.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    twins: dict[int, torch.Tensor] = {}
    lost: dict[int, str] = {}

    def shaped(tensor: torch.Tensor) -> torch.Tensor:
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)

    def own(tensor: torch.Tensor) -> torch.Tensor:
        return shaped(tensor) if tensor.is_meta else tensor.detach().clone()

    def twin(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in twins:
            made = shaped(tensor)
            is_parameter = isinstance(tensor, nn.Parameter)
            twins[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if is_parameter else made
        return twins[id(tensor)]

    held = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for path, tensor in Attributes(model).values.items():
        if isinstance(tensor, torch.Tensor) and tensor.is_meta and id(tensor) not in held:
            element = torch.zeros((), dtype=tensor.dtype)
            twins[id(tensor)] = element.expand(tensor.shape)
            lost[storage(element)] = path
    with kept(model, lambda value: twin(value) if isinstance(value, torch.Tensor) else value):
        yield pytree.tree_map_only(torch.Tensor, own, inputs), lost
