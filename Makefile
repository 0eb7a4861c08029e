# Everything here works with nothing but Python >= 3.11 and pip, and writes nothing outside this folder.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --cache-dir .venv/cache
READY := .venv/.ready

# The tests start programs a thousand times: compiled once, they start in two thirds of the time.
export PYTHONDONTWRITEBYTECODE :=

ROOM ?= streams/hub
SAMPLE ?= 60

TOOLS := .venv/tools/.ready
TOOLS_BIN := .venv/tools/bin
SHIPPED := .venv/shipped

PYTEST := $(BIN)/python -m pytest
# Many tests wait, those of real programs most of their time, so there are more processes than cores.
CORES := $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 2)')
PARALLEL := --dist loadfile --numprocesses
ENGINES := $(addprefix .venv/engines/,$(addsuffix /.ready,cog gradio llama replicate replicate2))

.PHONY: setup demo test test-rest test-all faults kills disorder determinism mutants bench simulate check lint types imports peers browser engines clouds s3 released queues hashes audit release docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv, once; that takes some minutes"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --editable '.[dev]'
	touch $(READY)

demo: setup
	$(BIN)/wakestream demo

# The fast suite, in parallel by file. tests/conftest.py says which tests are slow.
test: setup
	$(PYTEST) $(PARALLEL) $$((3 * $(CORES) / 2)) --suite fast

# All other tests: in parallel where that is safe, then those that need the machine for themselves.
test-rest: setup
	$(PYTEST) $(PARALLEL) $$((2 * $(CORES))) --durations 20 --suite rest
	$(PYTEST) --suite alone

test-all: test test-rest

# All cases of the fault tests, then a long run in which programs are killed; about twenty minutes.
faults: setup
	WAKESTREAM_FAULTS=long $(PYTEST) tests/faults
	$(BIN)/python tests/faults/kill_run.py --kills 300 --depot --disks

# Programs are killed while jobs go through, over a slow line to the hub; each time with a fresh seed, which is printed.
kills: setup
	$(BIN)/python tests/faults/kill_run.py --kills 60 --hub-delay 0.3 --depot
	$(BIN)/python tests/faults/hubs_run.py --faults 25

# The slow tests while callbacks, sockets and threads come late and in any order; the seed is fresh, or DISORDER=... says it.
disorder: setup
	seed=$${DISORDER:-$$($(PYTHON) -c 'import random; print(random.randrange(10**9))')}; echo "DISORDER=$$seed"; \
	DISORDER=$$seed PYTHONPATH=$(CURDIR)/tests/disorder $(PYTEST) $(PARALLEL) $$((2 * $(CORES))) --suite rest

determinism: setup
	$(BIN)/python tests/determinism.py

# How many small changes of a room its own tests find: make mutants ROOM=streams/hub SAMPLE=60
mutants: .venv/mutants/.ready
	$(BIN)/python tests/mutants.py $(ROOM) $(SAMPLE)

.venv/mutants/.ready: | $(READY)
	$(PYTHON) -m venv .venv/mutants
	.venv/mutants/bin/python -m pip --disable-pip-version-check install --quiet 'cosmic-ray>=8.7,<9'
	touch $@

bench: setup
	$(BIN)/python benchmarks

# What placing costs and how long jobs wait, against other policies, in simulated days; SEED=7 for another seed.
simulate: setup
	$(BIN)/python benchmarks/simulate.py

check: lint types imports test-all kills

# Other people's tus, for tests/peers and the benchmarks; without node these are skipped.
peers:
	npm install --prefix tests/peers --no-package-lock --no-audit --no-fund --cache tests/peers/node_modules/.cache

# What tests/browser need beside Chromium itself: its driver, and axe-core where there is npm. Without them they are skipped.
browser: setup
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --editable '.[browser]'
	if command -v npm >/dev/null; then npm install --prefix tests/browser --no-package-lock --no-audit --no-fund \
		--cache tests/browser/node_modules/.cache; fi

# Real Cog and Gradio servers and a client of Replicate, each in an environment of its own; without them their tests are
# skipped.
engines: $(ENGINES)

.venv/engines/%/.ready: tests/support/engines/%.txt | $(READY)
	$(BIN)/python -m venv .venv/engines/$*
	.venv/engines/$*/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	touch $@

# Stand-ins for clouds and servers (moto, sushy-emulator), in an environment of their own; without them their tests are
# skipped.
clouds: .venv/clouds/.ready

.venv/clouds/.ready: tests/support/power/clouds.txt | $(READY)
	$(BIN)/python -m venv .venv/clouds
	.venv/clouds/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	touch $@

# A real S3 store, Ceph's (Debian packages, for root), and s3rver by npm; without them their tests are skipped.
s3:
	command -v radosgw >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends radosgw ceph-mon ceph-osd ceph-common curl; }
	if command -v npm >/dev/null; then $(MAKE) peers; fi

# The programs of the last release, at the commit that it consists of, in an environment of their own: tests of mixed
# versions run them. Without the history of this repository these tests are skipped.
released: .venv/released/c41e66c/.ready

.venv/released/%/.ready: | $(READY)
	mkdir -p .venv/released/$*/tree
	git archive $* | tar -x -C .venv/released/$*/tree
	$(PYTHON) -m venv .venv/released/$*
	PIP_CONSTRAINT=.venv/released/$*/tree/constraints.txt .venv/released/$*/bin/python -m pip --disable-pip-version-check \
		--cache-dir .venv/cache install --quiet .venv/released/$*/tree
	touch $@

# Other people's job queues, for the benchmarks; they are run with redis-server, nats-server and PostgreSQL where these
# are installed.
queues: setup
	$(BIN)/python -m venv .venv/queues
	.venv/queues/bin/python -m pip install --quiet --editable '.[bench]'

# What makes, audits and describes a release, in an environment of its own.
$(TOOLS): pyproject.toml
	$(PYTHON) -m venv .venv/tools
	.venv/tools/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[release]'
	touch $(TOOLS)

# The hashes of all files of the versions in constraints.txt that an installation needs, wherever they come from.
hashes: $(TOOLS)
	mkdir -p build
	$(TOOLS_BIN)/pip-compile --quiet --no-config --generate-hashes --allow-unsafe --strip-extras --all-build-deps --extra ffmpeg --extra postgres \
		--no-header --no-annotate --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--constraint constraints.txt --output-file build/hashes.txt pyproject.toml
	{ echo '# The versions of constraints.txt that an installation needs, with the hashes of their files. Made by `make hashes`.'; \
		cat build/hashes.txt; } > constraints-hashes.txt

# Known advisories against the versions in constraints.txt; skipped, with the reason, where they cannot be looked up.
audit: $(TOOLS)
	$(TOOLS_BIN)/python deploy/audit_dependencies.py

# Wheel, sdist and a list of all that an installation consists of (CycloneDX), in dist/.
release: $(TOOLS)
	rm -rf dist $(SHIPPED)
	$(TOOLS_BIN)/python -m build --no-isolation --outdir dist .
	$(PYTHON) -m venv --without-pip $(SHIPPED)
	$(TOOLS_BIN)/python -m pip --disable-pip-version-check --python $(SHIPPED) install --quiet --require-hashes -r constraints-hashes.txt
	$(TOOLS_BIN)/python -m pip --disable-pip-version-check --python $(SHIPPED) install --quiet --no-deps --no-index --find-links dist wakestream
	$(TOOLS_BIN)/python -m pip --disable-pip-version-check --python $(SHIPPED) uninstall --quiet --yes setuptools
	$(TOOLS_BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file "$$(ls dist/*.whl | sed 's/-py3-none-any.whl/.cdx.json/')" $(SHIPPED)/bin/python
	ls dist

# The pages and an API reference as a site, in build/site. A broken link or an unknown name in it is an error.
docs: setup
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy -p wakestream
	$(BIN)/mypy examples
	$(BIN)/mypy benchmarks

imports: setup
	$(BIN)/lint-imports

clean:
	rm -rf .venv .editable build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache tests/peers/node_modules tests/browser/node_modules
