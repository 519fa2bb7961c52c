# make test, make check, make demo: each first sets up .venv from the lock. README.md says more.
SHELL := /bin/bash
PYTHON := .venv/bin/python
READY := .venv/ready-$(shell cksum < requirements.lock | cut -d ' ' -f 1)
N ?= 500
WORKERS ?= 2

.PHONY: setup test test-rules check demo schemas mutants simulate bench lock format

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
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-rules:
	@command -v promtool > /dev/null || { echo "test-rules needs promtool: Debian's package prometheus has it." >&2; exit 1; }
	promtool check rules deploy/prometheus/rules/*.yml
	promtool test rules deploy/prometheus/tests/*.yml

check: setup
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo

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

bench: setup
	$(PYTHON) -m tests.bench $(ARGS)

lock:
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --extra dev -o requirements.lock pyproject.toml
