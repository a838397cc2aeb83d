# `make demo` and `make test` need Python >= 3.11 and nothing else; the rest stands on what they set up in .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs wheel clean

BIN := .venv/bin
DOCUMENTS := RUNBOOK.md README.md
QUIET := -qq --disable-pip-version-check --no-input

help:  ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

demo: .venv/.sandbox  ## Rehearse a token compromise in a world of its own, from plan to proof
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh opsctl/sandbox/demo.sh

test: check  ## Check everything, then run every test
	@$(BIN)/pytest -n auto

check: .venv/.dev  ## Style, types, layers, generated documents, playbooks
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/cog --check $(DOCUMENTS)
	@$(BIN)/opsctl playbook lint

bench: .venv/.dev  ## Measure, as ratios side by side
	@$(BIN)/python -m tests.bench

docs: .venv/.dev  ## Write the generated parts of RUNBOOK.md and README.md anew
	@$(BIN)/cog -r $(DOCUMENTS)

wheel: .venv/.dev  ## Build a wheel into dist/
	@$(BIN)/pip wheel $(QUIET) --no-deps --wheel-dir dist .

clean:  ## Remove everything that was set up or built
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .bench

# The first Python that is new enough and can make a virtual environment.
.venv/.python:
	@for python in $(BIN)/python "$$PYTHON" python3.13 python3.12 python3.11 python3 python3.14; do \
	  [ -n "$$python" ] || continue; \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  [ "$$python" = $(BIN)/python ] || echo "Setting up .venv with $$python ..."; \
	  [ "$$python" = $(BIN)/python ] || "$$python" -m venv .venv || continue; \
	  touch $@ && exit 0; \
	done; \
	echo "No Python >= 3.11 with venv was found. Install one (Debian, Ubuntu: python3 python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

.venv/.sandbox: pyproject.toml | .venv/.python
	@echo "Installing opsctl and its sandbox ..."
	@$(BIN)/python -m pip install $(QUIET) -e '.[sandbox]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/.python
	@echo "Installing opsctl, its sandbox and the tools ..."
	@$(BIN)/python -m pip install $(QUIET) -e '.[dev]'
	@touch $@ .venv/.sandbox
