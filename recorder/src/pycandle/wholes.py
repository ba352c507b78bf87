"""Sizes that Python computes with floats, as the whole numbers that they come to.

`F.interpolate(scale_factor=0.5)`, `math.ceil(n / 4)` and the length of `torch.arange(n, 0, -1.0)`
go through floats, of which a manifest knows nothing; `int(…)` of one fixes the size. Each is a
quotient of whole numbers, and rounding to a float does not move one across a whole number as long
as sizes stay below 2**31.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import sympy
from torch.utils._sympy import functions as sf
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

_LARGEST = 2**20  # of the numerator and the denominator of a factor, so that products are exact


@dataclass(frozen=True)
class _Quotient:
    """`top / bottom`; not `exact` where the float is only the nearest to that.

    Where a quotient is a whole number, its float always is that number.
    """

    top: sympy.Expr
    bottom: int = 1
    exact: bool = True


def whole(expr: sympy.Expr) -> sympy.Expr:
    """`expr` without floats, where they can be left out; the rest stays as it is."""
    if not expr.args or not expr.has(sf.ToFloat, sf.IntTrueDiv) or _is_fixed(expr):
        return expr
    expr = expr.func(*[whole(arg) for arg in expr.args])
    if isinstance(expr, sympy.core.relational.Relational):
        return _relation(expr)
    if not isinstance(expr, sf.TruncToInt | sf.FloorToInt | sf.CeilToInt):
        return expr
    quotient = _quotient(expr.args[0])
    if quotient is None:
        return expr
    if isinstance(expr, sf.TruncToInt) and not _at_least_zero(quotient.top):
        return expr
    up = quotient.bottom - 1 if isinstance(expr, sf.CeilToInt) else 0
    top, bottom = quotient.top + up, sympy.Integer(quotient.bottom)
    return top if bottom == 1 else sf.FloorDiv(top, bottom)


def _is_fixed(expr: sympy.Expr) -> bool:
    """Whether this is what `int(…)` leaves of a size: one number, said to be equal to it."""
    return isinstance(expr, sympy.Eq) and any(
        isinstance(side, sf.TruncToInt) and other.is_Integer
        for side, other in (expr.args, expr.args[::-1])
    )


def _relation(expr: sympy.Expr) -> sympy.Expr:
    left, right = _quotient(expr.lhs), _quotient(expr.rhs)
    if left is None or right is None or not _comparable(left, right):
        return expr
    return expr.func(left.top * right.bottom, right.top * left.bottom)


def _comparable(a: _Quotient, b: _Quotient) -> bool:
    """Whether nothing is lost where the two meet: of a rounded one, only whole numbers are sure."""
    return (a.exact and b.exact) or a.bottom == 1 or b.bottom == 1


def _quotient(expr: sympy.Expr) -> _Quotient | None:
    """What a float expression comes to; None for what is no quotient by a number."""
    if expr.is_Float or expr.is_Integer:
        number = sympy.Rational(expr)
        fits = max(abs(number.p), number.q) <= _LARGEST
        return _Quotient(sympy.Integer(number.p), int(number.q)) if fits else None
    if isinstance(expr, sf.ToFloat):
        return _Quotient(expr.args[0])
    if isinstance(expr, sf.IntTrueDiv):
        return _divided(*(_Quotient(arg) for arg in expr.args))
    if isinstance(expr, sf.FloatTrueDiv):
        return _divided(*(_quotient(arg) for arg in expr.args))
    if not isinstance(expr, sympy.Add | sympy.Mul):
        return None
    step = _added if isinstance(expr, sympy.Add) else _multiplied
    return functools.reduce(step, map(_quotient, expr.args))


def _added(a: _Quotient | None, b: _Quotient | None) -> _Quotient | None:
    if a is None or b is None or not _comparable(a, b):
        return None
    return _reduced(a.top * b.bottom + b.top * a.bottom, a.bottom * b.bottom, a.exact and b.exact)


def _multiplied(a: _Quotient | None, b: _Quotient | None) -> _Quotient | None:
    if a is None or b is None or not ((a.exact and b.exact) or {a.top, b.top} & {1, -1}):
        return None
    return _reduced(a.top * b.top, a.bottom * b.bottom, a.exact and b.exact)


def _divided(a: _Quotient | None, b: _Quotient | None) -> _Quotient | None:
    if a is None or b is None or not b.top.is_Integer or b.top == 0:
        return None
    bottom = abs(int(b.top))
    top = a.top * b.bottom if b.top > 0 else -a.top * b.bottom
    return _reduced(top, a.bottom * bottom, a.exact and bottom & (bottom - 1) == 0)


def _reduced(top: sympy.Expr, bottom: int, exact: bool) -> _Quotient | None:
    top = sympy.expand(top)
    common = math.gcd(int(top.as_content_primitive()[0]), bottom)
    top, bottom = sympy.expand(top / common), bottom // common
    return _Quotient(top, bottom, exact or bottom == 1) if bottom <= _LARGEST else None


def _at_least_zero(expr: sympy.Expr) -> bool:
    sizes = {symbol: ValueRanges(0, int_oo) for symbol in expr.free_symbols}
    return bool(bound_sympy(expr, sizes).lower >= 0)  # type: ignore[arg-type]
