# make help says what there is. Needs Python 3.10 or newer and make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := tests/bench/.venv
CORPUS ?=

.DEFAULT_GOAL := help
# Every process of the tests would compile all of our modules anew, and pytest all tests.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test test-exhaustive test-all check lint bench clean

help:
	@echo 'make demo                 a corpus, its shards, a short training, an evaluation: minutes on a CPU'
	@echo 'make demo CORPUS=FOLDER   the same on your own 16 kHz speech: FOLDER/SPEAKER/.../*.wav or *.flac'
	@echo 'make test                 tests of every promise'
	@echo 'make test-all             those, and the exhaustive ones'
	@echo 'make lint                 style and types'
	@echo 'make check                style, types, and the quick tests of every part'
	@echo 'make bench                the benchmark tables, into tests/bench/results: 14 GB in all'
	@echo 'make clean                remove .venv, caches and runs/demo'
	@echo
	@echo 'Each installs what it needs into $(VENV) first. PYTHON=python3.12 picks another Python.'

demo: $(VENV)/.installed
	@$(BIN)/python -m shard_tools.synthetic.demo $(if $(CORPUS),--corpus '$(CORPUS)')

# Four of them wait for a SLURM of their own most of the time.
test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest --numprocesses 6 -m 'not exhaustive'

# Further members of families of which `test` has some.
test-exhaustive: $(VENV)/.installed-test
	@$(BIN)/python -m pytest --numprocesses 4 -m exhaustive

test-all: test test-exhaustive

check: lint
	@$(BIN)/python -m pytest --numprocesses 2 -m 'not slow'

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(BENCH)/.installed
	@$(BENCH)/bin/python tests/bench/run.py

# An environment of its own: what we are compared with wants an older numpy.
$(BENCH)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	@echo 'Installing into $(BENCH); this takes a few minutes.'
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --upgrade pip
	@$(BENCH)/bin/python -m pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH) runs/demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is older than these files when what they ask for may not be installed.
$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	@echo 'Installing into $(VENV); the first time this takes a few minutes.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(BIN)/python
	@echo 'Installing into $(VENV), with what tests need; the first time this takes a few minutes.'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	    echo 'error: $(PYTHON) not found: install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3' >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); 3.10 or newer is needed:" \
	         'name one: make PYTHON=python3.12' >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'error: $(PYTHON) cannot make virtual environments;' \
	         'on Debian and Ubuntu: apt-get install python3-venv' >&2; \
	    exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
