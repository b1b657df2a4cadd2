# Mercato: `make demo`, `make test`, `make bench`. Needs python3.11 and make; everything else is fetched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# uv does not read pip's configuration: hand over where a machine keeps its own wheels (CPU torch, say).
export UV_FIND_LINKS ?= $(shell printenv PIP_FIND_LINKS || $(PYTHON) -m pip config get global.find-links 2>/dev/null)
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True
export DO_NOT_TRACK := 1
# Where it is set, every process of the demo and of the tests compiles all that it imports: seconds every time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test bench lint types imports unit browser postgres lock clean
help: ## this list
	@grep -hE '^[a-z.]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

.uv/bin/uv:
	@$(PYTHON) -m venv .uv || { echo "need $(PYTHON) with venv (Debian: apt-get install python3.11-venv), or set PYTHON"; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check uv

$(VENV)/.done: requirements.lock pyproject.toml | .uv/bin/uv
	@echo "building the environment from requirements.lock (about 2.5 GB)"
	@.uv/bin/uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@.uv/bin/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@.uv/bin/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv: $(VENV)/.done ## the environment

demo: $(VENV)/.done ## the whole loop on real data, then a page to look at (EXIT=1: check and stop)
	@$(BIN)/mercato demo $(if $(EXIT),--exit)

test: lint types imports unit ## everything that must hold

lint: $(VENV)/.done
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.done
	@$(BIN)/mypy

imports: $(VENV)/.done
	@$(BIN)/lint-imports

# The page is tested in a real browser; Debian's is taken when none is there and we may install it.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends chromium >/dev/null; } \
	  || { echo "the page is tested in Chromium: apt-get install chromium"; exit 1; }

# Sources are tested on a real PostgreSQL, which each test starts for itself.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends postgresql >/dev/null; } \
	  || { echo "sources are tested on PostgreSQL: apt-get install postgresql"; exit 1; }

unit: $(VENV)/.done browser postgres
	@# DuckDB's bindings list what they never freed when Python ends: noise below the result.
	@$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	  2> >(grep -vE "nanobind|^ - leaked|skipped remainder|refleaks" >&2)

bench: $(VENV)/.done ## every figure quoted in the docs, beside its rival
	@$(BIN)/python -m tests.bench

lock: .uv/bin/uv ## resolve requirements.lock anew
	@# Torch stays at its version, but is chosen anew: kept as it is written, the CUDA build and its packages would come in.
	@grep '^torch==' requirements.lock > .uv/torch.txt && sed -i '/^torch==/d' requirements.lock
	@.uv/bin/uv pip compile --quiet pyproject.toml --group dev --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --python-version 3.11 -c .uv/torch.txt -o requirements.lock
	@sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements.lock

clean: ## remove what the demo made (the environment stays)
	@rm -rf .mercato
