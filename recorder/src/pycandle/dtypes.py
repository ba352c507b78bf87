"""Names of dtypes."""

from __future__ import annotations

import torch

from .errors import RecordError
from .schema import DTYPES


def dtype_name(dtype: torch.dtype, where: str) -> str:
    """The manifest's name of a dtype."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise RecordError(f"{where} has dtype {name}, which the manifest has no form for")
    return name


def raised(dtype: torch.dtype) -> torch.dtype:
    """The dtype that is precise enough to judge `dtype` by."""
    return torch.float64 if dtype in (torch.float32, torch.float64) else torch.float32
