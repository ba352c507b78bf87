"""`python -m pycandle`: records a local Hugging Face model folder, or unpickles a checkpoint."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .checkpoint import Checkpoint, memory_size
from .errors import MissingWeightsError, RecordError, quoted, shown
from .examples import example, fixed
from .failures import first_line
from .huggingface import hub_place, origin_of
from .meta import meta_device
from .recorder import GoldenRecorder, check_name
from .schema import Manifest
from .unpickle import unpickle


@dataclass(frozen=True)
class Done:
    """What `record` wrote."""

    manifest: str
    goldens: str | None
    weights: str | None
    nodes: int
    parameters: int
    seconds: float


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = _parser().parse_args(argv)
    started = time.monotonic()

    def say(text: str) -> None:
        if not args.quiet:
            print(f"{time.monotonic() - started:6.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        if args.command == "unpickle":
            return _unpickle(args)
        done = _record(args, say, started)
    except RecordError as error:
        if args.json:
            print(json.dumps({"error": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(asdict(done)))
    else:
        for path in (done.manifest, done.goldens, done.weights):
            if path is not None:
                print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pycandle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser(
        "record", help="trace a model folder (config.json, safetensors) and record goldens"
    )
    record.add_argument("path", type=Path, help="the model folder")
    record.add_argument("--out", type=Path, default=Path("pycandle_trace"), help="where to write")
    record.add_argument("--name", help="file stem; the folder's name when left out")
    record.add_argument("--dtype", help="float32, bfloat16 or float16; the config's when left out")
    record.add_argument("--class", dest="cls", help="transformers class; the config's by default")
    record.add_argument(
        "--no-goldens", action="store_true", help="trace only; of weights, read names"
    )
    record.add_argument(
        "--no-cache", action="store_true", help="trace a causal model without cache"
    )
    record.add_argument("--max-memory", help="stream larger weights one by one, e.g. 8GiB")
    record.add_argument(
        "--decompose",
        action="append",
        default=[],
        metavar="OP",
        help="trace this operator as simpler ones, e.g. aten.glu; may be given several times",
    )
    record.add_argument(
        "--fix",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="trace for this size alone, e.g. sequence=64; may be given several times",
    )
    record.add_argument("--seed", type=int, default=0, help="seed of the random inputs")
    pickled = commands.add_parser(
        "unpickle", help="rewrite a checkpoint of torch.save (.bin, .pt) as safetensors"
    )
    pickled.add_argument("path", type=Path, help="the file, or the index of several")
    pickled.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    pickled.add_argument("--key", help="under which the file holds the tensors, as `state_dict`")
    for command in (record, pickled):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
        command.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _unpickle(args: argparse.Namespace) -> int:
    done = unpickle(args.path, args.out, args.key)
    if args.json:
        counts = {"tensors": len(done.tensors), "left_out": done.left_out}
        print(json.dumps({"weights": str(args.out)} | counts))
        return 0
    print(f"{args.out}: {len(done.tensors)} tensors")
    left_out = [f"{quoted(name)} ({count})" for name, count in done.left_out.items()]
    if left_out:
        print(f"left out, with so many tensors in them: {shown(left_out)}")
    return 0


def _record(args: argparse.Namespace, say: Any, started: float) -> Done:
    path: Path = args.path
    if not (path / "config.json").is_file():
        raise RecordError(f"{path} is not a model folder: it has no config.json")
    name = args.name or _stem(path)
    check_name(name)
    most = None if args.max_memory is None else memory_size(args.max_memory)
    sizes = _sizes(args.fix)
    cls, config = _class_of(path, args.cls)
    dtype = _dtype(args.dtype, config)
    say(f"building {cls.__name__} on meta in {str(dtype).removeprefix('torch.')}")
    recorder = GoldenRecorder(args.out, seed=args.seed, decompose=args.decompose)
    with _in_one_line(cls, "exported"):
        model = _build(cls, config, dtype)
        given = fixed(example(model, cache=not args.no_cache, seed=args.seed), sizes)
        say("tracing")
        with _fixable():
            manifest = recorder.record(model, dynamic_shapes=given.dynamic_shapes, **given.kwargs)
    told = json.loads((path / "config.json").read_text(encoding="utf-8"))
    recorder.use_config(told | origin_of(config))
    say(f"{len(manifest.nodes)} nodes, {len(manifest.parameters)} parameters{_caches(manifest)}")
    goldens = weights = None
    there = any(path.glob("*.safetensors"))
    if there and args.no_goldens:
        _compare_names(path, name, recorder.manifest)
    elif there:
        say("recording goldens")
        try:
            recorder.record_goldens(path, given.kwargs, max_memory=most)
        except MissingWeightsError as error:
            say(f"{path} names its weights differently: {_difference(error)}")
            state = _loaded(cls, path, dtype, error)
            recorder.record_goldens(state, given.kwargs, max_memory=most)
            weights = str(recorder.save_weights(name, state))
            say(f"wrote {weights}, with the model's names: take that as the weights in Rust")
        goldens = str(args.out / f"{name}_trace.safetensors")
    elif not args.no_goldens:
        print(f"warning: no goldens were recorded: {_no_weights(path)}", file=sys.stderr)
    written = recorder.save(name)
    seconds = round(time.monotonic() - started, 3)
    counts = len(manifest.nodes), len(manifest.parameters)
    return Done(str(written), goldens, weights, *counts, seconds)


def _caches(manifest: Manifest) -> str:
    """Which inputs are no arguments in Rust, but a cache that a model extends."""
    tensors = Counter(state.name for state in manifest.states)
    return "".join(f", a cache `{name}` of {count} tensors" for name, count in tensors.items())


def _no_weights(path: Path) -> str:
    """Why a folder has no weights that are read, and what makes some of those that it has."""
    pickled = [path / name for name in ("pytorch_model.bin.index.json", "pytorch_model.bin")]
    there = [shlex.quote(str(file)) for file in pickled if file.is_file()]
    if not there:
        return f"{path} has no weights as safetensors"
    out = shlex.quote(str(path / "model.safetensors"))
    return f"first run `python -m pycandle unpickle {there[0]} --out {out}`"


def _compare_names(path: Path, name: str, manifest: Manifest) -> None:
    """Warns where the weights have other names than the model; reads their headers alone."""
    try:
        Checkpoint(path, manifest)
    except MissingWeightsError as error:
        said = (
            f"{path} names its weights differently: {_difference(error)}; it does not fit so. "
            f"Without --no-goldens, this command writes {name}.safetensors with the model's names, "
            "where transformers can load them"
        )
    except RecordError as error:
        said = f"{error}; its names were not compared with the model's"
    else:
        return
    print(f"warning: {said}", file=sys.stderr)


def _difference(error: MissingWeightsError) -> str:
    """How the names differ, by one example of each side."""
    needed = f"the model has {_first(error.missing)}"
    return f"{needed}, it has {_first(error.unused)} instead" if error.unused else needed


def _first(names: list[str]) -> str:
    return quoted(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _loaded(cls: Any, path: Path, dtype: torch.dtype, cause: MissingWeightsError) -> Any:
    """The weights as transformers renames and merges them; `cause` where it lacks some, too."""
    with _in_one_line(cls, "loaded"):
        model, info = cls.from_pretrained(
            path, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    if info["missing_keys"]:
        raise cause  # transformers would fill them with random numbers
    return model.state_dict()


@contextmanager
def _in_one_line(cls: Any, done: str) -> Iterator[None]:
    """Turns whatever is raised into one line; keeps it as the cause."""
    try:
        yield
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(f"{cls.__name__} cannot be {done}: {first_line(error)}") from error


def _stem(path: Path) -> str:
    path = path.resolve()
    name = path.name
    if found := hub_place(path):
        name = found["_repository"].rpartition("/")[2]
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")


def _class_of(path: Path, given: str | None) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        raise RecordError(
            "transformers is not installed; run `pip install pycandle-recorder[huggingface]`"
        ) from error
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{path / 'config.json'} cannot be read: {first_line(error)}") from error
    name = given or next(iter(getattr(config, "architectures", None) or []), None)
    if name is None:
        return transformers.AutoModel._model_mapping[type(config)], config
    cls = getattr(transformers, name, None)
    if cls is None:
        raise RecordError(f"transformers {transformers.__version__} has no class {name}")
    return cls, config


def _dtype(given: str | None, config: Any) -> torch.dtype:
    found = given or getattr(config, "dtype", None) or "float32"
    dtype = getattr(torch, str(found).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise RecordError(f"{found} is not a floating-point dtype")
    return dtype


def _build(cls: Any, config: Any, dtype: torch.dtype) -> Any:
    with meta_device():
        return cls._from_config(config, dtype=dtype).eval()


def _sizes(given: list[str]) -> dict[str, int]:
    sizes = {}
    for text in given:
        name, equals, size = text.partition("=")
        if not equals or not size.isdecimal() or not int(size):
            raise RecordError(f"--fix {text} is not a size; write it as sequence=64")
        sizes[name] = int(size)
    return sizes


@contextmanager
def _fixable() -> Iterator[None]:
    """Says of a size that cannot stay open how this command closes it."""
    try:
        yield
    except RecordError as error:
        if "dynamic_shapes" not in str(error):
            raise
        said = "here, `--fix NAME=SIZE` leaves a size out of dynamic_shapes"
        raise RecordError(f"{error}; {said}") from error
