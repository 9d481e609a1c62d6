# Everything starts here: each target sets up what it needs.
#   make demo       search, decode, build, train, evaluate, detect on real images, in minutes
#   make test       the test suite (minutes); make test-slow adds the long tests
#   make test-gpu   the tests that need a CUDA device, in the Python that has torch for it: PYTHON=python3 by default
#   make reliability  kills, damaged files, nasty names: a table of tries and held (an hour)
#   make test-lowest    the test suite with the oldest versions that pyproject.toml admits (Python 3.11)
#   make test-torch211  the test suite with torch 2.11 in Python 3.12: PYTHON312=python3.12 by default
#   make bench      timings; run it with nothing else running
#   make check      format, lint, types, tests: what must pass before a change goes in

PYTHON ?= python3
PYTHON312 ?= python3.12
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.ready
UV = $(shell command -v uv || echo $(BIN)/uv)

.PHONY: demo test test-slow test-gpu test-lowest test-torch211 reliability bench check format lint types setup clean

setup: $(READY)

# The versions of constraints.txt are one set that is known to pass; the package itself asks only for lower bounds, and
# constraints-lowest.txt holds these; constraints-torch211.txt is for another torch and Python. Bytecode is compiled here,
# since each process would compile torch again (3 s) where PYTHONDONTWRITEBYTECODE is set.
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nascli needs Python 3.11 or newer; say make PYTHON=...")'
	@command -v uv >/dev/null && uv venv --quiet --clear --seed --python $(PYTHON) $(VENV) \
	  || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	@echo "installing nascli and what it needs (torch is large: a minute or a few) ..."
	@UV_SYSTEM_CERTS=1 $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --constraint $(CONSTRAINTS) --editable '.[dev]' \
	  || $(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@$(BIN)/python -m compileall -q nascli
	@touch $@

demo: $(READY)
	@PATH="$(BIN):$$PATH" bash recipes/pipeline.sh

test: $(READY)
	@$(BIN)/python -m pytest -n 2

test-slow: $(READY)
	@$(BIN)/python -m pytest -n 2 -m 'not gpu'

# No environment is made: a machine with a GPU has its own torch, and perhaps no network. What CUDA and its compiler warn
# about are no failures.
test-gpu:
	@PYTHONPATH=$(CURDIR):$$PYTHONPATH $(PYTHON) -m pytest -m gpu -o filterwarnings=default --durations=5 tests/gpu

reliability: $(READY)
	@$(BIN)/python -m pytest -n 2 -m 'not gpu' tests/reliability

test-lowest:
	@$(MAKE) --no-print-directory test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

test-torch211:
	@$(MAKE) --no-print-directory test PYTHON=$(PYTHON312) VENV=.venv-torch211 CONSTRAINTS=constraints-torch211.txt

# Those that need no data set, some three hours; each of benchmarks/ says at its top what it measures and how to call it.
# training_step.py, inference.py, children.py, detection_step.py and train_epoch.py take --device cuda.
bench: $(READY)
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/journal.py
	@$(BIN)/python benchmarks/replay.py
	@$(BIN)/python benchmarks/simulated_workers.py
	@$(BIN)/python benchmarks/search_overhead.py
	@$(BIN)/python benchmarks/regret.py benchmarks/tables/cifar10-two-blocks.h5 --seeds 200
	@$(BIN)/python benchmarks/repeats.py benchmarks/tables/cifar10-two-blocks.h5
	@$(BIN)/python benchmarks/inference.py
	@$(BIN)/python benchmarks/training_step.py
	@$(BIN)/python benchmarks/cifar_pipeline.py
	@$(BIN)/python benchmarks/train_epoch.py
	@$(BIN)/python benchmarks/detection_step.py
	@$(BIN)/python benchmarks/detection_scoring.py
	@$(BIN)/python benchmarks/detection_memory.py

format: $(READY)
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: $(READY)
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(READY)
	@$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) .venv-lowest .venv-torch211 demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
