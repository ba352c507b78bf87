"""What torch calls differently from 2.9 on."""

from __future__ import annotations

from typing import Any

import sympy
from torch.fx.experimental.symbolic_shapes import ShapeEnv


def traced_sizes(env: ShapeEnv) -> dict[sympy.Symbol, sympy.Integer]:
    """What each symbol stood for in the trace; `backed_var_to_val` since 2.11."""
    return env.backed_var_to_val if hasattr(env, "backed_var_to_val") else env.var_to_val


def name_of(source: Any) -> str:
    """The expression that a size is read by; a property since 2.10."""
    return source.name() if callable(source.name) else source.name
