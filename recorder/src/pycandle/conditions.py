"""From what a trace asks of its sizes to ranges, and to the conditions that no range says.

A relation of integers is kept as `difference <= 0`, `= 0` or `!= 0`. One that holds exactly on an
interval of one size narrows that size's range, by algebra and not by trial, so no size is skipped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import sympy
from torch.utils._sympy import functions as sf

from .dims import depends_on_values, of_values, to_dim
from .errors import RecordError
from .guards import Asked
from .rounding import (
    LARGEST,
    LEAST,
    Range,
    bounds,
    never_above_zero,
    rounded,
    without_idle_operands,
)
from .schema import Condition, DimExpr

# Above every size that there is.
_SIZES = range(2**62)
DIVISIONS = (sf.FloorDiv, sf.Mod, sf.PythonMod, sympy.Mod)
Span = tuple[int | None, int | None]


@dataclass(frozen=True)
class _Relation:
    """`difference` is at most (`le`), equal to (`eq`) or not equal to (`ne`) 0."""

    op: str
    difference: sympy.Expr
    asked: Asked

    @property
    def symbol(self) -> sympy.Symbol | None:
        """The symbol, where there is only one."""
        free = self.difference.free_symbols
        return next(iter(free)) if len(free) == 1 else None  # type: ignore[return-value]


def solve(
    asked: Iterable[Asked], ranges: dict[str, Range], traced: Mapping[str, int]
) -> tuple[Condition, ...]:
    """Narrows `ranges` to the conditions that are an interval of one size; gives the others.

    Conditions are over symbols named as in the manifest; `traced` are the sizes of the trace.
    Raises RecordError for one that a manifest cannot say.
    """
    exact = {sympy.Symbol(n): sympy.Symbol(n, integer=True, nonnegative=True) for n in ranges}
    sizes = {exact[sympy.Symbol(n)]: sympy.Integer(size) for n, size in traced.items()}
    found: dict[tuple[str, sympy.Expr], _Relation] = {}
    for one in asked:
        condition = without_idle_operands(one.condition.xreplace(exact), ranges)
        for part in _parts(condition, sizes):
            for relation in _relations(part, one):
                found.setdefault((relation.op, relation.difference), relation)
    relations = list(found.values())
    for relation in relations:
        _check_traced(relation, sizes)
    while True:
        before = dict(ranges)
        relations = [r for r in relations if not _narrow(ranges, r)]
        if ranges == before:
            break
    relations = [replace(r, difference=_decided(r.difference, ranges)) for r in relations]
    relations = [_sharp(r, ranges) for r in relations if not _implied(r, ranges)]
    for relation in relations:
        _check_divisors(relation, ranges)
    return tuple(_condition(r, ranges) for r in _without_repeats(relations))


def _parts(
    condition: sympy.Basic, sizes: Mapping[sympy.Symbol, sympy.Integer]
) -> Iterator[sympy.Basic]:
    """Relations that together are enough for `condition`: of alternatives, one that was traced."""
    if condition is sympy.true:
        return
    if isinstance(condition, sympy.Not):
        condition = sympy.to_nnf(condition)
    if isinstance(condition, sympy.And):
        for part in condition.args:
            yield from _parts(part, sizes)
    elif isinstance(condition, sympy.Or):
        held = [a for a in condition.args if a.xreplace(sizes) is sympy.true]
        # An alternative that leaves more than one size open is the better one.
        held.sort(key=lambda a: (isinstance(a, sympy.Eq) and a.rhs.is_Integer, str(a)))
        yield from _parts(held[0], sizes) if held else (condition,)
    else:
        yield condition


def _relations(part: sympy.Basic, asked: Asked) -> Iterator[_Relation]:
    if not isinstance(part, sympy.core.relational.Relational):
        raise _unsayable(asked)
    if isinstance(part, sympy.Eq) and (ordered := _as_order(part)):
        for smaller, larger in ordered:
            yield _Relation("le", sympy.expand(smaller - larger), asked)
        return
    d = sympy.expand(part.lhs - part.rhs)
    if isinstance(part, sympy.Eq | sympy.Ne):
        remainders = sympy.expand(d.replace(sf.FloorDiv, _as_remainder))
        d = min(d, remainders, key=sympy.count_ops)
        op = "eq" if isinstance(part, sympy.Eq) else "ne"
        d = -d if d.could_extract_minus_sign() else d
    else:
        op = "le"
        d = -d if isinstance(part, sympy.Gt | sympy.Ge) else d
        d = d + 1 if isinstance(part, sympy.Lt | sympy.Gt) else d
    for division in d.atoms(*DIVISIONS):
        if division.args[1].free_symbols:
            yield _Relation("le", 1 - division.args[1], asked)
    if op == "le" and (sizes := _factors(sympy.expand(1 - d))):
        for size in sizes:
            yield _Relation(op, 1 - size, asked)
        return
    if op != "ne":
        yield _Relation(op, d.as_content_primitive()[1], asked)
        return
    for factor in sympy.Mul.make_args(sympy.factor(d)):
        factor = sympy.expand(factor.base if factor.is_Pow else factor)
        factor = -factor if factor.could_extract_minus_sign() else factor
        if factor.free_symbols:
            yield _Relation("ne", factor.as_content_primitive()[1], asked)


def _factors(product: sympy.Expr) -> list[sympy.Expr]:
    """The sizes of a product of several, which is at least 1 where each of them is."""
    factors = product.as_coeff_Mul()[1].as_ordered_factors() if product.is_Mul else []
    sizes = all(factor.is_Symbol and factor.is_nonnegative for factor in factors)
    return factors if sizes and product.as_coeff_Mul()[0] > 0 else []


def _as_order(part: sympy.Eq) -> list[tuple[sympy.Expr, sympy.Expr]]:
    """What is at most what, where the least or largest of some sizes is said to be one of them."""
    difference = sympy.expand(part.lhs - part.rhs)
    for pick in difference.atoms(*LEAST, *LARGEST):
        factor = difference.coeff(pick)
        other = sympy.expand(pick - difference / factor) if factor.is_Integer else None
        if other not in pick.args:
            continue
        rest = [operand for operand in pick.args if operand != other]
        least = isinstance(pick, LEAST)
        return [(other, operand) if least else (operand, other) for operand in rest]
    return []


def _as_remainder(base: sympy.Expr, divisor: sympy.Expr) -> sympy.Expr:
    return (base - sf.Mod(base, divisor)) / divisor


def _narrow(ranges: dict[str, Range], relation: _Relation) -> bool:
    """Takes out the sizes for which the relation does not hold; whether that is all it says."""
    symbol = relation.symbol
    if symbol is None or str(symbol) not in ranges:
        return False
    span = _span(relation.difference, None if relation.op == "le" else 0, 0)
    if span is None:
        return False
    low, high = ranges[str(symbol)]
    first = low if span[0] is None else max(low, span[0])
    last = high if span[1] is None else span[1] if high is None else min(high, span[1])
    if relation.op != "ne":
        ranges[str(symbol)] = (first, last)
        return True
    if last is not None and last < first:
        return True
    if first == low and last is not None:
        ranges[str(symbol)] = (last + 1, high)
        return True
    if last == high:
        ranges[str(symbol)] = (low, first - 1)
        return True
    return False


def _span(expr: sympy.Expr, low: int | None, high: int | None) -> Span | None:
    """The sizes of the one symbol for which `low <= expr <= high`; None when no interval says it.

    An end that is None is open.
    """
    direction = _direction(expr)
    if not direction:
        return None
    (symbol,) = expr.free_symbols
    if direction < 0:
        expr, low, high = -expr, _negative(high), _negative(low)

    def at(size: int) -> int:
        return int(expr.xreplace({symbol: sympy.Integer(size)}))

    # What only rises crosses a bound once, so that halving finds where.
    first = None if low is None else bisect_left(_SIZES, low, key=at)
    last = None if high is None else bisect_right(_SIZES, high, key=at) - 1
    if first == len(_SIZES):
        return 1, 0
    return first, None if last == len(_SIZES) - 1 else last


def _direction(expr: sympy.Expr) -> int | None:
    """1 of what never falls where its symbol grows, -1 of what never rises, 0 of a number.

    None where that is not plain.
    """
    if expr.is_Integer or expr.is_Symbol:
        return int(expr.is_Symbol)
    if expr.is_Mul:
        factor, rest = expr.as_coeff_Mul()
        direction = _direction(rest) if factor.is_Integer and rest != expr else None
        return direction if direction is None or factor > 0 else -direction
    if isinstance(expr, sf.FloorDiv):
        return _direction(expr.args[0]) if expr.args[1].is_Integer and expr.args[1] > 0 else None
    if not isinstance(expr, (sympy.Add, *LEAST, *LARGEST)):
        return None
    directions = {_direction(operand) for operand in expr.args} - {0}
    return directions.pop() if len(directions) == 1 else None


def _negative(bound: int | None) -> int | None:
    return None if bound is None else -bound


def _decided(difference: sympy.Expr, ranges: Mapping[str, Range]) -> sympy.Expr:
    return sympy.expand(without_idle_operands(difference, ranges))


def _implied(relation: _Relation, ranges: Mapping[str, Range]) -> bool:
    """Whether the relation holds for all sizes of the ranges."""
    difference = sympy.expand(rounded(relation.difference))
    span = bounds(difference, ranges)
    if relation.op == "eq":
        return bool(span.lower == 0 and span.upper == 0)
    if relation.op == "le":
        return never_above_zero(difference, ranges)
    constant, rest = difference.as_coeff_Add()
    return bool(span.lower > 0 or span.upper < 0 or constant % rest.as_content_primitive()[0])


def _sharp(relation: _Relation, ranges: Mapping[str, Range]) -> _Relation:
    """At most 0 is 0 where nothing less can be."""
    if relation.op == "le" and bounds(relation.difference, ranges).lower == 0:
        return replace(relation, op="eq")
    return relation


def _check_traced(relation: _Relation, sizes: Mapping[sympy.Symbol, sympy.Integer]) -> None:
    """A trace at size 1 may stand for every other size and not for its own."""
    difference = relation.difference.xreplace(sizes)
    holds = {"le": difference <= 0, "eq": difference == 0, "ne": difference != 0}[relation.op]
    if difference.is_Integer and not holds:
        free = sorted(relation.difference.free_symbols, key=str)
        raise RecordError(
            f"{relation.asked.at or 'the model'}: the trace holds only where "
            f"`{relation.asked.condition}`, and was made with "
            + ", ".join(f"{s} = {sizes[s]}" for s in free)
            + "; trace with other sizes, or leave them out of dynamic_shapes"
        )


def _check_divisors(relation: _Relation, ranges: Mapping[str, Range]) -> None:
    for division in relation.difference.atoms(*DIVISIONS):
        if not bounds(division.args[1], ranges).lower > 0:
            raise _unsayable(relation.asked)


def _without_repeats(relations: list[_Relation]) -> list[_Relation]:
    """Without those that follow from what another one says is 0."""
    zeros = {r.difference: sympy.Integer(0) for r in relations if r.op == "eq"}
    kept = []
    for relation in relations:
        others = {d: zero for d, zero in zeros.items() if d != relation.difference}
        if relation.op != "eq" or relation.difference.xreplace(others) != 0:
            kept.append(relation)
    return kept


def _condition(relation: _Relation, names: Collection[str]) -> Condition:
    """With what is subtracted on the other side, as one would write it."""
    if any(str(s) not in names for s in relation.difference.free_symbols):
        raise _unsayable(relation.asked)
    op, difference = relation.op, relation.difference
    symbol = relation.symbol
    span = _span(difference, 0, 0) if op == "ne" and symbol is not None else None
    if span is not None and span[0] == span[1]:
        difference = symbol - sympy.Integer(span[0])
    constant, rest = difference.as_coeff_Add()
    if op == "le" and constant == 1 and rest.free_symbols:
        op, difference = "lt", rest
    terms = sympy.Add.make_args(difference)
    minus = [term for term in terms if term.could_extract_minus_sign()]
    left = sympy.Add(*[term for term in terms if term not in minus])
    try:
        sides = (to_dim(left, "left"), to_dim(-sympy.Add(*minus), "right"))
    except RecordError:
        raise _unsayable(relation.asked) from None
    return Condition(DimExpr(op, sides), relation.asked.at)


def _unsayable(asked: Asked) -> RecordError:
    if any(of_values(s) for s in asked.condition.free_symbols):
        return depends_on_values(asked.at or "the model")
    names = sorted(str(s) for s in asked.condition.free_symbols)
    listed = ", ".join(f"`{n}`" for n in names)
    rounded = (
        "write `int(…)` of a size with `//`, which keeps it open; or "
        if asked.condition.has(sf.TruncToInt)
        else ""
    )
    return RecordError(
        f"{asked.at or 'the model'}: the trace holds only where `{asked.condition}`, which a "
        f"manifest cannot say; {rounded}leave {listed} out of dynamic_shapes, or give a range in "
        f'which it always holds, as `Dim("{names[0] if names else "n"}", min=2, max=64)`'
    )
