# One line a target. `make` lists them; `make run` is where to start.
# Needs git, make and Python 3.11 or newer with venv; uv is used when it is installed.

PYTHON ?=
ARGS ?= examples/hello-world -i name=Alice --offline
TESTS ?=
ROUNDS ?= 5
CASES ?= 1000000
MINUTES ?= 10
SEED ?=
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
STAMP := .venv/.installed
# uv has its own list of certificates; the system's also knows those of a company's proxy. The
# second name is that of older versions.
UV_SYSTEM_CERTS ?= 1
UV_NATIVE_TLS ?= 1
export UV_SYSTEM_CERTS UV_NATIVE_TLS
# loadfile: a file's tests share a worker, and with it the Prefect server of the file's fixtures.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help deps run test lint type fmt coverage fuzz chaos bench build lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: $(STAMP) ## make .venv and install what is needed (PYTHON=… picks the interpreter)
	@:

$(STAMP): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" UV="$(UV)" sh .ci/deps && touch $@

run: deps ## run examples/hello-world offline (ARGS=… is what to run instead)
	@$(BIN)/compozy run $(ARGS)

test: deps ## run the tests (TESTS=tests/compiler for some of them)
	@$(PYTEST) $(TESTS)

lint: deps ## check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: deps ## check types
	@$(BIN)/mypy

fmt: deps ## format, and fix what can be fixed
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

coverage: deps ## run the tests and report line coverage
	@$(PYTEST) --cov=compozy_prefect --cov-report=term-missing:skip-covered $(TESTS)

fuzz: deps ## look for what breaks the compiler (CASES=1000000 and MINUTES=10, of each kind)
	@mkdir -p .venv/fuzz && $(if $(UV),$(UV) pip install -q --python $(BIN)/python,$(BIN)/python -m pip install -q) --target .venv/fuzz atheris || echo "without atheris: at random"
	@for kind in sources structures references templates scripts expressions; do PYTHONPATH=.:.venv/fuzz $(BIN)/python tests/property/fuzz_atheris.py $$kind --cases $(CASES) --minutes $(MINUTES) || exit 1; done

chaos: deps ## kill runs, servers and disks at every place, and 200 runs at random moments (SEED=1)
	@SLOW=1 SEED=$(SEED) $(BIN)/pytest -n 2 tests/chaos

bench: deps ## measure against hand-written Prefect (ROUNDS=5)
	@$(BIN)/python -m bench --rounds $(ROUNDS)

build: deps ## make the wheel and the source distribution in dist/
	@$(if $(UV),$(UV) build,$(BIN)/python -m build)

lock: ## renew constraints.txt from pyproject.toml (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate --output-file constraints.txt pyproject.toml

clean: ## remove caches and what was built; .venv stays
	@rm -rf dist build htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/results.json
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
