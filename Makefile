# make demo: the whole loop on this machine. make test: everything. make quick: unit and house tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick check install clean
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
	$(BIN)/python -m pytest -m "not slow" tests/unit tests/house

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

test: check
	$(BIN)/python -m pytest

clean:
	rm -rf .venv runs
