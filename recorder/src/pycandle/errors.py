"""The errors that the recorder raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RecordError(Exception):
    """The model cannot be recorded as asked; the message says what, where and what mends it."""


class MissingWeightsError(RecordError):
    """A checkpoint lacks weights of the model, maybe because it names them differently."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the file system says into a RecordError that names the file."""
    try:
        yield
    except OSError as error:
        file = error.filename or path
        raise RecordError(f"cannot write {file}: {error.strerror or error}") from error
