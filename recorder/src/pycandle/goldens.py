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


Outputs = Mapping[str, torch.Tensor | None]


def compare(
    golden: Mapping[str, torch.Tensor], eager: Outputs, raised: Callable[[], Outputs | None]
) -> None:
    """Raises RecordError when the trace's outputs are not the model's own.

    In half precision rounding hides a wrong path. Where outputs of that differ by more than a
    float32 model's may, the truth is compared with `raised()`, the model's outputs in float32; it
    gives None when it cannot run so, and then the outputs are held to what rounding allows.
    """
    for name, expected in eager.items():
        if expected is None:
            continue
        expected = expected.detach().cpu()
        actual = golden[f"output.{name}"]
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            raise RecordError(
                f"output `{name}` of the trace is {actual.dtype}{list(actual.shape)}, the model "
                f"gives {expected.dtype}{list(expected.shape)}"
            )
        bound = 1e-12 if actual.dtype is torch.float64 else 1e-5
        if _close(actual, expected, bound):
            continue
        if actual.dtype in (torch.bfloat16, torch.float16):
            above = (raised() or {}).get(name)
            truth = golden.get(f"truth:output.{name}")
            if above is None or truth is None or above.shape != truth.shape:
                alike = _close(actual, expected, 2e-2)
            else:
                alike = _close(truth.float(), above.detach().cpu().float(), bound)
            if alike:
                continue
        worst = (actual.double() - expected.double()).abs().max().item()
        raise RecordError(
            f"output `{name}` of the trace differs from the model's by up to {worst:g}; the "
            "model takes another path for these inputs than for those it was traced with"
        )


def _close(actual: torch.Tensor, expected: torch.Tensor, bound: float) -> bool:
    """Whether the relative L2 distance is within `bound`; of the huge, whether they are equal.

    Huge are fills such as the dtype's lowest value or -1e9, next to which any other error would
    vanish.
    """
    if not actual.is_floating_point() or actual.numel() == 0:
        return torch.equal(actual, expected)
    limit = min(9e8, torch.finfo(actual.dtype).max / 2)
    plain = (actual.abs() < limit) & (expected.abs() < limit)
    if not torch.allclose(actual[~plain], expected[~plain], rtol=0, atol=0, equal_nan=True):
        return False
    norm = expected[plain].double().norm().item()
    distance = (actual[plain].double() - expected[plain].double()).norm().item()
    return distance <= bound * norm


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
