"""Lets sizes of one name be one symbol from the start of a trace.

torch.export gives every open size a symbol of its own and finds out on the way which ones are
equal. A model of 80 layers has 320 sizes of caches that are all called batch or past; merging them
one comparison at a time takes minutes, and the first layer, met before the merge, comes out
different from the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sympy
from torch._dynamo.source import (
    AttrSource,
    GetItemSource,
    LocalSource,
    TensorProperty,
    TensorPropertySource,
)
from torch.fx.experimental import symbolic_shapes
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.symbol import SymT

from .errors import RecordError
from .versions import name_of, traced_sizes


@contextmanager
def shared_sizes(
    names: Mapping[str, Mapping[int, Any]], some: Collection[str] = ()
) -> Iterator[dict[str, str]]:
    """Inside, the axes that `names` calls alike, by path of the input, get one symbol.

    A size may be 0, which torch's own symbols rule out: `if n == 0` would leave no condition.
    Those named in `some` are at least 1. Yields the name of each symbol, as far as it was made.
    """
    original = ShapeEnv.create_symbol
    make_symbol = symbolic_shapes.make_symbol
    made: dict[tuple[int, str], tuple[sympy.Symbol, str]] = {}
    called: dict[str, str] = {}

    def create_symbol(
        self: ShapeEnv, val: Any, source: Any, *args: Any, **kwargs: Any
    ) -> sympy.Expr:
        path, axis = axis_of(source)
        name = size_name(names.get(path, {}).get(axis)) if axis is not None else None
        if name is None or not name.isidentifier():
            return original(self, val, source, *args, **kwargs)
        known = made.get((id(self), name))
        if known is None:
            symbol = original(self, val, source, *args, **kwargs)
            if isinstance(symbol, sympy.Symbol):
                if name in some:
                    self.constrain_symbol_range(symbol, 1, int_oo)
                called[str(symbol)] = name
                made[(id(self), name)] = (symbol, path)
            return symbol
        symbol, first = known
        traced = traced_sizes(self)[symbol]
        if int(traced) != int(val):
            raise RecordError(
                f"dynamic_shapes calls a size of `{first}` and one of `{path}` `{name}`, but they "
                f"are {traced} and {val}"
            )
        self.source_to_var[name_of(source)] = symbol
        self.var_to_sources[symbol].append(source)
        return symbol

    def make_size(prefix: SymT, index: int, **assumed: Any) -> sympy.Symbol:
        if prefix is SymT.SIZE and assumed.pop("positive", None):
            assumed["nonnegative"] = True
        return make_symbol(prefix, index, **assumed)

    symbolic_shapes.make_symbol = make_size  # type: ignore[assignment]
    ShapeEnv.create_symbol = create_symbol  # type: ignore[method-assign, assignment]
    try:
        yield called
    finally:
        symbolic_shapes.make_symbol = make_symbol
        ShapeEnv.create_symbol = original  # type: ignore[method-assign]


def size_name(said: Any) -> str | None:
    """What a size is called by what is said of an axis: a name, a sum of names, or a `Dim`."""
    return said if isinstance(said, str) else getattr(said, "__name__", None)


def axis_of(source: Any) -> tuple[str, int | None]:
    """The path of the input and the axis whose size `source` is."""
    if isinstance(source, TensorPropertySource) and source.prop is TensorProperty.SIZE:
        return _path(source.base), source.idx
    return "", None


def _path(source: Any) -> str:
    if isinstance(source, LocalSource):
        return source.local_name
    if isinstance(source, GetItemSource):
        base, key = _path(source.base), source.index
        return f"{base}[{key}]" if isinstance(key, int) else f"{base}.{key}"
    if isinstance(source, AttrSource):
        return f"{_path(source.base)}.{source.member}"
    return ""
