"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def finished(path: Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name when all of it is on the disk, in place of an earlier one.

    Where writing fails or is interrupted nothing is left of it, and what was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.pycandle-part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        error.filename = str(path)  # that the part has another name is nothing to a user
        raise
    finally:
        part.unlink(missing_ok=True)
