# One command for everything. `make help` lists the targets; the README's first screen names two.
#
# Needed beforehand: cargo, a C compiler, make, and CPython 3.11 or later with venv and pip.
# Everything else comes from crates.io and PyPI into .venv/ and target/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter that .venv is made from; ci/find-python.sh looks for a fitting one when this one is too old.
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
# PyO3 asks an interpreter for its build settings: always the same one, or every crate is built twice.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
# maturin refuses to choose between a conda environment and a virtual one.
unexport CONDA_PREFIX
PYTEST := $(BIN)/python -m pytest -W error::DeprecationWarning

RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml 2>/dev/null) Cargo.toml Cargo.lock

.PHONY: help ## This list
help:
	@grep -hE '^\.PHONY: [a-z-]+ +## ' $(MAKEFILE_LIST) | sed -E 's/^\.PHONY: ([a-z-]+) +## /\1|/' | \
	    while IFS='|' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

# --- environment and build: both are stamps, so that a second `make test` starts testing at once ---

.PHONY: setup ## Create .venv with everything the other targets need
setup: $(VENV)/.setup

$(VENV)/.setup: ci/requirements.txt ci/find-python.sh ci/setup.sh
	@ci/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

.PHONY: build ## Compile the engine and install manyhands into .venv, editable
build: $(VENV)/.built

$(VENV)/.built: $(VENV)/.setup $(RUST_SOURCES) pyproject.toml
	@ci/need.sh cargo cc
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
	@touch $@

# --- the checks ---

.PHONY: fmt ## Format Rust and Python
fmt: setup
	@ci/need.sh cargo rustfmt
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

.PHONY: lint ## Formatting, clippy, ruff, mypy: everything that needs no running
lint: setup
	@ci/need.sh cargo rustfmt clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy --strict python/manyhands

.PHONY: stubs ## The extension's typed contract against what was compiled
stubs: build
	$(BIN)/stubtest --allowlist ci/stubtest.txt --ignore-unused-allowlist manyhands._manyhands

.PHONY: cargo-test ## The Rust tests and the examples in the Rust docs
cargo-test: setup
	@ci/cargo-test.sh

.PHONY: loom ## The bounded model checks of what lives in shared memory
loom:
	@ci/need.sh cargo cc
	@ci/loom.sh

# Several tests at a time, even on two cores: most of a test is waiting. `make pytest LANES=0` runs one after the other.
LANES ?= 3
# A test that fails beside others gets one more try; the last lines name each that needed it. See CONTRIBUTING.md.
RERUNS ?= 1

.PHONY: pytest ## The Python tests, the examples and the doc examples
pytest: build
	$(PYTEST) --numprocesses $(LANES) --dist worksteal --reruns $(RERUNS) -rfER

# pytest comes last so that its closing line, with the count, is the end of the output.
.PHONY: test ## Everything: lint, Rust tests, loom, then all of pytest
test:
	@$(MAKE) --no-print-directory setup
	@ci/step.sh lint       $(MAKE) --no-print-directory lint
	@ci/step.sh cargo-test $(MAKE) --no-print-directory cargo-test
	@ci/step.sh loom       $(MAKE) --no-print-directory loom
	@ci/step.sh build      $(MAKE) --no-print-directory build
	@ci/step.sh stubs      $(MAKE) --no-print-directory stubs
	@ci/step.sh pytest     $(MAKE) --no-print-directory pytest

# --- the rest ---

.PHONY: demo ## Rank the functions of Python's own library: serially, with manyhands, with multiprocessing
demo: build
	@$(BIN)/python -m manyhands.demo

.PHONY: proofs ## The long versions: 20,000 random kills of a queue, 1,000 of each lock, 100 deaths at each step, 1,000 pools, Ctrl-Cs
proofs: build
	MANYHANDS_RING_KILLS=20000 cargo test -p manyhands --test ring_kill -- --nocapture
	MANYHANDS_KILL_ROUNDS=100 cargo test -p manyhands-sync --features kill-points --test kill_points -- --nocapture
	MANYHANDS_KILL_ROUNDS=100 cargo test -p manyhands --features kill-points --test kill_points -- --nocapture
	MANYHANDS_POOLS=1000 $(PYTEST) tests/death/test_many_pools.py
	MANYHANDS_LEFTOVERS=520 $(PYTEST) tests/death/test_leftovers.py
	MANYHANDS_QUEUE_DEATHS=2000 $(PYTEST) tests/death/test_queue_deaths.py
	MANYHANDS_HOLDERS=1000 $(PYTEST) tests/death/test_lock_holders.py
	MANYHANDS_MEETING_DEATHS=1000 $(PYTEST) tests/death/test_condition_deaths.py
	MANYHANDS_ARRAYS=10000 MANYHANDS_PARCEL_KILLS=200 $(PYTEST) tests/death/test_parcels.py
	MANYHANDS_MIXED=1000000 cargo test --release -p manyhands --test mixed_sizes -- --nocapture
	MANYHANDS_FREED_KILLS=100 $(PYTEST) tests/death/test_freed_memory.py
	MANYHANDS_SHARED=100000 $(PYTEST) tests/death/test_shared_leftovers.py
	MANYHANDS_INTERRUPTS=1000 MANYHANDS_ALARMED_GETS=1000000 $(PYTEST) tests/death/test_random_interrupts.py

.PHONY: soak ## Half an hour of starts, deaths, closed descriptors, reapers, full tables and full memory, every value checked
soak: build
	$(BIN)/python tests/soak --minutes $${SOAK_MINUTES:-30}

# Other people's suites on the standard library (kept while no version changes) and on manyhands; needs PyPI, and an hour.
.PHONY: compatibility ## The test suites of joblib, loky, mpire, pebble, dask, scikit-learn and of tools that follow children
compatibility: setup
	@ci/need.sh cargo cc
	$(BIN)/python tests/compatibility

.PHONY: sanitize ## The shared-memory tests under valgrind, the address and the thread sanitizer
sanitize:
	@ci/sanitizers.sh

.PHONY: pyright ## A second type checker (downloads node from PyPI the first time)
pyright: build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pyright[nodejs]'
	$(BIN)/pyright

.PHONY: clean ## Remove everything that make has made
clean:
	rm -rf $(VENV) target dist .pytest_cache .mypy_cache .ruff_cache
	find python tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f python/manyhands/*.so
