# Two commands need nothing but Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

# Where this is set nothing that Python compiles is kept, and every start of a command with torch takes twice as long.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test lint check format clean lock schemas

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("equiprune needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Name another: make setup PYTHON=python3.12") if not (3, 11) <= sys.version_info < (3, 14) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: setup
	$(BIN)/equiprune demo --out demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins every dependency of tests and demo with its hashes; no address is written.
lock:
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --quiet --output-file requirements/dev.txt

# The forms of audit.json and compare.json, for other programs, and the page of all settings.
schemas: setup
	$(BIN)/python -m equiprune.commands.schemas docs/schemas
	$(BIN)/python -m equiprune.commands.settings_page docs/settings.md

clean:
	rm -rf .venv demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
