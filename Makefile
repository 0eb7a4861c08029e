# Everything here works with nothing but Python >= 3.11 and pip, and writes nothing outside this folder.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --cache-dir .venv/cache
READY := .venv/.ready

.PHONY: setup demo test faults determinism bench check lint types imports peers browser queues clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv, once; that takes some minutes"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --editable '.[dev]'
	touch $(READY)

demo: setup
	$(BIN)/wakestream demo

test: setup
	$(BIN)/python -m pytest

# All cases of the fault tests, then a long run in which programs are killed; about twenty minutes.
faults: setup
	WAKESTREAM_FAULTS=long $(BIN)/python -m pytest tests/faults
	$(BIN)/python tests/faults/kill_run.py --kills 300

determinism: setup
	$(BIN)/python tests/determinism.py

bench: setup
	$(BIN)/python benchmarks

check: lint types imports test

# Other people's tus, for tests/peers and the benchmarks; without node these are skipped.
peers:
	npm install --prefix tests/peers --no-package-lock --no-audit --no-fund --cache tests/peers/node_modules/.cache

# What tests/browser need beside Chromium itself: its driver, and axe-core where there is npm. Without them they are skipped.
browser: setup
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --editable '.[browser]'
	if command -v npm >/dev/null; then npm install --prefix tests/browser --no-package-lock --no-audit --no-fund \
		--cache tests/browser/node_modules/.cache; fi

# Other people's job queues, for the benchmarks; they are run with redis-server, nats-server and PostgreSQL where these
# are installed.
queues: setup
	$(BIN)/python -m venv .venv/queues
	.venv/queues/bin/python -m pip install --quiet --editable '.[bench]'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy -p wakestream
	$(BIN)/mypy examples

imports: setup
	$(BIN)/lint-imports

clean:
	rm -rf .venv .editable build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache tests/peers/node_modules tests/browser/node_modules
