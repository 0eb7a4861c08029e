# Everything here works with nothing but Python >= 3.11 and pip, and writes nothing outside this folder.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --cache-dir .venv/cache
READY := .venv/.ready

.PHONY: setup demo test determinism bench check lint types imports clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --editable '.[dev]'
	mkdir -p .typing/wakestream
	for room in operators streams adapters; do ln -sfn ../../$$room .typing/wakestream/$$room; done
	touch $(READY)

demo: setup
	$(BIN)/wakestream demo

test: setup
	$(BIN)/python -m pytest

determinism: setup
	$(BIN)/python tests/determinism.py

bench: setup
	$(BIN)/python benchmarks

check: lint types imports test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy -p wakestream
	$(BIN)/mypy examples

imports: setup
	$(BIN)/lint-imports

clean:
	rm -rf .venv .typing build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
