# 'make' alone prints this list. Needs python3 >= 3.11 and git; everything else goes into .venv.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
CONFIG ?=
BIN    := .venv/bin
STAMP  := .venv/.synced
RUN    := $(if $(CONFIG),--config $(CONFIG),--demo)

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

# Runs again only when the lock changes.
$(STAMP): requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing; install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "$$($(PYTHON) --version) does not fit; install Python 3.11 to 3.13, or: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "python3 cannot make a virtual environment; install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	@echo "installing the locked requirements (once; a few minutes on a slow line)"
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pipelines.dbt_project
	@$(BIN)/python -c "import models.kernels"
	@touch $@

.PHONY: setup
setup: $(STAMP)  ## .venv from the locked requirements

.PHONY: run
run: $(STAMP)  ## the whole daily pipeline through Airflow, on the demo; CONFIG=my.toml: on your sources
	@exec $(BIN)/hearback run $(RUN)

.PHONY: ui
ui: $(STAMP)  ## Airflow with its web page and schedules, until Ctrl-C (CONFIG=my.toml as above)
	@exec $(BIN)/hearback ui $(RUN)

.PHONY: test
test: $(STAMP)  ## the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: check
check: $(STAMP)  ## exactly what CI runs: lint, types, imports, SQL, tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@cd sql && ../$(BIN)/sqlfluff lint models tests --disable-progress-bar --processes 2
	@$(MAKE) test

.PHONY: bench
bench: $(STAMP)  ## speed and memory at one million records
	@$(BIN)/python -m tests.bench.run_bench

.PHONY: bench-sources
bench-sources: $(STAMP)  ## speed, memory and requests of every kind of source, on loopback
	@$(BIN)/python -m tests.bench.source_bench

.PHONY: bench-calendars
bench-calendars: $(STAMP)  ## business minutes: a million cases, and 100,000 against a count by hand
	@$(BIN)/python -m tests.bench.calendar_bench

.PHONY: bench-surges
bench-surges: $(STAMP)  ## surges: false alarms on quiet days, and planted ones that are found
	@$(BIN)/python -m tests.bench.surge_bench

.PHONY: docs
docs: $(STAMP)  ## tables, columns and lineage of the warehouse, in sql/target
	@cd sql && ../$(BIN)/dbt docs generate --quiet

.PHONY: lock
lock: $(STAMP)  ## resolve requirements.lock anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --all-extras pyproject.toml -o requirements.lock

.PHONY: clean
clean:  ## remove .venv, caches and the demo; your own data stays
	@rm -rf .venv data/demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@rm -rf sql/target sql/logs *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
