"""Goldens: every module's outputs for given inputs, with a higher-precision truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .errors import RecordError
from .execute import Executor, truth_dtype
from .schema import Manifest

FORMAT = "pycandle-goldens-1"


def record(
    manifest: Manifest,
    parameters: Callable[[str], torch.Tensor],
    constants: Mapping[str, torch.Tensor],
    inputs: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The tensors of a golden file, by key, in order."""
    keys: dict[str, list[str]] = {}
    for call in manifest.calls:
        for i, name in enumerate(call.outputs):
            keys.setdefault(name, []).append(f"{call.module}#{call.index}.out.{i}")
    tensors = {f"input.{name}": _plain(t) for name, t in inputs.items()}
    plain = Executor(manifest, parameters, constants).run(inputs, keys)
    tensors |= _keyed(plain, keys)
    del plain
    precision = truth_dtype(manifest)
    truth = Executor(manifest, parameters, constants, precision).run(inputs, keys)
    for key, value in _keyed(truth, keys).items():
        if tensors[key].is_floating_point():
            tensors[f"truth:{key}"] = value
    return tensors


def _keyed(
    values: Mapping[str, torch.Tensor], keys: Mapping[str, list[str]]
) -> dict[str, torch.Tensor]:
    found = {k: _plain(v) for k, v in values.items() if k.startswith("output.")}
    for name, places in keys.items():
        for key in places:
            found[key] = _plain(values[name])
    return found


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().clone()


def compare(golden: Mapping[str, torch.Tensor], eager: Mapping[str, torch.Tensor | None]) -> None:
    """Raises RecordError when the trace's outputs are not the model's own."""
    for name, expected in eager.items():
        actual = golden[f"output.{name}"]
        if expected is None:
            continue
        expected = expected.detach().cpu()
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            raise RecordError(
                f"output `{name}` of the trace is {actual.dtype}{list(actual.shape)}, the model "
                f"gives {expected.dtype}{list(expected.shape)}"
            )
        if not _close(actual, expected):
            worst = (actual.double() - expected.double()).abs().max().item()
            raise RecordError(
                f"output `{name}` of the trace differs from the model's by up to {worst:g}; the "
                "model takes another path for these inputs than for those it was traced with"
            )


def _close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    if not actual.is_floating_point() or actual.numel() == 0:
        return torch.equal(actual, expected)
    eps = torch.finfo(actual.dtype).eps
    finite = expected[torch.isfinite(expected)].double()
    scale = finite.abs().max().item() if finite.numel() else 1.0
    atol = max(64 * eps, 1e-12) * scale
    return torch.allclose(actual.double(), expected.double(), rtol=0, atol=atol, equal_nan=True)


def metadata(
    manifest: Manifest,
    manifest_text: str,
    tensors: Mapping[str, torch.Tensor],
    checkpoint: str,
    seed: int | None,
) -> dict[str, str]:
    """What a golden file says about itself."""
    found = {
        "format": FORMAT,
        "torch": manifest.recorder["torch"],
        "dtype": manifest.dtype,
        "device": "cpu",
        "checkpoint": checkpoint,
        "manifest": hashlib.sha256(manifest_text.encode()).hexdigest(),
    }
    if any(k.startswith("truth:") for k in tensors):
        found["truth_dtype"] = str(truth_dtype(manifest)).removeprefix("torch.")
    if seed is not None:
        found["seed"] = str(seed)
    return dict(sorted(found.items()))


def checkpoint_hash(names: Iterable[str], lookup: Callable[[str], torch.Tensor]) -> str:
    """SHA-256 over the sorted names, dtypes, shapes and bytes of the weights."""
    digest = hashlib.sha256()
    for name in sorted(names):
        tensor = lookup(name).detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\0{dtype}\0{list(tensor.shape)}\0".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remove_stale(folder: Path, name: str, keep: Collection[str]) -> None:
    """Removes the goldens of `name` in `folder`, except those named in `keep`.

    A file that does not say that it holds goldens is left alone.
    """
    for path in sorted(folder.iterdir()):
        ours = path.name.startswith(f"{name}_trace.") and path.suffix == ".safetensors"
        if ours and path.name not in keep and path.is_file() and _holds_goldens(path):
            path.unlink()


def _holds_goldens(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False
