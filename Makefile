# make demo: the whole loop on this machine. make test: everything. make quick: unit and house tests.
# make bench: against TRL.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick check install bench clean
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("alignloop needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/alignloop run recipes/playground

quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 tests/unit tests/house

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# What measures times or starts processes has the machine to itself; the rest shares both cores.
test: check quick
	$(BIN)/python -m pytest -m slow tests/unit tests/house
	$(BIN)/python -m pytest tests/golden tests/e2e

# TRL, and the last version of it that had PPO, in an environment of their own.
.venv-trl/installed:
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-trl/bin/python -m pip install --quiet trl==1.16.0
	.venv-trl/bin/python -m pip install --quiet --no-deps --target .venv-trl/trl-1.12.0 trl==1.12.0
	touch $@

bench: install .venv-trl/installed
	$(BIN)/python benchmarks/vs_trl.py --trl-python .venv-trl/bin/python --trl-ppo-path .venv-trl/trl-1.12.0

clean:
	rm -rf .venv .venv-trl runs
