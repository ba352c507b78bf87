"""The recorder that users call."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from . import goldens, huggingface, tensorfile
from .accepted import check_model
from .arguments import argument_leaves, by_name, leaves, plain_leaves, take_dataclasses
from .attributes import identity, kept
from .checkpoint import Checkpoint, memory_size
from .convert import convert
from .errors import RecordError, shown, writing
from .failures import explained
from .files import finished
from .meta import has_values
from .schema import FileData, Manifest, to_json
from .trace import Trace, trace, without_fast_path

_CHEAP = 2**28  # bytes of weights that may be copied to raise them


class GoldenRecorder:
    """Records one model into `output_dir`: its manifest, its goldens and, on request, its weights.

    `seed` is only noted in the goldens, for whoever wants to make the inputs again.
    `decompose` names operators (`["aten.glu"]`) that are to be traced as the simpler ones that
    PyTorch defines them by: the way out when code generation does not know an operator.
    `states` says which arguments are state, as a cache of keys and values is: the recorder takes
    tensors for that when a module appends to them, reads what comes of them and returns that too,
    and at least two of them grow by one size. Generated code takes a state as a cache to append to,
    and returns nothing for it. `states=False` leaves every argument an argument, `states=["past"]`
    names those that are state; what was found is in `manifest.states`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        seed: int | None = None,
        decompose: Sequence[str] = (),
        states: bool | Sequence[str] = True,
    ) -> None:
        self._dir = Path(output_dir)
        if not isinstance(states, bool) and not isinstance(states, Sequence):
            raise RecordError(f"states is {states!r}: give True, False or a list of names")
        self._states = states
        self._decompose = tuple(decompose)
        self._seed = seed
        self._model: nn.Module | None = None
        self._traced: Trace | None = None
        self._manifest: Manifest | None = None
        self._constants: dict[str, torch.Tensor] = {}
        self._name: str | None = None
        self._chosen: dict[str, Any] = {}  # arguments that the user left to the recorder
        self._cases: dict[str | None, tuple[dict[str, torch.Tensor], str]] = {}

    @property
    def manifest(self) -> Manifest:
        """The manifest of the recorded model."""
        if self._manifest is None:
            raise RecordError("nothing is recorded yet; call `record(model, …)` first")
        return self._manifest

    def record(
        self, model: nn.Module, *args: Any, dynamic_shapes: Any = None, **kwargs: Any
    ) -> Manifest:
        """Traces `model` for these arguments; with real weights also records goldens for them.

        `dynamic_shapes` is, per argument name (or in order), nested as the argument is, a mapping
        from axis to the size's name, as `{"input_ids": {0: "batch", 1: "sequence"}}`; equal names
        are equal sizes, and a sum of names such as `"past + sequence"` says what a size must be.
        A `Dim` of `torch.export` is a name as well; with bounds, of which the model has to take all
        sizes. What else `torch.export` takes works too. Of a cache of transformers it is a list of
        the layers, each `{"key": {0: "batch", 2: "past"}, "value": {0: "batch", 2: "past"}}`; a
        model of transformers that would make one of its own is recorded with `use_cache=False`,
        with a warning, unless `use_cache` is among the arguments.
        """
        check_model(model)
        with explained(model):
            self._chosen = {}
            try:
                with _caches_as_said(model, args, kwargs):
                    traced = trace(model, args, kwargs, dynamic_shapes, self._decompose)
            except huggingface.CacheMadeError:
                self._chosen = {"use_cache": False}
                kwargs = kwargs | self._chosen
                traced = trace(model, args, kwargs, dynamic_shapes, self._decompose)
            _warn_of_cache(traced, self._chosen)
            self._manifest, self._constants = convert(model, traced, "model", self._states)
        self._model, self._traced = model, traced
        self._name = None
        self._cases = {}
        if has_values(model, (args, kwargs)):
            self._record_case(self._own_weights(), (args, kwargs), None, weights={})
        return self._manifest

    def save(self, name: str, weights: bool = False) -> Path:
        """Writes `<name>_manifest.json` and what was recorded; returns the manifest's path.

        Goldens of an earlier recording under this name (`<name>_trace*.safetensors`) are removed:
        they do not belong to the new manifest. Only files that say in their metadata that they are
        goldens of this recorder are removed. May be called again with another name.
        """
        check_name(name)
        if weights:
            self._own_weights()  # says so where there are none, before anything is written
        self._manifest = _named(self.manifest, name)
        self._name = name
        with writing(self._dir):
            return self._save(name, weights)

    def _save(self, name: str, weights: bool) -> Path:
        self._dir.mkdir(parents=True, exist_ok=True)
        path = self._dir / f"{name}_manifest.json"
        path.unlink(missing_ok=True)  # what it speaks of is replaced file by file
        large = {c.name for c in self.manifest.constants if isinstance(c.data, FileData)}
        if large:
            tensors = {n: self._constants[n].contiguous() for n in sorted(large)}
            tensorfile.write(self._dir / f"{name}_constants.safetensors", tensors, {})
        goldens.remove_stale(self._dir, name, {self._golden_file(case) for case in self._cases})
        for case in self._cases:
            self._write_case(case)
        if weights:
            self.save_weights(name)
        with finished(path) as file:
            file.write(to_json(self.manifest).encode())
        return path

    def use_config(self, config: dict[str, Any]) -> None:
        """Puts this `config.json` into the manifest, in place of what transformers made of it."""
        self._manifest = replace(self.manifest, config=config)

    def save_weights(self, name: str, state: Mapping[str, torch.Tensor] | None = None) -> Path:
        """Writes `<name>.safetensors` with the model's weights, or those given by name.

        Of a tied group it holds one tensor, under its first name.
        """
        check_name(name)
        source = self._own_weights() if state is None else Checkpoint(state, self.manifest)
        tensors = {p.name: source.tensor(p.name) for p in self.manifest.parameters if not p.tied_to}
        plain = {n: t.contiguous().clone() for n, t in tensors.items()}
        path = self._dir / f"{name}.safetensors"
        with writing(path):
            self._dir.mkdir(parents=True, exist_ok=True)
            tensorfile.write(path, plain, {"format": "pt"})
        return path

    def record_goldens(
        self,
        checkpoint: str | Path | nn.Module | Mapping[str, torch.Tensor],
        inputs: Mapping[str, Any] | tuple[Any, ...] | list[Any],
        max_memory: int | str | None = None,
        case: str | None = None,
    ) -> None:
        """Records goldens for `inputs`, run on real weights.

        `checkpoint` is a safetensors file, a folder or index of shards, a model with real weights,
        or tensors by name. `inputs` are the positional arguments, or the arguments by name, or
        tensors by the manifest's input names; what is no tensor has to be what the trace was made
        with. When the weights take more than `max_memory` (bytes, or text such as "8GiB"), each is
        read when it is first needed and dropped after its last use; otherwise the outputs are held
        against those of the model itself on these weights. `case` names goldens beside the first
        ones.
        """
        if case is not None:
            check_name(case)
        most = None if max_memory is None else memory_size(max_memory)
        if not isinstance(checkpoint, (str, Path, nn.Module, Mapping)):
            raise RecordError(
                f"the checkpoint is of type {type(checkpoint).__name__}: give a path, the recorded "
                "model, or tensors by name"
            )
        if isinstance(checkpoint, nn.Module):
            if self._model is not checkpoint:
                raise RecordError("record_goldens was given another model than record")
            source = self._own_weights()
        else:
            source = Checkpoint(checkpoint, self.manifest)
        streams = most is not None and source.bytes > most
        if streams:
            source.stream()
        own = isinstance(checkpoint, nn.Module)
        weights: dict[str, torch.Tensor] | None = {} if own else None
        if not own and not streams:
            untied = (p.name for p in self.manifest.parameters if not p.tied_to)
            weights = {name: source.tensor(name) for name in untied}
        self._record_case(source, inputs, case, weights)

    def _own_weights(self) -> Checkpoint:
        manifest = self.manifest  # says so where nothing is recorded
        assert self._model is not None
        state = self._model.state_dict()
        empty = [n for n, t in state.items() if isinstance(t, torch.Tensor) and t.is_meta]
        if empty:
            raise RecordError(
                f"the model has {shown(empty)} on meta, without values: give weights by name to "
                "`save_weights(name, state)`, or a checkpoint to `record_goldens`"
            )
        return Checkpoint(state, manifest)

    def _record_case(
        self,
        source: Checkpoint,
        inputs: Any,
        case: str | None,
        weights: Mapping[str, torch.Tensor] | None,
    ) -> None:
        """`weights` are those that the model itself has not, to hold the outputs against its."""
        args, kwargs = _arguments(inputs)
        named = self._named_inputs(args, kwargs)
        given = {name: t.detach().clone() for name, t in named.items()}
        tensors = goldens.record(self.manifest, source.tensor, self._constants, given)
        if weights is not None:
            assert self._model is not None
            eager = self._eager(self._model, given, weights)
            goldens.compare(
                tensors, eager, lambda: self._eager_in_float32(given, weights, source.bytes)
            )
        names = [p.name for p in self.manifest.parameters]
        self._cases[case] = (tensors, goldens.checkpoint_hash(names, source.tensor))
        if self._name is not None:
            with writing(self._dir):
                self._write_case(case)

    def _named_inputs(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        assert self._model is not None and self._traced is not None
        names = {i.name for i in self.manifest.inputs}
        take_dataclasses((args, kwargs))
        huggingface.take_caches((args, kwargs))
        kwargs = self._chosen | kwargs
        traced = [leaf.value for leaf in self._traced.inputs]
        traced_args, traced_kwargs = pytree.tree_unflatten(traced, self._traced.structure)
        fixed = plain_leaves(by_name(self._model, traced_args, traced_kwargs, defaults=True))
        found: dict[str, Any]
        if not args and names <= set(kwargs):
            found = {n: v for n, v in kwargs.items() if n in names or isinstance(v, torch.Tensor)}
            plain = plain_leaves({n: v for n, v in kwargs.items() if n not in found})
            fixed = {path: value for path, value in fixed.items() if path in plain}
        else:
            paths = {i.path: i.name for i in self.manifest.inputs}
            given = argument_leaves(self._model, args, kwargs)
            found = {
                paths.get(leaf.path, leaf.path): leaf.value
                for leaf in given
                if leaf.path in paths or isinstance(leaf.value, torch.Tensor)
            }
            plain = plain_leaves(by_name(self._model, args, kwargs, defaults=True))
            plain = {path: value for path, value in plain.items() if path not in paths}
            fixed = {path: value for path, value in fixed.items() if path not in found}
        _check_inputs(self.manifest, found, _other_values(fixed, plain))
        return found

    def _eager_in_float32(
        self, inputs: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], size: int
    ) -> dict[str, torch.Tensor | None] | None:
        """The outputs of the model raised to float32; None when it is large or takes no float32."""
        assert self._model is not None
        if size > _CHEAP:
            return None
        given, raised = (
            {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
            for tensors in (inputs, weights)
        )
        try:
            return self._eager(copy.deepcopy(self._model).float(), given, raised)
        except Exception:  # whatever the model says to another dtype, or to being copied
            return None

    def _eager(
        self,
        model: nn.Module,
        inputs: Mapping[str, torch.Tensor],
        weights: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor | None]:
        """The outputs of `model` itself with these weights, by the manifest's names."""
        assert self._traced is not None
        names = {i.path: i.name for i in self.manifest.inputs}
        given = [
            inputs[names[leaf.path]].clone() if leaf.path in names else leaf.value
            for leaf in self._traced.inputs
        ]
        args, kwargs = pytree.tree_unflatten(given, self._traced.structure)
        # Buffers that forward writes to are the user's. Of tied ones, the first is given.
        buffers = dict(model.named_buffers(remove_duplicate=False))
        held = {**dict(model.named_parameters(remove_duplicate=False)), **buffers}
        other: dict[Hashable, torch.Tensor] = {}
        for name, tensor in sorted(held.items(), key=lambda pair: pair[0] not in weights):
            if name in weights or name in buffers:
                used = weights.get(name, tensor)
                other.setdefault(identity(tensor), used.clone() if name in buffers else used)

        def on_these(value: Any) -> Any:
            return other.get(identity(value), value) if isinstance(value, torch.Tensor) else value

        with explained(model), kept(model, on_these), without_fast_path(), torch.no_grad():
            result = model(*args, **kwargs)
        found = {leaf.path: leaf.value for leaf in leaves(result)}
        return {o.name: found.get(o.path) for o in self.manifest.outputs}

    def _write_case(self, case: str | None) -> None:
        tensors, checkpoint = self._cases[case]
        meta = goldens.metadata(
            self.manifest, to_json(self.manifest), tensors, checkpoint, self._seed
        )
        tensorfile.write(self._dir / self._golden_file(case), tensors, meta)

    def _golden_file(self, case: str | None) -> str:
        return f"{self._name}_trace{'' if case is None else f'.{case}'}.safetensors"


def _named(manifest: Manifest, name: str) -> Manifest:
    """The manifest under the file stem `name`."""
    file = f"{name}_constants.safetensors"
    constants = tuple(
        replace(c, data=FileData(file)) if isinstance(c.data, FileData) else c
        for c in manifest.constants
    )
    return replace(manifest, name=name, constants=constants)


def check_name(name: object) -> None:
    """Raises RecordError when `name` cannot be the first part of the names of files."""
    if not isinstance(name, str) or not name or set(name) & set('/\\:*?"<>|') or name[0] == ".":
        raise RecordError(
            f"{name!r} is not a name for files: give one without a folder, and the folder to "
            "`GoldenRecorder(output_dir=...)`"
        )
    if not name.isprintable() or len(name) > 200:
        raise RecordError(f"{name[:20]!r}... is not a name for files: give a shorter, plain one")


def _other_values(fixed: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """In which arguments that are no tensors a call is not the one that was traced."""
    faults = []
    for path in dict.fromkeys((*fixed, *given)):
        if fixed.get(path) is None and given.get(path) is None:
            continue  # left out is None
        if path not in fixed:
            faults.append(f"`{path}` is {given[path]!r}, and no argument of the trace")
        elif path not in given or repr(fixed[path]) != repr(given[path]):
            here = repr(given[path]) if path in given else "missing"
            faults.append(
                f"`{path}` is {here}, and fixed to {fixed[path]!r} by the trace: give that, or "
                "record again"
            )
    return faults


def _check_inputs(manifest: Manifest, found: Mapping[str, Any], faults: list[str]) -> None:
    """Raises RecordError with `faults`, and where `found` is not what the manifest's inputs are."""
    for wanted in manifest.inputs:
        value = found.get(wanted.name)
        dtype = getattr(torch, wanted.dtype)
        if wanted.name not in found:
            faults.append(f"`{wanted.name}` is missing")
        elif not isinstance(value, torch.Tensor):
            faults.append(f"`{wanted.name}` is of type {type(value).__name__}, expected a tensor")
        elif value.device.type == "meta":
            faults.append(f"`{wanted.name}` is on meta and has no values")
        elif value.dtype != dtype:
            faults.append(f"`{wanted.name}` has dtype {value.dtype}, expected {dtype}")
    names = {i.name for i in manifest.inputs}
    faults += [f"`{name}` is no input of the model" for name in found if name not in names]
    if faults:
        raise RecordError(f"the inputs of the goldens do not fit: {'; '.join(faults)}")


def _caches_as_said(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AbstractContextManager[None]:
    """Where it was not said whether there is a cache, one that is made is CacheMadeError."""
    said = by_name(model, args, kwargs).keys() & {"use_cache", "past_key_values"}
    if said or not huggingface.takes_use_cache(model):
        return nullcontext()
    return huggingface.caches_refused()


def _warn_of_cache(traced: Trace, chosen: Mapping[str, Any]) -> None:
    made = huggingface.cache_made(
        (leaf.path for leaf in traced.inputs), (leaf.path for leaf in traced.outputs)
    )
    if chosen:
        warnings.warn(
            "the model makes a cache that it is not given: recorded with `use_cache=False`; give a "
            "cache as `past_key_values`, or `use_cache=True` to have each of its tensors as an "
            "output",
            stacklevel=3,
        )
    elif made:
        warnings.warn(
            f"the model returns a cache that it is not given: its {made} tensors are outputs; give "
            "a cache as `past_key_values`, or let it return none",
            stacklevel=3,
        )


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if not isinstance(inputs, (tuple, list)):
        raise RecordError(
            f"the inputs of the goldens are of type {type(inputs).__name__}: give a tuple of the "
            "positional arguments, or a dict of the arguments by name"
        )
    if len(inputs) == 2 and isinstance(inputs[0], tuple) and isinstance(inputs[1], dict):
        return inputs[0], inputs[1]
    return tuple(inputs), {}
