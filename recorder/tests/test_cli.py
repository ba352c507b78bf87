"""The command line and the transformers front end, on a folder made here."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)
from weights import randomise

from pycandle import GoldenRecorder, RecordError
from pycandle.checkpoint import memory_size
from pycandle.cli import main
from pycandle.examples import example


@pytest.fixture
def folder(tmp_path):
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=20,
    )
    model = LlamaForCausalLM(config).eval()
    randomise(model)
    model.save_pretrained(tmp_path / "tiny-llama")
    return tmp_path / "tiny-llama"


def test_records_a_causal_folder_with_cache_and_goldens(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["record", str(folder), "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    done = json.loads(captured.out)
    assert "tracing" in captured.err
    assert ", a cache `past_key_values` of 4 tensors\n" in captured.err
    manifest = json.loads((out / "tiny-llama_manifest.json").read_text())
    assert done["nodes"] == len(manifest["nodes"])
    assert manifest["config"] == json.loads((folder / "config.json").read_text())
    assert [(s["layer"], s["slot"], s["dim"]) for s in manifest["states"]] == [
        (0, "key", 2),
        (0, "value", 2),
        (1, "key", 2),
        (1, "value", 2),
    ]
    ranges = {s["name"]: (s["min"], s["max"]) for s in manifest["symbols"]}
    assert ranges == {"batch": (0, None), "sequence": (0, None), "past": (0, None)}
    with safe_open(out / "tiny-llama_trace.safetensors", "pt") as file:
        assert "model.layers.1.mlp#0.out.0" in file.keys()  # noqa: SIM118


def test_a_snapshot_of_the_hub_is_known_by_its_name_and_commit(folder, tmp_path):
    commit, out = "0123456789" * 4, tmp_path / "out"
    snapshot = tmp_path / "models--owner--tiny" / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    assert main(["record", str(snapshot), "--no-goldens", "--out", str(out)]) == 0
    manifest = json.loads((out / "tiny_manifest.json").read_text())
    assert manifest["config"].pop("_commit_hash") == commit
    assert manifest["config"].pop("_repository") == "owner/tiny"
    assert manifest["config"] == json.loads((snapshot / "config.json").read_text())

    model = LlamaForCausalLM.from_pretrained(snapshot).eval()
    recorder = GoldenRecorder(out)
    recorder.record(model, torch.ones(1, 3, dtype=torch.long), use_cache=False)
    recorder.save("own")
    manifest = json.loads((out / "own_manifest.json").read_text())
    assert manifest["config"]["_commit_hash"] == commit


def test_a_size_can_be_fixed(folder, tmp_path):
    args = ["record", str(folder), "--out", str(tmp_path), "--name", "m", "--quiet"]
    assert main([*args, "--fix", "sequence=1"]) == 0
    manifest = json.loads((tmp_path / "m_manifest.json").read_text())
    assert [s["name"] for s in manifest["symbols"]] == ["batch", "past"]
    ids, mask = manifest["inputs"][:2]
    assert (ids["shape"], mask["shape"]) == (["batch", 1], ["batch", {"add": ["past", 1]}])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("sequence", "write it as sequence=64"),
        ("sequence=0", "write it as sequence=64"),
        ("tokens=3", "`tokens` cannot be fixed; of these inputs, `sequence` can, and without"),
        ("batch=1", "without a cache `batch, past`"),
    ],
)
def test_a_size_that_cannot_be_fixed_is_an_error(folder, tmp_path, capsys, given, says):
    args = ["record", str(folder), "--out", str(tmp_path), "--quiet"]
    assert main([*args, "--fix", given]) == 1
    assert says in capsys.readouterr().err


def test_a_size_that_the_model_fixes_can_be_given(tmp_path, capsys):
    config = MambaConfig(
        vocab_size=20, hidden_size=8, state_size=4, num_hidden_layers=1, time_step_rank=2
    )
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    args = ["record", str(tmp_path / "mamba"), "--out", str(tmp_path), "--quiet"]
    assert main(args) == 1
    assert "the size `sequence` (axis 1 of" in (said := capsys.readouterr().err)
    assert "`--fix NAME=SIZE`" in said
    assert main([*args, "--fix", "sequence=7"]) == 0
    manifest = json.loads((tmp_path / "mamba_manifest.json").read_text())
    assert manifest["inputs"][0]["shape"] == ["batch", 7]


def test_equal_layers_have_equal_bodies(folder, tmp_path):
    main(["record", str(folder), "--out", str(tmp_path), "--name", "m", "--no-goldens", "--quiet"])
    manifest = json.loads((tmp_path / "m_manifest.json").read_text())
    assert not (tmp_path / "m_trace.safetensors").exists()
    modules = [c["module"] for c in manifest["calls"]]
    bodies = [
        [n["op"] for n in manifest["nodes"] if modules[n["call"]].startswith(f"model.layers.{i}.")]
        for i in range(2)
    ]
    assert bodies[0] == bodies[1]


def test_one_trace_serves_prefill_and_decode(folder, tmp_path):
    from pycandle import GoldenRecorder
    from pycandle.examples import cache_geometry, example, random_cache

    model = LlamaForCausalLM.from_pretrained(folder).eval()
    given = example(model)
    recorder = GoldenRecorder(tmp_path)
    recorder.record(model, dynamic_shapes=given.dynamic_shapes, **given.kwargs)
    recorder.save("m")
    generator = torch.Generator().manual_seed(0)
    for batch, past, sequence in ((1, 0, 1), (1, 0, 9), (3, 7, 1), (2, 1, 1)):
        inputs = {
            "input_ids": torch.randint(0, 20, (batch, sequence), generator=generator),
            "attention_mask": torch.ones(batch, past + sequence, dtype=torch.long),
            "past_key_values": random_cache(
                cache_geometry(model), batch, past, torch.float32, generator
            ),
            "use_cache": True,
        }
        recorder.record_goldens(model, inputs, case=f"{batch}_{past}_{sequence}")


def test_records_an_encoder(tmp_path):
    config = BertConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=20,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    assert main(["record", str(tmp_path / "bert"), "--out", str(tmp_path), "--quiet"]) == 0
    manifest = json.loads((tmp_path / "bert_manifest.json").read_text())
    assert [i["name"] for i in manifest["inputs"]] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    # The pooler takes the first token, and there are 32 positions.
    assert {"name": "sequence", "min": 1, "max": 32} in manifest["symbols"]


def test_renamed_weights_are_loaded_with_every_option(tmp_path, monkeypatch, capsys):
    config = BertConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=20,
        max_position_embeddings=32,
    )
    model, path = BertModel(config), tmp_path / "bert"
    model.save_pretrained(path)
    (path / "model.safetensors").unlink()
    renamed = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    save_file(renamed, path / "model.safetensors", {"format": "pt"})
    limits = []
    plain = GoldenRecorder.record_goldens

    def spy(self, checkpoint, inputs, max_memory=None, case=None):
        limits.append(max_memory)
        return plain(self, checkpoint, inputs, max_memory, case)

    monkeypatch.setattr(GoldenRecorder, "record_goldens", spy)
    given = ["record", str(path), "--out", str(tmp_path), "--max-memory", "1k", "--json"]
    assert main(given) == 0
    assert limits == [1000, 1000]
    captured = capsys.readouterr()
    done = json.loads(captured.out)
    assert done["weights"] == str(tmp_path / "bert.safetensors")
    assert "the model has `embeddings.word_embeddings.weight` and 22 more" in captured.err
    assert "it has `bert.embeddings.LayerNorm.bias` and 22 more instead" in captured.err
    assert f"wrote {done['weights']}, with the model's names" in captured.err
    with safe_open(done["weights"], "pt") as file:
        assert torch.equal(file.get_tensor("pooler.dense.weight"), model.pooler.dense.weight)


def test_names_are_compared_without_goldens(folder, tmp_path, capsys):
    given = ["record", str(folder), "--out", str(tmp_path / "out"), "--no-goldens", "--quiet"]
    assert main(given) == 0
    assert capsys.readouterr().err == ""
    state = load_file(folder / "model.safetensors")
    save_file({f"m.{name}": t for name, t in state.items()}, folder / "model.safetensors")
    assert main(given) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {folder} names its weights differently: the model has `")
    assert "Without --no-goldens, this command writes tiny-llama.safetensors" in said
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs")
    assert main(given) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: cannot read the weights") and "were not compared" in said
    index = folder / "model.safetensors.index.json"
    for name in ({"x": 1}, None, "../model.safetensors", "\x1b[31m\n.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert main(given) == 0
        said = capsys.readouterr().err
        assert said.startswith(f"warning: {index} names what is not plainly a file inside its")
        assert said.removesuffix("\n").isprintable() and "were not compared" in said
    index.unlink()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["tiny-llama_manifest.json"]


def test_names_of_a_file_are_shown_whatever_is_in_them(folder, tmp_path, capsys):
    state = load_file(folder / "model.safetensors")
    renamed = {f"\x1b[31m\n\u202e{name}": t for name, t in state.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    given = ["record", str(folder), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*given, "--no-goldens"]) == 0
    said = capsys.readouterr().err
    assert r"it has `\x1b[31m\n\u202elm_head.weight` and " in said
    assert said.removesuffix("\n").isprintable()
    assert main(given) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert r"it has \x1b[31m\n\u202elm_head.weight, " in said and said.isprintable()


def test_weights_that_are_nowhere_are_not_made_up(folder, tmp_path, capsys):
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    assert main(["record", str(folder), "--out", str(tmp_path), "--quiet"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and said.endswith(
        "lacks 1 weights: model.layers.1.mlp.up_proj.weight"
    )
    assert not (tmp_path / "tiny-llama_trace.safetensors").exists()


SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 20,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "model",
    [
        lambda: MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=4)),
        lambda: Qwen2MoeForCausalLM(
            Qwen2MoeConfig(
                **SMALL,
                num_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=8,
                shared_expert_intermediate_size=12,
            )
        ),
    ],
)
def test_experts_are_recorded_as_the_model_computes_them(tmp_path, model, dtype):
    real = model().eval()
    randomise(real)
    real.to(dtype).save_pretrained(tmp_path / "moe")
    assert main(["record", str(tmp_path / "moe"), "--out", str(tmp_path), "--quiet"]) == 0
    manifest = json.loads((tmp_path / "moe_manifest.json").read_text())
    ops = {node["op"] for node in manifest["nodes"]}
    assert "aten.bmm.default" in ops and "aten.topk.default" in ops
    assert not any("grouped" in op or "histc" in op for op in ops)
    golden = load_file(tmp_path / "moe_trace.safetensors")
    given = example(real)
    cache = given.kwargs["past_key_values"]
    expected = real(**given.kwargs).logits.float()
    assert cache.get_seq_length() > 0
    actual = golden["output.logits"].float()
    bound = 1e-5 if dtype is torch.float32 else 3e-2
    assert (actual - expected).norm() <= bound * expected.norm()


def test_missing_goldens_are_said(folder, tmp_path, capsys):
    args = ["record", str(folder), "--out", str(tmp_path / "out"), "--quiet"]
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    assert main(args) == 0
    said = capsys.readouterr().err
    command = re.search(r"no goldens were recorded: first run `python -m pycandle (.*)`", said)
    assert command and main(shlex.split(command[1])) == 0
    assert main(args) == 0 and (tmp_path / "out" / "tiny-llama_trace.safetensors").exists()
    weights.unlink()
    (folder / "pytorch_model.bin").unlink()
    assert main(args) == 0
    assert "has no weights as safetensors" in capsys.readouterr().err


def test_an_error_that_speaks_of_lacking_is_no_missing_weight(
    folder, tmp_path, monkeypatch, capsys
):
    def fail(*_args, **_kwargs):
        raise RecordError("the machine lacks memory")

    monkeypatch.setattr(GoldenRecorder, "record_goldens", fail)
    assert main(["record", str(folder), "--out", str(tmp_path), "--quiet"]) == 1
    assert capsys.readouterr().err == "error: the machine lacks memory\n"
    assert not list(tmp_path.glob("*_manifest.json"))


def test_faults_are_one_line(tmp_path, capsys):
    assert main(["record", str(tmp_path), "--quiet"]) == 1
    assert "it has no config.json" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model_type": "no such"}')
    assert main(["record", str(tmp_path), "--json", "--quiet"]) == 1
    said = json.loads(capsys.readouterr().out)["error"]
    assert "config.json cannot be read" in said and "\n" not in said


def test_an_export_failure_is_one_line_with_its_cause(folder, tmp_path, capsys, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ValueError("\nno way to export this\nsecond line")

    monkeypatch.setattr(GoldenRecorder, "record", fail)
    assert main(["record", str(folder), "--out", str(tmp_path), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "error: LlamaForCausalLM cannot be exported: ValueError: no way to export this\n"
    )


def test_sizes_are_decimal_or_binary():
    assert [memory_size(t) for t in ("8GiB", "8gi", "8G", "8GB", "1.5k", "7", 7)] == [
        8 * 2**30,
        8 * 2**30,
        8 * 10**9,
        8 * 10**9,
        1500,
        7,
        7,
    ]
    for text in ("8X", "-1G", "G", "8ib", "nan", -5, True):
        with pytest.raises(RecordError, match="is not a size"):
            memory_size(text)
