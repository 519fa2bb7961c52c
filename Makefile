# make test, make check, make demo: each first sets up .venv from the lock. README.md says more.
SHELL := /bin/bash
PYTHON := .venv/bin/python
READY := .venv/ready-$(shell cksum < requirements.lock | cut -d ' ' -f 1)
N ?= 500
WORKERS ?= 3
SECONDS = 120
STORE ?= sqlite

.PHONY: setup test test-rules check demo schemas mutants simulate chaos bench lock format up down logs test-compose

setup: $(READY)

# The stamp is named after the lock's contents: another lock, another set-up.
$(READY): requirements.lock pyproject.toml
	@set -e; for python in python3 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then echo "Dealbridge needs Python 3.11 or newer: install python3.11 (with venv) and run make again." >&2; exit 1; fi; \
	"$$found" -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f .venv/ready-*; touch $@

test: setup
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-rules:
	@command -v promtool > /dev/null || { echo "test-rules needs promtool: Debian's package prometheus has it." >&2; exit 1; }
	promtool check rules deploy/prometheus/rules/*.yml
	promtool test rules deploy/prometheus/tests/*.yml

check: setup
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo
	$(PYTHON) -m pytest -q tests/architecture

format: setup
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

demo: setup
	$(PYTHON) -m deploy.demo $(ARGS)

schemas: setup
	$(PYTHON) -m shared_schema.contract.export

mutants: setup
	$(PYTHON) -m tests.mutants

simulate: setup
	$(PYTHON) -m tests.simulation --histories $(N)

chaos: setup
	$(PYTHON) -m tests.chaos $(if $(REPLAY),--replay $(REPLAY),--seconds $(SECONDS) --store $(STORE) $(if $(SEED),--seed $(SEED)))

bench: setup
	$(PYTHON) -m tests.bench $(ARGS)

# On container engines: deploy/README.md. These need no virtual environment.
COMPOSE := COMPOSE_PROFILES='*' docker compose --file deploy/compose.yaml

up:
	@python3 -m deploy.stack.up $(ARGS)

down:
	$(COMPOSE) down --remove-orphans $(ARGS)

logs:
	$(COMPOSE) logs --follow --tail 100 $(ARGS)

test-compose: setup
	$(PYTHON) -m tests.compose $(ARGS)

# Three locks: what developers need, and of the same versions what a node needs and what builds the package.
LOCK := uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url
lock:
	$(LOCK) --extra dev -o requirements.lock pyproject.toml
	$(LOCK) --constraints requirements.lock --no-annotate -o deploy/runtime.lock pyproject.toml
	printf 'setuptools\nwheel\n' | $(LOCK) --constraints requirements.lock --no-annotate -o deploy/build.lock -
