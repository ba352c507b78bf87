"""Records a Llama of 70 billion parameters on meta, from the import of torch to the manifest.

`python recorder/benchmarks/large.py [SECONDS]` prints what it took, and fails where that is more
than so many seconds.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


def record(folder: str) -> None:
    """Writes the manifest into `folder`; imports what it needs, because that takes time too."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pycandle import GoldenRecorder, meta_device
    from pycandle.examples import example

    with meta_device():
        config = LlamaConfig(**CONFIG)
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).eval()
    given = example(model)
    recorder = GoldenRecorder(folder)
    recorder.record(model, dynamic_shapes=given.dynamic_shapes, **given.kwargs)
    recorder.save("large")


def waited() -> float:
    """Seconds that this process waited for a processor; 0 where the system does not say."""
    schedule = Path("/proc/self/schedstat")
    return int(schedule.read_text().split()[1]) / 1e9 if schedule.exists() else 0.0


if __name__ == "__main__":
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        record(folder)
    seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds, "waited": waited(), "gigabytes": used}))
    sys.exit(bool(sys.argv[1:]) and seconds - waited() > float(sys.argv[1]))
