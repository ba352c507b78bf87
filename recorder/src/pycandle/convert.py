"""From a trace to a manifest."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Hashable
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from . import constants, huggingface
from .arguments import unique
from .attributes import identity
from .calls import CallTree, source_line
from .clean import clean, is_random
from .dtypes import dtype_name
from .errors import RecordError
from .failures import place
from .schema import (
    Arg,
    Constant,
    ConstRef,
    DeviceArg,
    DtypeArg,
    EnumArg,
    FixedInput,
    Input,
    Manifest,
    Module,
    Node,
    Output,
    Parameter,
    ParamRef,
    SymArg,
    Value,
    ValueRef,
)
from .states import Wanted, find_states
from .trace import Trace


def convert(
    model: nn.Module, trace: Trace, name: str, states: Wanted = True
) -> tuple[Manifest, dict[str, torch.Tensor]]:
    """The manifest of a traced model, and the values of its constants by name.

    `states` is what `find_states` is to look for.
    """
    return Converter(model, trace, name, states).run()


_SLICES = (torch.ops.aten.slice.Tensor, torch.ops.aten.slice_scatter.default)
_NOT_VALUES = ("pin_memory", "layout", "non_blocking")  # say nothing about the result's values


class Converter:
    """One conversion; the maps fill up as the graph is read in order."""

    def __init__(self, model: nn.Module, trace: Trace, name: str, states: Wanted) -> None:
        self.model = model
        self.trace = trace
        self.name = name
        self.wanted = states
        self.parameters = list_parameters(model)
        self.aliases = _aliases(self.parameters)
        self.calls = CallTree()
        self.taken: set[str] = set()
        self.values: dict[fx.Node, Value] = {}
        self.sources: dict[fx.Node, tuple[str, str]] = {}  # node -> (kind, name in the model)
        self.call_of: dict[fx.Node, int] = {}
        self.inputs: list[Input] = []
        self.fixed: list[FixedInput] = []
        self.nodes: list[Node] = []

    def run(self) -> tuple[Manifest, dict[str, torch.Tensor]]:
        graph = self.trace.program.graph_module.graph
        clean(graph)
        self._read_placeholders(graph)
        for node in graph.nodes:
            if node.op == "call_function":
                self._read_call(node)
            elif node.op not in ("placeholder", "output"):
                raise RecordError(f"the trace has a node of kind {node.op}: {node.format_node()}")
        outputs, output_nodes = self._read_outputs(graph)
        consts, const_values = self._read_constants(outputs)
        made = tuple(self.inputs), tuple(outputs), tuple(self.nodes)
        states = find_states(*made, self.calls.is_within, self.wanted)
        cached = {state.output for state in states}
        pairs = zip(outputs, output_nodes, strict=True)
        self._note_leaving([node for output, node in pairs if output.name not in cached])
        manifest = Manifest(
            recorder=versions(self.model),
            name=self.name,
            cls=_qualified(type(self.model)),
            output_class=self.trace.output_class,
            dtype=_model_dtype(self.parameters, self.inputs),
            symbols=self.trace.symbols,
            conditions=self.trace.conditions,
            inputs=tuple(self.inputs),
            fixed_inputs=tuple(self.fixed),
            outputs=tuple(outputs),
            states=states,
            parameters=self.parameters,
            constants=consts,
            modules=tuple(Module(p, _qualified(type(m))) for p, m in _modules(self.model)),
            calls=self.calls.finish(),
            nodes=tuple(self.nodes),
            config=_config(self.model),
        )
        return manifest, const_values

    def _read_placeholders(self, graph: fx.Graph) -> None:
        specs = {s.arg.name: s for s in self.trace.program.graph_signature.input_specs}
        leaves = iter(self.trace.inputs)
        for node in graph.nodes:
            if node.op != "placeholder":
                continue
            spec = specs[node.name]
            if spec.kind is not InputKind.USER_INPUT:
                held = spec.kind is InputKind.PARAMETER or spec.persistent
                self.sources[node] = ("param" if held else "const", str(spec.target))
                continue
            leaf = next(leaves)
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                name = unique(leaf.name, self.taken)
                self.values[node] = self._value(name, value, f"input `{name}`")
                v = self.values[node]
                self.inputs.append(Input(name, leaf.path, v.dtype, v.shape))
            elif leaf.value is not None:
                self.fixed.append(FixedInput(leaf.path, _fixed(leaf.path, leaf.value)))

    def _value(self, name: str, tensor: torch.Tensor, where: str) -> Value:
        shape = tuple(self.trace.table.dim(size, where) for size in tensor.shape)
        return Value(name, dtype_name(tensor.dtype, where), shape)

    def _read_call(self, node: fx.Node) -> None:
        if _is_number(node):
            return  # resolved where it is used
        if node.target is operator.getitem:
            return  # named with the node that it takes from
        where = self._where(node)
        if node.target is torch.ops.higher_order.with_effects:
            raises = any(word in str(node.args[1]) for word in ("_assert", "check_errors"))
            what = "raises an error for some values" if raises else "has a side effect"
            mend = "leave what comes apart into it out of `decompose`" if raises else "leave it out"
            raise RecordError(
                f"{place(self.calls.module(self.calls.of(node)), source_line(node))}: "
                f"{node.args[1]} {what}, which a recorded model does not; {mend}"
            )
        if not isinstance(node.target, torch._ops.OpOverload):
            raise RecordError(f"{where}: {node.target} is not an operator with a schema")
        if is_random(node):
            raise RecordError(
                f"{where} draws random numbers; a recorded model gives the same outputs for the "
                "same inputs: pass the random values as an argument, or switch the operator off"
            )
        call = self.call_of[node] = self.calls.of(node)
        schema = node.target._schema
        args: list[tuple[str, Arg]] = []
        for argument, value in zip(schema.arguments, node.args, strict=False):
            args.append((argument.name, self._arg(value, argument, node)))
        for argument in schema.arguments:
            if argument.name in node.kwargs and argument.name not in _NOT_VALUES:
                value = node.kwargs[argument.name]
                args.append((argument.name, self._arg(value, argument, node)))
        op = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        out = self._name_outputs(node, schema.name.partition("::")[2].strip("_"), where)
        self.nodes.append(Node(op, tuple(args), out, call, source_line(node)))

    def _name_outputs(self, node: fx.Node, base: str, where: str) -> tuple[Value, ...]:
        result = node.meta.get("val")
        if isinstance(result, torch.Tensor):
            self.values[node] = self._value(unique(base, self.taken), result, where)
            return (self.values[node],)
        if isinstance(result, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            raise RecordError(
                f"{where} makes a Python number of a tensor's value, which is not known in a "
                "trace; keep it a tensor, without `item` and `tolist`"
            )
        if not isinstance(result, (list, tuple)):
            raise RecordError(f"{where}: {node.target} returns {type(result).__name__}")
        made = []
        for i, tensor in enumerate(result):
            if not isinstance(tensor, torch.Tensor):
                raise RecordError(f"{where}: {node.target} returns {type(tensor).__name__}")
            made.append(self._value(unique(base, self.taken), tensor, where))
            for user in node.users:
                if user.target is operator.getitem and user.args[1] == i:
                    self.values[user] = made[-1]
                    self.call_of[user] = self.call_of[node]
        return tuple(made)

    def _where(self, node: fx.Node) -> str:
        module = self.calls.module(self.calls.of(node))
        return f"{node.target} in {place(module, source_line(node))}"

    def _arg(self, value: Any, argument: Any, node: fx.Node) -> Arg:
        if isinstance(value, fx.Node):
            total = _from_the_start(value, argument.name, node)
            if total is not None:
                return self._size(total, node)
            return self._reference(value, node)
        if isinstance(value, (list, tuple)):
            return tuple(self._arg(v, argument, node) for v in value)
        if isinstance(value, torch.dtype):
            return DtypeArg(dtype_name(value, self._where(node)))
        if isinstance(value, torch.device) or str(argument.type) in ("Device", "Optional[Device]"):
            return DeviceArg() if value is not None else None
        if isinstance(value, (torch.memory_format, torch.layout)):
            return EnumArg(str(value))
        if isinstance(value, int) and not isinstance(value, bool) and _is_float(argument.type):
            return float(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise RecordError(
            f"{self._where(node)}: the argument `{argument.name}` is of type "
            f"{type(value).__name__}, which the manifest has no form for"
        )

    def _reference(self, value: fx.Node, user: fx.Node) -> Arg:
        if value in self.values:
            return ValueRef(self.values[value].name)
        if value in self.sources:
            return self._source(value, self.calls.module(self.calls.of(user)))
        result = value.meta.get("val")
        if isinstance(result, torch.SymInt):
            return self._size(result, user)
        if isinstance(result, int) and not isinstance(result, bool):
            return result
        if isinstance(result, torch.SymFloat):
            number = self.trace.table.named(sympy.sympify(result.node.expr))
            raise RecordError(
                f"{self._where(user)}: an argument is the number `{number}`, which is computed "
                "from sizes and need not be whole: make it a tensor, as "
                "`x.new_full((), x.shape[1]).sqrt()` is one, or leave the axes that it comes from "
                "out of dynamic_shapes"
            )
        raise RecordError(
            f"{self._where(user)}: the argument `{value.name}` ({value.target}) is neither a "
            "tensor nor a size"
        )

    def _size(self, size: torch.SymInt, user: fx.Node) -> Arg:
        dim = self.trace.table.dim(size, self._where(user))
        return dim if isinstance(dim, int) else SymArg(dim)

    def _source(self, value: fx.Node, module: str) -> ParamRef | ConstRef:
        kind, name = self.sources[value]
        if kind == "const":
            return ConstRef(name)
        names = self.aliases.get(name, [name])
        inside = [n for n in names if n.rpartition(".")[0] == module]
        below = [n for n in names if module and n.startswith(module + ".")]
        return ParamRef((inside or below or [name])[0])

    def _read_outputs(self, graph: fx.Graph) -> tuple[list[Output], list[fx.Node]]:
        (output,) = [n for n in graph.nodes if n.op == "output"]
        specs = self.trace.program.graph_signature.output_specs
        returned = [
            node
            for node, spec in zip(output.args[0], specs, strict=True)
            if spec.kind is OutputKind.USER_OUTPUT
        ]
        outputs, nodes = [], []
        for leaf, node in zip(self.trace.outputs, returned, strict=True):
            if not isinstance(node, fx.Node):
                if node is not None:
                    raise RecordError(
                        f"output `{leaf.path}` is {node!r}, not a tensor: leave it out, or make a "
                        "tensor of it"
                    )
                continue
            if node in self.values:
                value: Any = ValueRef(self.values[node].name)
            elif node in self.sources:
                value = self._source(node, "")
            else:
                raise RecordError(
                    f"output `{leaf.path}` is a size, not a tensor: leave it out; the shapes of "
                    "inputs and outputs say it"
                )
            outputs.append(Output(leaf.name, leaf.path, value))
            nodes.append(node)
        if not outputs:
            raise RecordError(
                f"forward of {type(self.model).__name__} returns nothing: let it return what the "
                "model computes, as tensors alone or in tuples, lists, dicts and dataclasses"
            )
        return outputs, nodes

    def _note_leaving(self, outputs: list[fx.Node]) -> None:
        returned = set(outputs)
        for node, call in self.call_of.items():
            if node not in self.values:
                continue
            used = [self.call_of[u] for u in node.users if u in self.call_of]
            self.calls.leaves(self.values[node].name, call, used, node in returned)

    def _read_constants(
        self, outputs: list[Output]
    ) -> tuple[tuple[Constant, ...], dict[str, torch.Tensor]]:
        used = {o.value.name for o in outputs if isinstance(o.value, ConstRef)}
        for node in self.nodes:
            used |= {v.name for v in _flat(a for _, a in node.args) if isinstance(v, ConstRef)}
        names = [n for kind, n in self.sources.values() if kind == "const" and n in used]
        names = list(dict.fromkeys(names))
        held, file = self.trace.constants, f"{self.name}_constants.safetensors"
        listed = [constants.describe(n, held[n], file) for n in names]
        return tuple(listed), {n: held[n].detach().cpu() for n in names}


def _from_the_start(bound: fx.Node, name: str, node: fx.Node) -> torch.SymInt | None:
    """The bound of a slice that is a size and counts from the end, as every run has it."""
    if node.target not in _SLICES or name not in ("start", "end"):
        return None
    value = bound.meta.get("val")
    traced: Any = value.node.hint if isinstance(value, torch.SymInt) else None
    if not isinstance(value, torch.SymInt) or traced is None or traced >= 0:
        return None
    at = node.target._schema.arguments  # type: ignore[union-attr]
    index = next(i for i, a in enumerate(at) if a.name == "dim")
    dim: Any = node.args[index] if index < len(node.args) else node.kwargs.get("dim", 0)
    source: Any = node.args[0]
    total = torch.sym_max(value + source.meta["val"].shape[dim], 0)
    return total if isinstance(total, torch.SymInt) else None


def _is_number(node: fx.Node) -> bool:
    """Whether `node` computes with sizes alone; what is taken of a tensor is another matter."""
    value = node.meta.get("val")
    return isinstance(value, (torch.SymInt, int)) or (
        isinstance(value, (torch.SymFloat, torch.SymBool))
        and not isinstance(node.target, torch._ops.OpOverload)
    )


def _flat(values: Any) -> list[Any]:
    found = []
    for value in values:
        found += _flat(value) if isinstance(value, tuple) else [value]
    return found


def list_parameters(model: nn.Module) -> tuple[Parameter, ...]:
    """What a checkpoint of `model` holds, in the order of its state_dict."""
    first: dict[Hashable, str] = {}
    found = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            continue
        memory = identity(tensor)
        tied_to = first.get(memory)
        first.setdefault(memory, name)
        kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
        dtype = dtype_name(tensor.dtype, f"{kind} `{name}`")
        found.append(Parameter(name, kind, dtype, tuple(tensor.shape), tied_to))
    return tuple(found)


def _aliases(parameters: tuple[Parameter, ...]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for p in parameters:
        groups.setdefault(p.tied_to or p.name, []).append(p.name)
    return {name: names for names in groups.values() for name in names}


def _model_dtype(parameters: tuple[Parameter, ...], inputs: list[Input]) -> str:
    """That of most floating-point parameters; without any, that of the inputs."""
    held = [p.dtype for p in parameters if "float" in p.dtype and p.kind == "parameter"]
    floats = held or [i.dtype for i in inputs if "float" in i.dtype]
    return Counter(floats).most_common(1)[0][0] if floats else "float32"


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules(remove_duplicate=False))


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_float(schema_type: Any) -> bool:
    return "float" in str(schema_type)


def _fixed(path: str, value: Any) -> bool | int | float | str:
    if isinstance(value, (bool, int, float, str)):
        return value
    raise RecordError(
        f"the argument `{path}` is of type {type(value).__name__}, which the manifest has no form "
        "for: wrap the model in a module that passes it on, and record that one"
    )


def versions(model: nn.Module) -> dict[str, str]:
    """The versions that a manifest depends on."""
    from . import __version__

    found = {"pycandle": __version__, "torch": torch.__version__.partition("+")[0]}
    if huggingface.is_pretrained(model):
        import transformers

        found["transformers"] = transformers.__version__
    return found


def _config(model: nn.Module) -> dict[str, Any] | None:
    return huggingface.config_json(model)
