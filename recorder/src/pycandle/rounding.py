"""What rounding of sizes comes to: how padding to a multiple is written, and what it never exceeds.

`n + (8 - n % 8) % 8` is the next multiple of 8, `8 * ((n + 7) // 8)`, and that is at least `n`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sympy
from torch.utils._sympy import functions as sf
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

Range = tuple[int, int | None]

_REMAINDERS = (sf.Mod, sf.PythonMod, sympy.Mod)
LEAST = (sf.Min, sympy.Min)
LARGEST = (sf.Max, sympy.Max)


def without_idle_operands(expr: sympy.Basic, ranges: Mapping[str, Range]) -> sympy.Basic:
    """`expr` without the operands of `min` and `max` that never decide for sizes in `ranges`."""
    if not expr.has(*LEAST, *LARGEST):
        return expr
    args = [without_idle_operands(rounded(arg), ranges) for arg in expr.args]
    if not isinstance(expr, LEAST + LARGEST):
        return expr.func(*args)
    sign = 1 if isinstance(expr, LEAST) else -1
    deciding: list[sympy.Expr] = []
    for one in args:
        if not any(never_above_zero(sign * (other - one), ranges) for other in deciding):
            rest = [o for o in deciding if not never_above_zero(sign * (one - o), ranges)]
            deciding = [*rest, one]
    return expr.func(*deciding)


def rounded(expr: sympy.Basic) -> sympy.Basic:
    """`expr` without remainders of remainders, and of numbers below zero."""
    if not expr.has(*_REMAINDERS):
        return expr
    expr = expr.func(*map(rounded, expr.args))
    if not isinstance(expr, _REMAINDERS) or not expr.args[1].is_Integer or expr.args[1] < 1:
        return expr
    base, divisor = expr.args
    inner = {part: part.args[0] for part in base.atoms(*_REMAINDERS) if _drops(part, divisor)}
    terms = sympy.expand(base).as_coefficients_dict()
    base = sympy.expand(sum(count * inner.get(term, term) for term, count in terms.items()))
    constant, rest = base.as_coeff_Add()
    if constant % divisor == 0 and all(n < 0 for n in rest.as_coefficients_dict().values()):
        return divisor * sf.FloorDiv(divisor - 1 - rest, divisor) + rest
    return expr


def _drops(part: sympy.Basic, divisor: sympy.Integer) -> bool:
    """Whether a remainder makes no difference to one by `divisor`."""
    by = part.args[1]
    return bool(by.is_Integer and by % divisor == 0)


def never_above_zero(expr: sympy.Expr, ranges: Mapping[str, Range]) -> bool:
    """Whether `expr` is proved to be at most 0 for all sizes in `ranges`."""
    return any(bounds(e, ranges).upper <= 0 for e in _without_floors(sympy.expand(expr)))


def _without_floors(difference: sympy.Expr) -> Iterator[sympy.Expr]:
    """Expressions that are at most 0 only where `difference` is, with ever fewer quotients."""
    yield difference
    yield sympy.factor(difference)
    while divisions := _quotients(difference):
        division = divisions[0]
        base, divisor = division.args
        factor = difference.coeff(division)
        least = base if factor > 0 else base - divisor + 1
        difference = sympy.expand(divisor * (difference - factor * division) + factor * least)
        yield difference


def _quotients(expr: sympy.Expr) -> list[sympy.Expr]:
    """Quotients by a number, inside of no other one, that `expr` has a number of; larger first."""
    found = [
        division
        for division in expr.atoms(sf.FloorDiv)
        if division.args[1].is_Integer
        and division.args[1] > 0
        and expr.coeff(division).is_Integer
        and not (expr - expr.coeff(division) * division).expand().has(division)
    ]
    return sorted(found, key=lambda division: (-sympy.count_ops(division), str(division)))


def bounds(expr: sympy.Expr, ranges: Mapping[str, Range]) -> ValueRanges[sympy.Expr]:
    """The values that `expr` has for the sizes in `ranges`."""
    held = {s: ranges[str(s)] for s in expr.free_symbols if str(s) in ranges}
    known = {
        s: ValueRanges(low, int_oo if high is None else high) for s, (low, high) in held.items()
    }
    return bound_sympy(expr, known)  # type: ignore[arg-type]
