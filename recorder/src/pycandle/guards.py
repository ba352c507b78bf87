"""What a trace asks of its sizes, and which line of the model asks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sympy
from torch._dynamo.exc import UserError
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from .calls import OWN, is_library_source, is_model_source, relative
from .errors import RecordError
from .shared import axis_of, size_name

_TRACE = os.path.join(OWN, "trace.py")


@dataclass(frozen=True)
class Asked:
    """A condition that the sizes meet in every run for which the trace is right."""

    condition: sympy.Basic
    at: str | None  # file.py:line


@dataclass
class Noted:
    """All conditions of one trace, in order."""

    asked: list[Asked] = field(default_factory=list)
    env: ShapeEnv | None = None


@contextmanager
def noted(names: Mapping[str, Mapping[int, Any]]) -> Iterator[Noted]:
    """Inside, what it yields grows by each condition that torch puts on the sizes.

    `names` is what the user said about each axis, by path of the input. A size that was to be open
    and that the model fixes is an error here, with the line that fixes it.
    """
    found = Noted()
    original = ShapeEnv._log_guard

    def log_guard(self: ShapeEnv, prefix: str, g: Any, *args: Any, **kwargs: Any) -> None:
        if "suppressed" not in prefix:
            found.asked.append(Asked(g, _current_line()))
            found.env = self
        original(self, prefix, g, *args, **kwargs)

    ShapeEnv._log_guard = log_guard  # type: ignore[method-assign]
    try:
        yield found
    except UserError as error:
        fixed = _fixed(found, names)
        if not fixed:
            raise
        raise RecordError(fixed) from error
    finally:
        ShapeEnv._log_guard = original  # type: ignore[method-assign]


def _current_line() -> str | None:
    """`file.py:line` of the innermost frame in the model's own source."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != _TRACE:
        file = frame.f_code.co_filename
        if is_model_source(file) and not is_library_source(file):
            return f"{relative(file)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _fixed(found: Noted, names: Mapping[str, Mapping[int, Any]]) -> str:
    """Which open sizes the model allows one value only, one per line."""
    lines = []
    for symbol, value in found.env.replacements.items() if found.env else ():
        if not value.is_Integer:
            continue
        asking = (a.at for a in found.asked if a.condition.free_symbols == {symbol} and a.at)
        where = next(asking, "the model")
        for source in found.env.var_to_sources.get(symbol, ()):  # type: ignore[union-attr]
            path, axis = axis_of(source)
            said = names.get(path, {}).get(axis) if axis is not None else None
            if said is not None:
                text = size_name(said)
                of_axis = f"axis {axis} of `{path}`"
                name = f"`{text}` ({of_axis})" if text else f"of {of_axis}"
                others = ", or name the axes of other inputs that are as large" * (len(names) > 1)
                lines.append(
                    f"{where}: the size {name} can only be {value}; leave that axis out of "
                    f"dynamic_shapes{others}"
                )
    return "\n".join(dict.fromkeys(lines))
