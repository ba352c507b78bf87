"""The errors that the recorder raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RecordError(Exception):
    """The model cannot be recorded as asked; the message says what, where and what mends it."""


class MissingWeightsError(RecordError):
    """A checkpoint lacks weights of the model, maybe because it names them differently.

    `missing` are the names that it lacks, `unused` those that it has and the model does not.
    """

    def __init__(self, where: str, missing: list[str], unused: list[str]) -> None:
        self.missing = missing
        self.unused = unused
        beside = f"; it has {shown(unused)}, which the model has not" if unused else ""
        super().__init__(f"{where} lacks {len(missing)} weights: {shown(missing)}{beside}")


def shown(names: list[str], most: int = 10) -> str:
    """The names, or the first ones and how many there are beside them."""
    first = ", ".join(plain(name) for name in names[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"


def plain(text: object) -> str:
    """Text of a file as a terminal shows it, whatever is in it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def quoted(name: object) -> str:
    """A name of a file as a terminal shows it."""
    return f"`{plain(name)}`"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the file system says into a RecordError that names the file."""
    try:
        yield
    except OSError as error:
        file = error.filename or path
        raise RecordError(f"cannot write {file}: {error.strerror or error}") from error
