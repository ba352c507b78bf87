"""Files of `torch.save` that were cut, changed or made up: one error each, with the file."""

import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._utils import _rebuild_tensor_v2

from pycandle.errors import RecordError
from pycandle.unpickle import unpickle

Edit = Callable[[str, bytes], tuple[str, bytes]]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.bin"
    torch.save({"first": torch.arange(1000.0), "second": torch.ones(100_000)}, path)
    return path


def _refused(path: Path, said: str) -> None:
    before = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(RecordError, match=said) as error:
        unpickle(path, path.parent / "out.safetensors")
    assert str(path) in str(error.value) and str(error.value).isprintable()
    assert sorted(p.name for p in path.parent.iterdir()) == before


def _rewritten(good: Path, edit: Edit, compression: int = zipfile.ZIP_STORED) -> Path:
    path = good.with_name("edited.bin")
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(*edit(name, old.read(name)))
    return path


def _cut(end: str, bytes_: int) -> Edit:
    return lambda name, held: (name, held[:bytes_] if name.endswith(end) else held)


def test_an_archive_that_was_cut_is_called_so(good: Path) -> None:
    whole, path = good.read_bytes(), good.with_name("cut.bin")
    for length in (4, 100, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        path.write_bytes(whole[:length])
        _refused(path, "is a damaged archive: it was cut")


def test_storages_have_the_bytes_that_are_read_of_them(good: Path) -> None:
    same = _rewritten(good, lambda name, held: (name, held))
    unpickle(same, good.with_name("same.safetensors"))
    assert torch.equal(load_file(good.with_name("same.safetensors"))["second"], torch.ones(100_000))
    # What follows the short one in the file is long enough to be read in its place.
    _refused(_rewritten(good, _cut("data/0", 400)), "stored in 4000 bytes, .* the archive has 400")
    _refused(_rewritten(good, _cut("data/1", 400)), "larger than what it holds of that tensor")
    _refused(_rewritten(good, _cut("data.pkl", 0)), "ends too early")


def test_compressed_bytes_are_not_taken_for_values(good: Path) -> None:
    def bomb(name: str, held: bytes) -> tuple[str, bytes]:
        return name, bytes(100 << 20) if name.endswith("data/1") else held

    _refused(_rewritten(good, bomb, zipfile.ZIP_DEFLATED), "is compressed")


@pytest.mark.parametrize("end", [b"data.pkl", b"data/1"])
@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFF0])
def test_sizes_of_the_directory_are_not_believed(good: Path, end: bytes, size: int) -> None:
    held, path, at = bytearray(good.read_bytes()), good.with_name("sizes.bin"), 0
    while (at := held.find(b"PK\x01\x02", at)) >= 0:
        (length,) = struct.unpack_from("<H", held, at + 28)
        if held[at + 46 : at + 46 + length].endswith(end):
            struct.pack_into("<II", held, at + 20, size, size)
        at += 4
    path.write_bytes(held)
    _refused(path, "by its directory" if size else "stored in 400000 bytes|ends too early")


@pytest.mark.parametrize("place", ["../../", "/", "good/../../", "good\\..\\"])
def test_names_that_lead_elsewhere_are_refused(good: Path, place: str) -> None:
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr(f"{place}evil", b"x")
    _refused(good, "leads out of the archive")


class _Call:
    """Becomes a call when it is unpickled."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
def test_a_program_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, ran = tmp_path / "model.pt", tmp_path / "ran"
    call = _Call(os.system, (f"touch {ran}",))
    for held in ({"a": call}, {"a": torch.ones(1), "b": {"c": [torch.zeros(1), call]}}, call):
        torch.save(held, path, _use_new_zipfile_serialization=zipped)
        _refused(path, "could run code")
    assert not ran.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (1000,), (1,)),
        (5000, (2,), (1,)),
        (-4, (2,), (1,)),
        (1 << 62, (2,), (1,)),
        (0, (2, 2), (1000, 1)),
        (4, (2,), (-1,)),
        (0, (1 << 40, 1 << 40), (1, 1)),
        (0, (-2,), (1,)),
        (0, (2, 2), (1,)),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of torch, that typed storages will go
def test_views_stay_in_their_storage(
    tmp_path: Path, zipped: bool, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = tmp_path / "model.bin"
    storage = torch.arange(6.0).storage()
    view = _Call(_rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict()))
    torch.save({"w": view}, path, _use_new_zipfile_serialization=zipped)
    _refused(path, "larger than what it holds of that tensor")


@pytest.mark.parametrize("zipped", [True, False])
def test_an_expanded_tensor_takes_no_more_than_the_file(tmp_path: Path, zipped: bool) -> None:
    path, out = tmp_path / "model.bin", tmp_path / "out.safetensors"
    torch.save({"w": torch.ones(1).expand(1 << 40)}, path, _use_new_zipfile_serialization=zipped)
    _refused(path, "`w` would take 4398046511104 bytes, the whole file has")
    torch.save({"w": torch.ones(1).expand(3)}, path, _use_new_zipfile_serialization=zipped)
    unpickle(path, out)
    assert load_file(out)["w"].tolist() == [1, 1, 1]


def test_what_is_beside_tensors_does_no_harm(tmp_path: Path) -> None:
    path, out = tmp_path / "model.bin", tmp_path / "out.safetensors"
    beside = {"lr": 1, "none": None, "set": {1, 2}, "size": torch.Size([2]), "type": torch.float16}
    parameter = torch.nn.Parameter(torch.ones(2))
    torch.save({"model": OrderedDict(w=parameter, beside=beside), "log": [1, ("a", b"b")]}, path)
    unpickle(path, out)
    assert load_file(out)["w"].tolist() == [1, 1]
