# Two commands for newcomers: `make quickstart` and `make test`. VENV may point at an environment that exists.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
# Versions that were tested together. `make test-lowest` takes the lower bounds of pyproject.toml instead.
PINS := -c cluster/pins.txt -c .ci/pins.txt

.PHONY: quickstart test test-slow test-all test-lowest coverage check install

quickstart: $(VENV)/.demo
	$(BIN)/python -m saeft_ray.sweep sweeps/quickstart.yaml

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

# What CI runs in addition to `test`.
test-slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "slow and not long"

test-all: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# In an environment of its own, for these versions are older than the pins.
test-lowest: VENV := .venv-lowest
test-lowest:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python .ci/lowest > $(VENV)/lowest.txt
	$(BIN)/pip install -q -c $(VENV)/lowest.txt -e ".[dev]"
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

coverage: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow" --cov=saeft_ray --cov-report=term:skip-covered

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.dev

$(VENV)/.demo: pyproject.toml cluster/pins.txt .ci/pins.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(PINS) -e ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml cluster/pins.txt .ci/pins.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(PINS) -e ".[dev]"
	touch $@ $(VENV)/.demo
