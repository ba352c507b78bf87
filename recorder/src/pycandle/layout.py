"""Keeps decisions about memory layout from narrowing the sizes for which a trace holds.

To multiply matrices, torch's shape functions ask whether a size is 1, only to choose between a view
and a copy: the result has the same shape and the same values either way. Left alone, each such
question becomes a condition on the trace, and a model traced for five tokens would refuse one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import sympy
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode

_INDIFFERENT = frozenset(
    {
        "scaled_dot_product_attention",
        "matmul",
        "__matmul__",
        "__rmatmul__",
        "linear",
        "bmm",
        "baddbmm",
        "addmm",
        "einsum",
        "reshape",
        "view",
        "flatten",
        "contiguous",
    }
)


_inside: ContextVar[bool] = ContextVar("inside", default=False)


class _Watch(TorchFunctionMode):
    """Knows when one of the functions above runs."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") not in _INDIFFERENT:
            return func(*args, **(kwargs or {}))
        token = _inside.set(True)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            _inside.reset(token)


@contextmanager
def layout_is_free() -> Iterator[None]:
    """Inside, the functions above compare sizes with numbers without leaving a condition behind.

    Comparisons of two sizes still do: they say which sizes are equal.
    """
    original = ShapeEnv._evaluate_expr

    def evaluate(self: ShapeEnv, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.get() and _with_a_number(orig_expr):
            with self.suppress_guards():
                return original(self, orig_expr, *args, **kwargs)
        return original(self, orig_expr, *args, **kwargs)

    ShapeEnv._evaluate_expr = evaluate  # type: ignore[method-assign]
    try:
        with _Watch():
            yield
    finally:
        ShapeEnv._evaluate_expr = original  # type: ignore[method-assign]


@contextmanager
def without_conditions(program: ExportedProgram) -> Iterator[None]:
    """Inside, no comparison of the program's sizes leaves a condition: all were made before."""
    env = shape_env(program)
    with env.suppress_guards() if env is not None else nullcontext():
        yield


def shape_env(program: ExportedProgram) -> ShapeEnv | None:
    """Where the sizes of a program live; None when it has no tensors."""
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None:
            return mode.shape_env
    return None


def _with_a_number(expr: Any) -> bool:
    relation = isinstance(expr, sympy.core.relational.Relational)
    return relation and (expr.lhs.is_Integer or expr.rhs.is_Integer)
