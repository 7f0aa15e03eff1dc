# What people run is what CI runs. Every target sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/medley
STAMP := $(VENV)/.installed

.PHONY: install demo test soak bench check docs clean minio

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): PyTorch and the rest, 6 GB, one to two minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[worker,dashboard,heic,dev]'
	touch $@

# A small dataset of medley's own, painted by real workers.
demo: install
	$(BIN)/medley samples demo/samples
	$(BIN)/medley run --content demo/samples/contents --styles demo/samples/styles \
		--pairs 6 --sample-seed 2 --size 192 --num-steps 60 --frame-every 20 --out demo/out

test: install
	$(BIN)/python -m pytest -m "not soak"

# The slow forms: real lease times and longer runs.
soak: install
	$(BIN)/python -m pytest -m soak --timeout 900

# Prints rows for tests/benchmarks/RESULTS.md.
bench: install
	$(BIN)/python tests/benchmarks/bench_start.py
	$(BIN)/python tests/benchmarks/bench_scan.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports

# Writes the tables of README and docs/ that follow from the program; `make test` sees that they are up to date.
docs: install
	$(BIN)/python tests/reference.py

# One more S3 server for the tests, built once into a cache outside the tree, where Go is there.
minio: $(CACHE)/bin/minio

$(CACHE)/bin/minio:
	@if command -v go >/dev/null; then \
		GOBIN=$(CACHE)/bin go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c; \
	else echo "No Go here: the tests do without MinIO."; fi

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf medley.egg-info */medley.egg-info
