"""Complex numbers as pairs of real ones, in a last dimension of two; a manifest has no others.

This is what `view_as_real` shows of them. Rotary embeddings are where models compute with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Graph, Node

from .calls import CallTree, source_line
from .clean import clean
from .errors import RecordError
from .failures import place

aten = torch.ops.aten
_NO_PAIR = (
    "is computed with complex numbers, which become pairs of real ones only in products, sums, "
    "changes of shape, `polar`, `abs`, `angle` and `conj`: write this with `torch.view_as_real`"
)
_NO_SPECTRUM = (
    "makes complex numbers of real ones, as Fourier transforms do, for which a manifest has no "
    "form: pass its result as an argument, or write it as a product with a matrix of sines and "
    "cosines"
)
_SAME = (aten.view_as_real.default, aten.resolve_conj.default)
_ONE_AXIS = (
    *(aten.select.int, aten.slice.Tensor, aten.squeeze.dim, aten.index_select.default),
    aten.cat.default,
)
_NEW_AXIS = (aten.unsqueeze.default, aten.stack.default)
_SIZES = (aten.view.default, aten.reshape.default, aten.expand.default)


def as_pairs(program: ExportedProgram) -> None:
    """Changes the graph of `program` in place; nothing where no number in it is complex."""
    graph = program.graph
    if any(_is_complex(node) for node in graph.nodes):
        clean(graph)
        _Pairs(program).run(graph)
        graph.eliminate_dead_code()


class _Pairs:
    """One graph; `made` is what stands for each complex node."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.graph: Graph = program.graph
        self.made: dict[Node, Node] = {}
        self.at: Node
        self.first: Node

    def run(self, graph: Graph) -> None:
        """Rewrites node after node, in order."""
        held = {
            spec.arg.name: str(spec.target)
            for spec in self.program.graph_signature.input_specs
            if spec.kind in (InputKind.CONSTANT_TENSOR, InputKind.BUFFER) and not spec.persistent
        }
        self.first = next(n for n in graph.nodes if n.op != "placeholder")
        for node in list(graph.nodes):
            if node.op == "placeholder" and node.name in held and _is_complex(node):
                self._constant(node, held[node.name])
            elif node.op == "call_function" and self._concerned(node):
                self.at = node
                with graph.inserting_before(node):
                    found = self._rule(node)
                self._hold(node, found)
                if _is_complex(node):
                    self.made[node] = found
                else:
                    node.replace_all_uses_with(found)
        for node in self.made:
            if any(user.op == "output" for user in node.users):
                raise RecordError(
                    f"{source_line(node) or node.target}: an output is complex; return it by "
                    "`torch.view_as_real`"
                )

    def _hold(self, node: Node, found: Node) -> None:
        """Raises RecordError unless `found` has the dtype and the rank of what it stands for."""
        old, new = node.meta["val"], found.meta["val"]
        dtype = old.dtype.to_real() if old.is_complex() else old.dtype
        if (new.dtype, new.dim()) != (dtype, old.dim() + old.is_complex()):
            raise self._no_pair(f"{node.target}, of these dtypes and shapes,")

    def _concerned(self, node: Node) -> bool:
        return _is_complex(node) or any(n in self.made for n in node.all_input_nodes)

    def _constant(self, node: Node, name: str) -> None:
        constants = self.program.constants
        assert isinstance(constants[name], torch.Tensor)
        constants[name] = torch.view_as_real(constants[name].resolve_conj()).contiguous()
        node.meta["val"] = _view_as_real(node.meta["val"])
        # A node of its own: what takes the placeholder itself still has to become pairs.
        self.at = node
        with self.graph.inserting_before(self.first):
            self.made[node] = self._call(aten.alias.default, node)

    def _call(self, op: Any, *args: Any, **kwargs: Any) -> Node:
        """A new node, of the place in the model that is being rewritten."""
        node = self.graph.call_function(op, args, kwargs)
        node.meta = {k: v for k, v in self.at.meta.items() if k not in ("val", "tensor_meta")}
        given = torch.fx.map_arg(args, lambda n: n.meta["val"])
        with next(n.meta["val"].fake_mode for n in node.all_input_nodes):
            node.meta["val"] = op(*given, **kwargs)
        return node

    def _parts(self, node: Node) -> tuple[Node, Node]:
        pair = self.made[node]
        if pair.target is aten.stack.default and pair.args[1:] == (-1,):
            parts: Any = pair.args[0]
            return parts[0], parts[1]
        return self._call(aten.select.int, pair, -1, 0), self._call(aten.select.int, pair, -1, 1)

    def _joined(self, real: Node, imaginary: Node) -> Node:
        return self._call(aten.stack.default, [real, imaginary], -1)

    def _rule(self, node: Node) -> Node:
        op, args = node.target, node.args
        first: Any = args[0]
        if op in _MADE and (node.kwargs or any(isinstance(arg, complex) for arg in args)):
            raise self._no_pair(f"{op} with {dict(node.kwargs) or 'a complex number'}")
        if op in _MADE:
            return _MADE[op](self, *args)
        z = self.made.get(first) if isinstance(first, Node) else None
        rank = first.meta["val"].dim() if z is not None else 0
        if isinstance(first, (list, tuple)) and all(x in self.made for x in first):
            z, rank = [self.made[x] for x in first], first[0].meta["val"].dim()  # type: ignore
        if z is not None and op in _SAME:
            return z
        if z is not None and op is aten._to_copy.default:
            return self._cast(node, z)
        if z is not None and (op in _ONE_AXIS or op in _NEW_AXIS):
            axis, *rest = args[1:] or (0,)
            return self._call(op, z, axis % (rank + (op in _NEW_AXIS)), *rest)  # type: ignore
        if z is not None and op in _SIZES:
            return self._call(op, z, [*args[1], 2 if op is not aten.expand.default else -1])  # type: ignore
        if z is not None and op is aten.transpose.int:
            return self._call(op, z, *(axis % rank for axis in args[1:]))  # type: ignore
        if z is not None and op is aten.permute.default:
            return self._call(op, z, [axis % rank for axis in args[1]] + [rank])  # type: ignore
        if z is not None and op in (aten.index.Tensor, aten.neg.default):
            return self._call(op, z, *args[1:])
        calls = CallTree()
        module = calls.module(calls.of(node))
        takes = any(n in self.made for n in node.all_input_nodes)
        why = _NO_PAIR if takes else _NO_SPECTRUM
        raise RecordError(f"{op} in {place(module, source_line(node))} {why}")

    def _cast(self, node: Node, z: Any) -> Node:
        if not _is_complex(node):
            real = self._call(aten.select.int, z, -1, 0)
            return self._call(aten._to_copy.default, real, dtype=node.meta["val"].dtype)
        return self._call(aten._to_copy.default, z, dtype=node.meta["val"].dtype.to_real())

    def polar(self, length: Node, angle: Node) -> Node:
        turned = [self._call(f, angle) for f in (aten.cos.default, aten.sin.default)]
        parts = [self._call(aten.mul.Tensor, length, part) for part in turned]
        return self._joined(*parts)

    def view_as_complex(self, pair: Node) -> Node:
        return pair

    def real(self, z: Node) -> Node:
        return self._parts(z)[0]

    def imag(self, z: Node) -> Node:
        return self._parts(z)[1]

    def conj(self, z: Node) -> Node:
        real, imaginary = self._parts(z)
        return self._joined(real, self._call(aten.neg.default, imaginary))

    def abs(self, z: Node) -> Node:
        return self._call(aten.linalg_vector_norm.default, self.made[z], 2, [-1])

    def angle(self, z: Node) -> Node:
        real, imaginary = self._parts(z)
        return self._call(aten.atan2.default, imaginary, real)

    def multiply(self, x: Any, y: Any) -> Node:
        if x not in self.made:
            x, y = y, x
        if y not in self.made:
            return self._call(aten.mul.Tensor, self.made[x], self._beside(y))
        (a, b), (c, d) = self._parts(x), self._parts(y)
        ac, bd, ad, bc = (
            self._call(aten.mul.Tensor, *pair) for pair in ((a, c), (b, d), (a, d), (b, c))
        )
        return self._joined(
            self._call(aten.sub.Tensor, ac, bd), self._call(aten.add.Tensor, ad, bc)
        )

    def divide(self, x: Any, y: Any) -> Node:
        if y in self.made:
            raise self._no_pair("a quotient of two complex numbers")
        return self._call(aten.div.Tensor, self.made[x], self._beside(y))

    def add(self, x: Any, y: Any) -> Node:
        return self._sum(aten.add.Tensor, x, y)

    def subtract(self, x: Any, y: Any) -> Node:
        return self._sum(aten.sub.Tensor, x, y)

    def _sum(self, op: Any, x: Any, y: Any) -> Node:
        if x not in self.made or y not in self.made:
            raise self._no_pair("a sum of a complex and a real number")
        return self._call(op, self.made[x], self.made[y])

    def _no_pair(self, what: str) -> RecordError:
        at = source_line(self.at) or "the model"
        return RecordError(f"{at}: {what} has no form in a manifest: compute with real numbers")

    def _beside(self, y: Any) -> Any:
        """A real factor, for both parts."""
        value = y.meta["val"] if isinstance(y, Node) else None
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            return y
        return self._call(aten.unsqueeze.default, y, -1)


_MADE: dict[Any, Callable[..., Node]] = {
    aten.polar.default: _Pairs.polar,
    aten.complex.default: _Pairs._joined,
    aten.view_as_complex.default: _Pairs.view_as_complex,
    aten.real.default: _Pairs.real,
    aten.imag.default: _Pairs.imag,
    aten._conj.default: _Pairs.conj,
    aten.conj.default: _Pairs.conj,
    aten._conj_physical.default: _Pairs.conj,
    aten.conj_physical.default: _Pairs.conj,
    aten.abs.default: _Pairs.abs,
    aten.angle.default: _Pairs.angle,
    aten.mul.Tensor: _Pairs.multiply,
    aten.mul.Scalar: _Pairs.multiply,
    aten.div.Tensor: _Pairs.divide,
    aten.add.Tensor: _Pairs.add,
    aten.sub.Tensor: _Pairs.subtract,
}


def _is_complex(node: Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(x, torch.Tensor) and x.is_complex() for x in values)


def _view_as_real(value: Any) -> Any:
    with value.fake_mode:
        return torch.view_as_real(value)
