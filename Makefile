# `make` or `make help` lists the targets. Everything lives in .venv; nothing needs root or a server started by hand.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
# The pins are complete, so nothing is left to resolve. Resolving all the same fails on some versions of pip (23.2): for an
# extra of a pinned package (`coverage[toml]`) they take the newest release, which then has no hash.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
PACKAGES := llmproxy_site routing cache_app stats
SOURCES := $(PACKAGES) tests manage.py

.PHONY: help run test check fmt bench faults install-dev pre-commit test-cov lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 20

run: $(VENV)/.run ## start the gateway with llmproxy.yaml; without one and with nothing configured: the demo
	@exec $(BIN)/python manage.py serve --or-demo $(ARGS)

test: $(VENV)/.dev ## run the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## lint, types, import rules, pins, migrations, deployment settings
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports
	$(BIN)/python -m pip check
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --deploy --fail-level WARNING

fmt: $(VENV)/.dev ## format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix --exit-zero $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.dev ## measure the gateway against the mock upstream
	@$(BIN)/python -m tests.bench $(ARGS)

faults: $(VENV)/.dev ## the long versions of the load and fault tests
	@$(BIN)/python -m pytest -m full --timeout 1800 $(ARGS)

test-cov: $(VENV)/.dev ## test coverage as HTML in htmlcov/
	@$(BIN)/python -m pytest --cov --cov-report=html --cov-report=term:skip-covered $(ARGS)

install-dev: $(VENV)/.dev ## install the development tools, and the git hooks where this is a git checkout
	@if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/pre-commit install; fi

pre-commit: $(VENV)/.dev ## run the hooks over all files
	@$(BIN)/pre-commit run --all-files

lock: $(VENV)/.run ## pin all dependencies anew, with hashes (upgrade: make lock ARGS=--upgrade)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" $(ARGS) pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" $(ARGS) --constraints requirements.txt --extra dev \
		pyproject.toml --output-file requirements-dev.txt

# Stamps: what is installed already is not asked for again until the pins change.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "LLMProxy needs Python 3.11 or newer. Install one, or name it: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt | $(BIN)/python
	@echo "Installing requirements.txt into $(VENV) ..."
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing requirements-dev.txt into $(VENV) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $(VENV)/.run $@
