"""The archives that `torch.save` writes, checked for what `torch.load` takes on trust.

A file that is mapped is read where the archive's directory says that a storage begins, as many
bytes as the pickle asks for: whether those are the bytes of that storage, nobody else looks.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from .errors import RecordError, quoted

_START = b"PK\x03\x04"
_SCRIPT = "/constants.pkl"
_PICKLE = "/data.pkl"


def is_archive(file: Path) -> bool:
    """Whether it is one; one that was cut or changed is an error."""
    with file.open("rb") as opened:
        starts = opened.read(len(_START)) == _START
    if starts and not zipfile.is_zipfile(file):
        raise _damaged(file)
    return starts


def check_entries(file: Path) -> None:
    """Refuses entries that are not what `torch.save` writes, before any is read."""
    size, entries = file.stat().st_size, _entries(file)
    if any(entry.filename.endswith(_SCRIPT) for entry in entries):
        raise RecordError(
            f"{file} holds TorchScript, a program: where you trust it, write "
            f"torch.save(torch.jit.load({str(file)!r}).state_dict(), "
            f"{str(file.with_suffix('.state_dict.bin'))!r}), and unpickle that"
        )
    for entry in entries:
        name = entry.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise RecordError(f"{file} holds {quoted(name)}, a name that leads out of the archive")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise RecordError(
                f"{file}: {quoted(name)} is compressed, which torch.load maps as if it were not: "
                "save the checkpoint again with torch.save"
            )
        if entry.header_offset + entry.file_size > size:
            raise RecordError(
                f"{file}: {quoted(name)} has {entry.file_size} bytes by its directory, "
                f"the whole file {size}"
            )


def check_storages(file: Path) -> None:
    """Refuses storages of another size than the pickle asks for; `torch.load` has accepted it."""
    sizes = {entry.filename: entry.file_size for entry in _entries(file)}
    with zipfile.ZipFile(file) as archive:
        for name in sizes:
            if not name.endswith(_PICKLE):
                continue
            with archive.open(name) as pickled:
                storages = _Storages(pickled)
                storages.load()
            for key, expected in storages.bytes.items():
                held = sizes.get(f"{name.removesuffix(_PICKLE)}/data/{key}", 0)
                if held != expected:
                    raise RecordError(
                        f"{file}: a tensor is stored in {expected} bytes, of which the archive "
                        f"has {held}: it was cut or changed, copy or download it again"
                    )


def _entries(file: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> RecordError:
    return RecordError(f"{file} is a damaged archive: it was cut, copy or download it again")


class _Storages(pickle.Unpickler):
    """Reads which storages a pickle refers to, and makes nothing that it describes."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Nothing,), {"module": module})

    def persistent_load(self, pid: Any) -> None:
        _, kind, key, _, count = pid
        dtype = getattr(getattr(torch, kind.__name__, None), "dtype", torch.uint8)
        self.bytes[str(key)] = count * dtype.itemsize


class _Nothing:
    """Stands for whatever a pickle makes or calls."""

    def __new__(cls, *_args: object, **_named: object) -> _Nothing:
        return object.__new__(cls)

    def __init__(self, *_args: object, **_named: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def append(self, _value: object) -> None: ...
