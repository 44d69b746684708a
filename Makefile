# Everything a person does more than once. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
PHXQUEUE := $(VENV)/bin/phxqueue
PYTEST := $(PYTHON) -m pytest

# The tests start hundreds of processes. Where byte code may not be kept, as images of containers have it, each of them
# would compile all modules again, and every worker all tests.
unexport PYTHONDONTWRITEBYTECODE

# Worker processes of the test runner.
WORKERS ?= 2
# Further arguments for pytest: make test-unit ARGS='-k cursor -x'
ARGS ?=

# Real processes are measured: they get the machine to themselves. ARGS may select none of them (status 5).
INTEGRATION = $(PYTEST) $(ARGS) tests/integration || [ $$? -eq 5 -a -n "$(ARGS)" ]

##@ Try it

.PHONY: demo
demo: bootstrap-runtime ## A whole cluster of twelve processes on this machine, an echo, a killed master, a killed consumer
	@$(PHXQUEUE) demo start

.PHONY: demo-stop
demo-stop: ## Stop what `make demo` started
	@if [ -x $(PHXQUEUE) ]; then $(PHXQUEUE) demo stop; else echo "no demo is running here"; fi

.PHONY: certs
certs: bootstrap-runtime ## A private certificate authority and certificates for the files in etc/
	@$(PHXQUEUE) certs init

.PHONY: bench
bench: bootstrap ## Measure throughput and latency on this machine
	@$(PYTHON) -m benchmarks $(ARGS)

##@ Work on it

.PHONY: test
test: lint ## Everything that CI checks: lint, then every test (unit, simulation, real processes)
	$(PYTEST) -n $(WORKERS) --dist worksteal --ignore tests/integration $(ARGS) tests
	$(INTEGRATION)

.PHONY: test-unit
test-unit: bootstrap ## The quick part of the tests: neither simulation nor real processes nor failing disks
	$(PYTEST) -n $(WORKERS) --dist worksteal --ignore tests/simulation --ignore tests/faults --ignore tests/integration $(ARGS) tests

.PHONY: test-simulation
test-simulation: bootstrap ## The simulated clusters alone
	$(PYTEST) -n $(WORKERS) --dist worksteal $(ARGS) tests/simulation

.PHONY: sim-mutants
sim-mutants: bootstrap ## Prove the simulator: every deliberate bug must be caught by one of its first seeds
	@$(PYTHON) -m tests.simulation.mutants $(ARGS)

.PHONY: test-integration
test-integration: bootstrap ## The tests that start, kill and pause real processes alone
	$(INTEGRATION)

# `make chaos MINUTES=60 SEED=7`
MINUTES ?= 10

.PHONY: chaos
chaos: bootstrap ## Treat a cluster of real processes badly for MINUTES (10), by SEED (random), and check its books
	@$(PYTHON) -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: lint
lint: bootstrap ## ruff (lint and format), mypy --strict, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

.PHONY: format
format: bootstrap ## Let ruff mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: proto
proto: bootstrap ## Generate phxqueue/proto/*_pb2.py and .pyi from the .proto files
	$(PYTHON) contrib/generate_proto.py

.PHONY: proto-check
proto-check: bootstrap ## Fail when the generated modules are not what `make proto` writes
	$(PYTHON) contrib/generate_proto.py --check

.PHONY: docs
docs: bootstrap ## Build the documentation into build/docs, strictly
	contrib/bootstrap docs
	$(VENV)/bin/mkdocs build --strict

##@ Clean up

.PHONY: clean-data
clean-data: ## Remove data/: what the demo's nodes stored
	@contrib/clean data

.PHONY: clean-logs
clean-logs: ## Remove logs/: what the demo's nodes logged
	@contrib/clean logs

##@ Set up

.PHONY: bootstrap
bootstrap: ## Install what is missing: system packages, .venv, everything for development
	@contrib/bootstrap dev

.PHONY: bootstrap-runtime
bootstrap-runtime: ## The same, only what running needs
	@contrib/bootstrap runtime

.PHONY: constraints
constraints: ## Take the newest packages that setup.cfg allows and record them in contrib/constraints.txt
	PHXQUEUE_LATEST=1 contrib/bootstrap dev
	PHXQUEUE_LATEST=1 contrib/bootstrap docs
	$(PYTHON) contrib/record_constraints.py

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
