import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pycandle.cli import main
from pycandle.errors import RecordError
from pycandle.unpickle import unpickle


def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shared = torch.randn(3, 4)
    return {
        "a.weight": shared,
        "tied.weight": shared,
        "transposed": shared.t(),
        "half": torch.randn(5).bfloat16(),
        "eight": torch.arange(4).byte().view(torch.float8_e4m3fn),
        "count": torch.tensor(7),
        "none": torch.empty(0, 2),
    }


def _same(out: Path, state: dict[str, torch.Tensor]) -> None:
    read = load_file(out)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        flat = [t.contiguous().reshape(-1).view(torch.uint8) for t in (read[name], tensor)]
        assert torch.equal(*flat)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_rewritten(tmp_path: Path, zipped: bool) -> None:
    path, out = tmp_path / "pytorch_model.bin", tmp_path / "out.safetensors"
    state = _state()
    if not zipped:  # the old format has no such tensors
        del state["eight"]
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    before = path.read_bytes()
    assert unpickle(path, out).tensors.keys() == state.keys()
    _same(out, state)
    assert path.read_bytes() == before
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.safetensors", "pytorch_model.bin"]
    with pytest.raises(RecordError, match="is there already"):
        unpickle(path, out)


def test_tensors_are_found_under_a_key(tmp_path: Path) -> None:
    path, out = tmp_path / "last.ckpt", tmp_path / "out.safetensors"
    torch.save({"epoch": 3, "state_dict": _state(), "optimizer": {"lr": 0.1}}, path)
    unpickle(path, out)
    _same(out, _state())
    torch.save({"model": _state(), "ema": _state()}, path)
    with pytest.raises(RecordError, match="under `model`, `ema`: choose one with --key"):
        unpickle(path, tmp_path / "two.safetensors")
    unpickle(path, tmp_path / "two.safetensors", key="ema")
    _same(tmp_path / "two.safetensors", _state())


def test_shards_are_put_together(tmp_path: Path) -> None:
    state = _state()
    halves = [dict(list(state.items())[:3]), dict(list(state.items())[3:])]
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    weight_map = {}
    for name, half in zip(names, halves, strict=True):
        torch.save(half, tmp_path / name)
        weight_map |= dict.fromkeys(half, name)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    unpickle(index, tmp_path / "out.safetensors")
    _same(tmp_path / "out.safetensors", state)


def test_an_index_names_only_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    torch.save(_state(), tmp_path / "secret.bin")
    index = tmp_path / "inner" / "pytorch_model.bin.index.json"
    outside = ["../secret.bin", str(tmp_path / "secret.bin"), "a\\b.bin", "c:b.bin", ""]
    for name in [*outside, 3, None, {"x": 1}, ["x"], "\x1b[31m.bin", "\u202e.bin", "\ud800.bin"]:
        index.write_text(json.dumps({"weight_map": {"a.weight": name}}))
        with pytest.raises(RecordError, match="not plainly a file inside its folder") as error:
            unpickle(index, tmp_path / "out.safetensors")
        assert str(error.value).isprintable()
    for text in ("[" * 100_000, '{"weight_map": ["a"]}', '{"weight_map": {"a": }}'):
        index.write_text(text)
        with pytest.raises(RecordError, match="is not an index of shards"):
            unpickle(index, tmp_path / "out.safetensors")


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "last.ckpt", tmp_path / "out.safetensors"
    itself: dict[str, object] = {"w": torch.zeros(2)}
    itself["itself"] = itself
    held = {"blocks": {"0": itself}, "head": torch.zeros(1), "\x1b": [torch.zeros(1)], "epoch": 3}
    torch.save(held, path)
    assert main(["unpickle", str(path), "--out", str(out)]) == 0
    assert r"left out, with so many tensors in them: `blocks` (1), `\x1b` (1)" in (
        capsys.readouterr().out
    )
    out.unlink()
    torch.save({"state_dict": _state() | {"extra": itself}, "optimizer": {"state": itself}}, path)
    assert main(["unpickle", str(path), "--out", str(out), "--json"]) == 0
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert left_out == {"optimizer": 1, "state_dict": 1}
    _same(out, _state())


def test_a_negative_view_is_written_with_its_values(tmp_path: Path) -> None:
    path, out = tmp_path / "model.bin", tmp_path / "out.safetensors"
    torch.save({"a": torch._neg_view(torch.tensor([1.0, -2.0]))}, path)
    unpickle(path, out)
    assert load_file(out)["a"].tolist() == [-1.0, 2.0]


def test_tensors_that_safetensors_has_not_are_named(tmp_path: Path) -> None:
    path, out = tmp_path / "model.bin", tmp_path / "out.safetensors"
    for tensor, said in (
        (torch.zeros(2, device="meta"), r"`a` \(without values, on meta\)"),
        (torch.eye(2).to_sparse(), r"`a` \(torch.sparse_coo\)"),
        (torch.zeros(2, dtype=torch.complex64), r"`a` \(torch.complex64\)"),
    ):
        torch.save({"a": tensor}, path)
        with pytest.raises(RecordError, match=said):
            unpickle(path, out)
    torch.save({1: torch.zeros(2), "1": torch.ones(2)}, path)
    with pytest.raises(RecordError, match="two tensors that are called `1`"):
        unpickle(path, out)
    assert not out.exists()


@pytest.mark.filterwarnings("ignore")  # of torch, that it will go
def test_torchscript_is_named_with_what_mends_it(tmp_path: Path) -> None:
    path, out = tmp_path / "script.pt", tmp_path / "out.safetensors"
    module = torch.nn.Linear(2, 2)
    torch.jit.save(torch.jit.script(module), path)
    with pytest.raises(RecordError, match="holds TorchScript") as error:
        unpickle(path, out)
    said = str(error.value)
    exec(said[said.index("torch.save(") : said.index(", and unpickle that")])
    unpickle(tmp_path / "script.state_dict.bin", out)
    _same(out, dict(module.state_dict()))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('this ran')",))


def test_no_code_of_the_file_is_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for held in ({"a": Evil()}, torch.nn.Linear(2, 2)):
        torch.save(held, path)
        with pytest.raises(RecordError, match="could run code"):
            unpickle(path, tmp_path / "out.safetensors")


def test_what_is_no_checkpoint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "model.bin", tmp_path / "out.safetensors"
    for bytes_ in (b"", b"PK\x03\x04 and nothing more", b"\x80\x02}q."):
        path.write_bytes(bytes_)
        assert main(["unpickle", str(path), "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and str(path) in said
    assert main(["unpickle", str(tmp_path / "absent.bin"), "--out", str(out)]) == 1
    torch.save({"a": torch.zeros(2)}, path)
    assert main(["unpickle", str(path), "--out", str(out), "--json"]) == 0
    assert '"tensors": 1' in capsys.readouterr().out


def test_memory_is_that_of_the_largest_tensor(tmp_path: Path) -> None:
    path, out = tmp_path / "pytorch_model.bin", tmp_path / "out.safetensors"
    largest = 64 << 20
    state = {f"{i}.weight": torch.zeros(largest // 4) for i in range(4)}
    state["transposed"] = torch.zeros(4096, largest // 4 // 4096).t()  # is copied to be written
    torch.save(state, path)
    del state
    # Pages of the file are mapped and can be dropped: what counts is memory of the process's own.
    code = """
import sys, threading, time
from pathlib import Path
from pycandle.unpickle import unpickle
def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(l for l in lines if l.startswith("RssAnon")).split()[1])
before, most, done = own(), 0, threading.Event()
def watch():
    global most
    while not done.wait(0.002):
        most = max(most, own())
watcher = threading.Thread(target=watch)
watcher.start()
unpickle(Path(sys.argv[1]), Path(sys.argv[2]))
done.set()
watcher.join()
print(most - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ran.stdout) < largest + (64 << 20)
    assert out.stat().st_size > 5 * largest
