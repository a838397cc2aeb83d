# `make demo` and `make test` need Python >= 3.11 and nothing else; the rest stands on what they set up in .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test laws snapshots check bench mutants docs wheel upgrade clean

BIN := .venv/bin
DOCUMENTS := docs/reference.md docs/bench.md
QUIET := -qq --disable-pip-version-check --no-input
INSTALL := $(BIN)/python -m pip install $(QUIET)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade pyproject.toml --group build

help:  ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

demo: .venv/.sandbox  ## Rehearse a token compromise in a world of its own, from plan to proof
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh opsctl/sandbox/demo.sh

test: check  ## Check everything, then run the tests that a change should pass
	@$(BIN)/pytest -n auto -m "not exhaustive"

laws: .venv/.tools  ## Run the exhaustive tests: a kill at every boundary, every fault on every command
	@$(BIN)/pytest -n auto -m exhaustive

snapshots: .venv/.tools  ## Write the files in tests/snapshots/ anew, to be read with git diff
	@$(BIN)/pytest -n 0 tests/laws/test_plans_as_shown.py tests/contract/test_kind_fields.py --renew

check: .venv/.tools  ## Style, types, layers, unused code, generated documents, playbooks
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/vulture
	@$(BIN)/cog --check $(DOCUMENTS)
	@$(BIN)/opsctl playbook lint

bench: .venv/.tools  ## Measure, as ratios side by side
	@$(BIN)/python -m tests.bench

mutants: .venv/.tools  ## Mutate lines of the engine and of the changes, and check that a test fails for each
	@$(BIN)/python -m tests.mutants

docs: .venv/.tools  ## Write the generated parts of the documents anew
	@$(BIN)/cog -r $(DOCUMENTS)

wheel: .venv/.tools  ## Build a wheel into dist/
	@$(BIN)/pip wheel $(QUIET) --no-deps --no-build-isolation --wheel-dir dist .

upgrade: .venv/.tools  ## Renew the lock with the newest versions that pyproject.toml allows, then run the tests
	@$(INSTALL) --upgrade uv
	@$(COMPILE) --all-extras -o lock/tools.txt
	@$(COMPILE) --extra sandbox -c lock/tools.txt -o lock/sandbox.txt
	@$(COMPILE) -c lock/tools.txt -o lock/core.txt
	@$(COMPILE) --extra sandbox --group bench -c lock/tools.txt -o lock/bench.txt
	@$(MAKE) --no-print-directory test

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

# The lock names every version with its hashes; opsctl itself is built with the build tools that the lock names.
.venv/.sandbox: pyproject.toml lock/sandbox.txt | .venv/.python
	@echo "Installing opsctl and its sandbox: some 35 packages, 250 MB; a minute or two the first time ..."
	@$(INSTALL) --require-hashes -r lock/sandbox.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.tools: pyproject.toml lock/tools.txt | .venv/.python
	@echo "Installing opsctl, its sandbox and the tools: some 75 packages, 350 MB; a minute or two the first time ..."
	@$(INSTALL) --require-hashes -r lock/tools.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ .venv/.sandbox
