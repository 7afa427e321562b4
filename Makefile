# Everything a person or CI does here. `make help` lists it; `make demo` and `make test` need nothing but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= simulated
PROFILE ?= demo
# Two workers: many tests wait for a process; a file's tests share what is costly to start.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast images manifests terraform-check system lint compile lock clean

help: ## Show what there is
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch comes first and by pip, which knows which build this machine has; the rest is locked with hashes. Bytecode is
# compiled once here: where Python may not write it later, every process would spend seconds on it.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Slipway needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "This Python has no venv module; on Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) (once, a few minutes) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 torch==2.13.0
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

install: $(VENV)/.installed ## Install everything into .venv, from the lock

demo: install ## Run the whole line and serve it: make demo [DATA=<folder>] [PROFILE=demo|full]
	@$(BIN)/slipway run --workload movies --profile $(PROFILE) --data "$(DATA)"
	@$(BIN)/slipway recommend

test: install lint system ## Lint, check types and arrows, run every test
	@$(BIN)/slipway compile --check
	@$(PYTEST)

test-fast: install ## The tests that take seconds
	@$(PYTEST) -m "not slow"

images: install system ## Build the container images (podman and buildah): make images [ONLY="slipway-serving"]
	@$(BIN)/python -m images base
	@$(BIN)/python -m images build $(ONLY)

manifests: install ## Hold every Kubernetes object against its schema, its rules and the others: make manifests [CRDS=<folder>]
	@$(BIN)/slipway manifests check $(if $(CRDS),--crds "$(CRDS)")

terraform-check: install ## Format, references, plans with stand-ins, policies and costs of terraform/
	@$(BIN)/python -m pytest -q tests/terraform tests/cluster/test_plan.py tests/cluster/test_costs.py

# What is no Python package, and only tests and images need: a browser for the dashboard's tests, Prometheus for the
# rules', podman for the containers'. Where it cannot be installed those tests are skipped, and say so.
SYSTEM := chromium prometheus prometheus-alertmanager podman buildah runc mmdebstrap
system:
	@missing=$$(for package in $(SYSTEM); do command -v $$package >/dev/null || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing (once): $$(echo $$missing) …"; \
			{ timeout 120 apt-get update && \
			  timeout 400 env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends $$missing; \
			} >/dev/null 2>&1 || echo "They could not be installed: the tests that need them are skipped"; \
		else \
			echo "Tests that need these are skipped; on Debian and Ubuntu: sudo apt-get install $$(echo $$missing)"; \
		fi; \
	fi

lint: install ## ruff, mypy --strict on slipway/, import arrows
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

compile: install ## Write pipelines/compiled/*.yaml again
	@$(BIN)/slipway compile

lock: ## Resolve requirements.lock anew from pyproject.toml, and the images' parts of it
	@$(BIN)/uv pip compile --quiet --all-extras --upgrade pyproject.toml --output-file requirements.lock
	@$(BIN)/python -m images lock

clean: ## Stop the embedded stack and remove this checkout's state and environment
	@test ! -x $(BIN)/slipway || $(BIN)/slipway down
	rm -rf .slipway $(VENV) *.egg-info
