"""Sizes: from the sympy expressions of a trace to the dims of the manifest, and back to numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

import sympy
from torch.utils._sympy import functions as sf

from .errors import RecordError
from .schema import Dim, DimExpr, Shape
from .wholes import whole


class SymbolTable:
    """Which manifest dim each symbol of the trace stands for."""

    def __init__(self) -> None:
        self._dims: dict[sympy.Symbol, sympy.Expr] = {}
        self.ranges: dict[str, tuple[int, int | None]] = {}  # filled when they are known

    def bind(self, symbol: sympy.Symbol, expr: sympy.Expr) -> None:
        """Lets `symbol` stand for `expr`, an expression over symbols named as in the manifest."""
        self._dims.setdefault(symbol, expr)

    def __contains__(self, symbol: sympy.Symbol) -> bool:
        return symbol in self._dims

    def named(self, expr: sympy.Expr) -> sympy.Expr:
        """`expr` over the manifest's symbols."""
        return whole(expr.xreplace(self._dims))

    def dim(self, size: object, where: str) -> Dim:
        """The manifest form of an int or SymInt; `where` is said in the error."""
        node = getattr(size, "node", None)
        if node is None:
            return int(size)  # type: ignore[call-overload, no-any-return]
        return _simplify(to_dim(self.named(sympy.sympify(node.expr)), where), self.ranges)


def to_dim(expr: sympy.Expr, where: str) -> Dim:
    """The manifest form of a sympy expression."""
    if expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        if not str(expr).isidentifier() or str(expr).startswith("u"):
            _check_backed(expr, where)
        return str(expr)
    args = [to_dim(a, where) for a in expr.args] if not isinstance(expr, sympy.Pow) else []
    if isinstance(expr, sympy.Add):
        return _sum(expr, where)
    if isinstance(expr, sympy.Mul):
        return DimExpr("mul", _sorted(args))
    if isinstance(expr, sympy.Pow) and expr.exp.is_Integer and 0 < int(expr.exp) < 9:
        return DimExpr("mul", (to_dim(expr.base, where),) * int(expr.exp))
    if isinstance(expr, (sf.FloorDiv, sf.CleanDiv)):
        return DimExpr("floordiv", (args[0], args[1]))
    if isinstance(expr, (sf.Mod, sf.PythonMod, sympy.Mod)):
        return DimExpr("mod", (args[0], args[1]))
    if isinstance(expr, sf.ModularIndexing):
        return DimExpr("mod", (DimExpr("floordiv", (args[0], args[1])), args[2]))
    if isinstance(expr, (sf.Max, sympy.Max)):
        return DimExpr("max", _sorted(args))
    if isinstance(expr, (sf.Min, sympy.Min)):
        return DimExpr("min", _sorted(args))
    raise RecordError(
        f"{where}: a size is computed with {type(expr).__name__}, where sizes are whole numbers: "
        "give the size itself, as `size=` in place of `scale_factor=`, or leave the axes that it "
        "comes from out of dynamic_shapes"
    )


def _check_backed(symbol: sympy.Symbol, where: str) -> None:
    if not str(symbol).isidentifier() or of_values(symbol):
        raise depends_on_values(where)


def of_values(symbol: sympy.Basic) -> bool:
    """Whether `symbol` stands for a value in a tensor."""
    name = str(symbol)
    return name[0] == "u" and name[1:].isdigit()


def depends_on_values(where: str) -> RecordError:
    """What is said of a size that is not known before the model runs."""
    return RecordError(
        f"{where}: a size depends on the values of a tensor; sizes must follow from the shapes of "
        "the inputs: in place of an index that is a mask, `torch.where` and `masked_fill` keep the "
        "shape, and in place of `item()` an input of the size that is wanted gives it"
    )


def _sum(expr: sympy.Add, where: str) -> Dim:
    plus: list[Dim] = []
    minus: list[Dim] = []
    for term in expr.args:
        negative = term.could_extract_minus_sign()
        (minus if negative else plus).append(to_dim(-term if negative else term, where))
    left = _add(plus)
    return DimExpr("sub", (left, _add(minus))) if minus else left


def _add(terms: list[Dim]) -> Dim:
    if not terms:
        return 0
    return terms[0] if len(terms) == 1 else DimExpr("add", _sorted(terms))


def _sorted(dims: list[Dim]) -> tuple[Dim, ...]:
    return tuple(sorted(dims, key=lambda d: (isinstance(d, int), isinstance(d, DimExpr), str(d))))


def _simplify(dim: Dim, ranges: Mapping[str, tuple[int, int | None]]) -> Dim:
    """Without the operands of `min` and `max` that never decide."""
    if not isinstance(dim, DimExpr):
        return dim
    operands = [_simplify(d, ranges) for d in dim.operands]
    if dim.op in ("min", "max"):
        sign = 1 if dim.op == "min" else -1
        bounds = [_interval(d, ranges) for d in operands]
        spans = [(low * sign, high * sign) for low, high in bounds]
        least = min(max(span) for span in spans)
        keep = [d for d, span in zip(operands, spans, strict=True) if max(span) == least][:1]
        keep += [
            d
            for d, span in zip(operands, spans, strict=True)
            if d not in keep and min(span) < least
        ]
        if len(keep) == 1:
            return keep[0]
    return DimExpr(dim.op, tuple(operands))


def _interval(dim: Dim, ranges: Mapping[str, tuple[int, int | None]]) -> tuple[float, float]:
    if isinstance(dim, int):
        return dim, dim
    if isinstance(dim, str):
        low, high = ranges.get(dim, (0, None))
        return low, math.inf if high is None else high
    spans = [_interval(d, ranges) for d in dim.operands]
    lows, highs = [s[0] for s in spans], [s[1] for s in spans]
    if dim.op == "add":
        return sum(lows), sum(highs)
    if dim.op in ("min", "max"):
        pick = min if dim.op == "min" else max
        return pick(lows), pick(highs)
    return -math.inf, math.inf


_BINARY: dict[str, Callable[[int, int], int]] = {
    "sub": operator.sub,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
}


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The number that `dim` is for the given sizes of the symbols; 1 or 0 for a condition."""
    if isinstance(dim, int):
        return dim
    if isinstance(dim, str):
        return sizes[dim]
    values = [evaluate(d, sizes) for d in dim.operands]
    if dim.op == "add":
        return sum(values)
    if dim.op == "mul":
        return math.prod(values)
    if dim.op in ("max", "min"):
        return max(values) if dim.op == "max" else min(values)
    return int(_BINARY[dim.op](*values))


_SIGNS = {
    "add": "+",
    "mul": "*",
    "sub": "-",
    "floordiv": "//",
    "mod": "%",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
}


def text(dim: Dim, nested: bool = False) -> str:
    """`dim` as Python."""
    if not isinstance(dim, DimExpr):
        return str(dim)
    comparison = dim.op in ("eq", "ne", "lt", "le")
    operands = [text(d, dim.op in _SIGNS and not comparison) for d in dim.operands]
    if dim.op not in _SIGNS:
        return f"{dim.op}({', '.join(operands)})"
    joined = f" {_SIGNS[dim.op]} ".join(operands)
    return f"({joined})" if nested else joined


def symbols(dim: Dim) -> list[str]:
    """The symbols of `dim`, sorted."""
    if isinstance(dim, DimExpr):
        return sorted({name for d in dim.operands for name in symbols(d)})
    return [dim] if isinstance(dim, str) else []


def solve(
    shapes: Mapping[str, tuple[Shape, tuple[int, ...]]], symbols: tuple[str, ...]
) -> dict[str, int]:
    """The size of every symbol, from (manifest shape, actual shape) per input name.

    Raises RecordError when an actual shape does not fit.
    """
    sizes: dict[str, int] = {}
    for shape, actual in shapes.values():
        for dim, size in zip(shape, actual, strict=False):
            if isinstance(dim, str):
                sizes.setdefault(dim, size)
    missing = [s for s in symbols if s not in sizes]
    if missing:
        raise RecordError(f"no input has a dimension of size {', '.join(missing)}")
    for name, (shape, actual) in shapes.items():
        expected = tuple(evaluate(d, sizes) for d in shape)
        if expected != actual:
            raise RecordError(f"input `{name}` has shape {list(actual)}, expected {list(expected)}")
    return sizes
