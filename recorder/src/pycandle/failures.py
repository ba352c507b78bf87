"""Says in one sentence what went wrong in a user's model: where, what, and what mends it.

The exception that was raised stays the cause; its text is torch's, and speaks of torch's insides.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.export import _trace
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from .calls import is_library_source, is_model_source, relative
from .errors import RecordError

KEEPS_NOTHING = (
    "a recorded model keeps nothing from one call to the next, in a buffer neither: pass it as an "
    "argument and return it"
)

_TALKING = (
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.proxy_tensor",
    "torch.fx.experimental.symbolic_shapes",
)


def place(module: str, line: str | None) -> str:
    """A module, and the Python line where it is known."""
    name = f"module `{module}`" if module else "the model"
    return f"{name} ({line})" if line else name


@contextmanager
def explained(model: nn.Module) -> Iterator[None]:
    """Turns whatever a run of `model` raises into a RecordError that names the user's own line."""
    try:
        yield
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(f"{_where(model, error)}{_what(error)}") from error


def first_line(error: BaseException) -> str:
    """The kind of an exception and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0].rstrip('.:')}" if lines else kind


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, torch shows no tracebacks and graphs of what is an error; with TORCH_LOGS it does.

    Nor does it advise to make buffers of attributes, which are no state for us either.
    """
    if "TORCH_LOGS" in os.environ:
        yield
        return
    loggers = [logging.getLogger(name) for name in _TALKING]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    vars(_trace)["print"] = lambda *_args, **_kwargs: None  # of the graph up to the error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The tensor attributes? .* assigned during")
            yield
    finally:
        del vars(_trace)["print"]
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _where(model: nn.Module, error: BaseException) -> str:
    """The innermost module that was running, and the innermost line outside of torch."""
    names = {id(module): name for name, module in model.named_modules()}
    module, line = "", None
    for frame, number in traceback.walk_tb(error.__traceback__):
        running = frame.f_locals.get("self")
        if isinstance(running, nn.Module) and id(running) in names:
            module = names[id(running)]
        file = frame.f_code.co_filename
        if is_model_source(file) and not is_library_source(file):
            line = f"{relative(file)}:{number}"
    return place(module, line)


def _what(error: BaseException) -> str:
    if isinstance(error, GuardOnDataDependentSymNode):
        return (
            " takes a path that depends on the values of a tensor; a recorded model takes one for "
            "all values: compute both and choose with `torch.where`, and leave out checks of values"
        )
    if re.search(r"found (at least two|two different) devices", str(error)):
        return (
            " puts tensors of two devices together; make tensors on the device of an input, and "
            "record with the model and its inputs on one device"
        )
    if kept := re.match(r"Constant (\S+) is mutated in the forward method", str(error)):
        home, _, name = kept[1].rpartition(".")
        listed = f"a tensor in an attribute of `{home}`" if home else "a tensor in an attribute"
        what = listed if name.startswith("lifted_tensor_") else f"the tensor `{kept[1]}`"
        return f" writes to {what}, and {KEEPS_NOTHING}"
    if "unhashable type" in str(error) and "SymInt" in str(error):
        return (
            " takes an open size as the key of a dict or puts it into a set, which needs one "
            "value: compute without, or leave the axes that it comes from out of dynamic_shapes"
        )
    if "fake tensor in the exported program constant" in str(error):
        return (
            " hands a tensor to code that torch does not trace through, as `torch.vmap` does with "
            "parameters: write it for whole tensors, as with `torch.einsum`"
        )
    return (
        f" cannot be recorded: {first_line(error)}; forward has to run on these inputs, and is "
        "traced with tensors that have a shape and no values"
    )
