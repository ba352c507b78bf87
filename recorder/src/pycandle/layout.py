"""Keeps decisions about memory layout from narrowing the sizes for which a trace holds.

To multiply matrices, torch's shape functions ask whether a size is 1, only to choose between a view
and a copy: the result has the same shape and the same values either way. Left alone, each such
question becomes a condition on the trace, and a model traced for five tokens would refuse one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from typing import Any

import sympy
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
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
_storage: ContextVar[bool] = ContextVar("storage", default=False)


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
        with _set(_inside, True):
            return func(*args, **(kwargs or {}))


@contextmanager
def layout_is_free() -> Iterator[None]:
    """Inside, the functions above ask whether a size is 0 or 1 without leaving a condition behind.

    What they assert of a size still leaves one, and so does every comparison of two sizes. Putting
    together a tensor from the cache of fake tensors compares bytes of storage; that leaves none.
    """
    evaluate_expr = ShapeEnv.evaluate_expr
    assert_expr = ShapeEnv.guard_or_defer_runtime_assert
    from_cache = FakeTensorMode._get_output_tensor_from_cache_entry

    def evaluate(self: ShapeEnv, expr: Any, *args: Any, **kwargs: Any) -> Any:
        number = _number(expr)
        if (_inside.get() and number in (0, 1)) or (_storage.get() and number is not None):
            with self.suppress_guards():
                return evaluate_expr(self, expr, *args, **kwargs)
        return evaluate_expr(self, expr, *args, **kwargs)

    def asserted(*args: Any, **kwargs: Any) -> Any:
        with _set(_inside, False):
            return assert_expr(*args, **kwargs)

    def cached(*args: Any, **kwargs: Any) -> Any:
        with _set(_storage, True):
            return from_cache(*args, **kwargs)

    ShapeEnv.evaluate_expr = evaluate  # type: ignore
    ShapeEnv.guard_or_defer_runtime_assert = asserted  # type: ignore
    FakeTensorMode._get_output_tensor_from_cache_entry = cached  # type: ignore[method-assign]
    try:
        with _Watch():
            yield
    finally:
        ShapeEnv.evaluate_expr = evaluate_expr  # type: ignore[method-assign]
        ShapeEnv.guard_or_defer_runtime_assert = assert_expr  # type: ignore[method-assign]
        FakeTensorMode._get_output_tensor_from_cache_entry = from_cache  # type: ignore[method-assign]


Decomposition = Callable[..., Any]


@contextmanager
def only_conditions_of(
    table: Mapping[OpOverload, Decomposition],
) -> Iterator[dict[OpOverload, Decomposition]]:
    """Inside, only the decompositions that it yields ask anything of the sizes of a program.

    The rest of the program asked when it was traced.
    """
    evaluate_expr = ShapeEnv.evaluate_expr
    asking: ContextVar[bool] = ContextVar("asking", default=False)

    def evaluate(self: ShapeEnv, *args: Any, **kwargs: Any) -> Any:
        with nullcontext() if asking.get() else self.suppress_guards():
            return evaluate_expr(self, *args, **kwargs)

    def asked(decomposition: Decomposition) -> Decomposition:
        @wraps(decomposition)
        def run(*args: Any, **kwargs: Any) -> Any:
            with _set(asking, True):
                return decomposition(*args, **kwargs)

        return run

    ShapeEnv.evaluate_expr = evaluate  # type: ignore
    try:
        yield {op: asked(decomposition) for op, decomposition in table.items()}
    finally:
        ShapeEnv.evaluate_expr = evaluate_expr  # type: ignore[method-assign]


def shape_env(program: ExportedProgram) -> ShapeEnv | None:
    """Where the sizes of a program live; None when it has no tensors."""
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None:
            return mode.shape_env
    return None


def _number(expr: Any) -> sympy.Expr | None:
    """What a relation compares a size with, when that is a number: 1 for `4 * size == 4`."""
    if isinstance(expr, sympy.core.relational.Relational):
        for side, other in ((expr.lhs, expr.rhs), (expr.rhs, expr.lhs)):
            if side.is_Integer:
                return side / other.as_coeff_Mul()[0]
    return None


@contextmanager
def _set(variable: ContextVar[bool], value: bool) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
