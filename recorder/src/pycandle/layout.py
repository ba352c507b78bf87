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
import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental import proxy_tensor
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
# The function of a name may ask more than its operator: instance_norm refuses a length of 1.
_INDIFFERENT_OPS = (
    _INDIFFERENT
    | {"batch_norm", "group_norm", "instance_norm", "conv1d", "conv2d", "conv3d"}
    | {"adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "roll"}
)


_inside: ContextVar[bool] = ContextVar("inside", default=False)
_storage: ContextVar[bool] = ContextVar("storage", default=False)


class _Watch(TorchFunctionMode):
    """Knows when one of the functions above runs, if not inside of another Python function."""

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
    """Inside, what is named above asks whether a size is 0 or 1 and leaves no condition behind.

    What they assert of a size still leaves one, and so does every comparison of two sizes. Putting
    together a tensor from the cache of fake tensors compares bytes of storage; that leaves none.
    """
    evaluate_expr = ShapeEnv.evaluate_expr
    assert_expr = ShapeEnv.guard_or_defer_runtime_assert
    from_cache = FakeTensorMode._get_output_tensor_from_cache_entry
    dispatch = proxy_tensor.proxy_call
    contiguous, overlap = torch.Tensor.contiguous, torch._debug_has_internal_overlap

    def evaluate(self: ShapeEnv, expr: Any, *args: Any, **kwargs: Any) -> Any:
        known = _number(expr) is not None
        if (_inside.get() and _about_one(expr)) or (_storage.get() and known):
            with self.suppress_guards():
                return evaluate_expr(self, expr, *args, **kwargs)
        return evaluate_expr(self, expr, *args, **kwargs)

    def asserted(*args: Any, **kwargs: Any) -> Any:
        with _set(_inside, False):
            return assert_expr(*args, **kwargs)

    def cached(*args: Any, **kwargs: Any) -> Any:
        with _set(_storage, True):
            return from_cache(*args, **kwargs)

    def dispatched(mode: Any, func: OpOverload, *args: Any, **kwargs: Any) -> Any:
        with _set(_inside, _inside.get() or func._opname in _INDIFFERENT_OPS):
            return dispatch(mode, func, *args, **kwargs)

    def freely(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with _set(_inside, True):
                return function(*args, **kwargs)

        return run

    own = torch.Tensor.__dict__.get("contiguous")  # it is inherited, unless somebody replaced it
    proxy_tensor.proxy_call = dispatched  # type: ignore[assignment]
    torch.Tensor.contiguous = freely(contiguous)  # type: ignore  # asks before it is dispatched
    torch._debug_has_internal_overlap = freely(overlap)  # copy_ does, of what it writes to
    ShapeEnv.evaluate_expr = evaluate  # type: ignore
    ShapeEnv.guard_or_defer_runtime_assert = asserted  # type: ignore
    FakeTensorMode._get_output_tensor_from_cache_entry = cached  # type: ignore[method-assign]
    try:
        with _Watch():
            yield
    finally:
        proxy_tensor.proxy_call = dispatch
        if own is None:
            del torch.Tensor.contiguous
        else:
            torch.Tensor.contiguous = own  # type: ignore[method-assign]
        torch._debug_has_internal_overlap = overlap
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

    def evaluate(self: ShapeEnv, expr: Any, *args: Any, **kwargs: Any) -> Any:
        asks = asking.get() and not (_inside.get() and _about_one(expr))
        with nullcontext() if asks else self.suppress_guards():
            return evaluate_expr(self, expr, *args, **kwargs)

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


def _about_one(expr: Any) -> bool:
    """Whether a relation asks if a size is 0 or 1; `size >= 2` and `size < 2` do, too."""
    number = _number(expr)
    if number == 2 and isinstance(expr, sympy.Ge | sympy.Le):
        return bool(expr.lts.is_Integer)
    if number == 2 and isinstance(expr, sympy.Gt | sympy.Lt):
        return bool(expr.gts.is_Integer)
    return number in (0, 1)


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
