# The one door. `make` prints what it opens; everything it needs it sets up itself, in .venv.

UV_VERSION := 0.13.9
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3

BIN := .venv/bin
UV := .venv/.uv-$(UV_VERSION)
SYNCED := .venv/.synced
BENCHED := .venv/.benched
COVERAGE := .cache/coverage
NODE := .cache/node
NPM_PACKAGE := standardwebhooks@1.0.0
RECIPES := .cache/recipes
NPM_DRIVER := better-sqlite3@12.11.1
JAVA_DRIVER := org.xerial:sqlite-jdbc:3.50.3.0
NET_DRIVER := Microsoft.Data.Sqlite
SEEDS := 500
FROM := 1
MINUTES := 30

# What a person reads who has no network; the rest is in the file that it names.
no_index = { echo "make: $(1) cannot be had from the package index (is there a network?): see .venv/.said" >&2; exit 1; }

# uv works on this .venv with this .venv's Python, whatever the shell around it has active.
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV UV_PYTHON PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-core test-rest coverage test-all interop recipes simulate soak check bench dist dist-smoke format clean

help: ## print the doors
	@sed -n 's/^\([a-z%-]*\):[^#]*## \(.*\)/make \1	\2/p' Makefile | expand -t 18

demo: $(SYNCED) ## the whole thing on a temporary file with a local receiver; ends by itself
	@$(BIN)/webhookd demo

# The core's own tests alone must cover the core; measuring the others would double their time.
test: test-core test-rest ## all tests but the long ones

test-core: $(SYNCED) $(NODE)/.$(NPM_PACKAGE)
	@rm -rf $(COVERAGE) && mkdir -p $(COVERAGE)
	$(BIN)/coverage run --data-file=$(COVERAGE)/core -m pytest tests/core -m "not long"
	@$(BIN)/coverage combine --quiet --data-file=$(COVERAGE)/core
	@$(BIN)/coverage report --data-file=$(COVERAGE)/core --include='webhookd/core/*' --fail-under=100

test-rest: $(SYNCED)
	$(BIN)/python -m pytest -n 2 --ignore=tests/core -m "not long"

coverage: test-core ## which lines and branches the tests reach, over all of them but the long ones
	$(BIN)/coverage run --data-file=$(COVERAGE)/rest -m pytest -n 2 --ignore=tests/core -m "not long"
	@$(BIN)/coverage combine --quiet --data-file=$(COVERAGE)/rest
	@$(BIN)/coverage combine --quiet --data-file=$(COVERAGE)/all $(COVERAGE)/core $(COVERAGE)/rest
	@$(BIN)/coverage report --data-file=$(COVERAGE)/all

test-all: $(SYNCED) $(NODE)/.$(NPM_PACKAGE) ## every test, the long ones too; no coverage
	$(BIN)/python -m pytest

check: $(SYNCED) ## lint, format, types, layers, lock file, systemd's units
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/uv lock --check
	@systemd/check $(CURDIR)/$(BIN)/webhookd

# hypercorn is no dependency, not even of the tests: it goes into a directory of its own.
interop: $(SYNCED) ## the sender against nginx, hypercorn, Node and http.server, as far as they are here
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target .cache/interop hypercorn
	WEBHOOKD_INTEROP=$(CURDIR)/.cache/interop $(BIN)/python -m pytest -v tests/system/test_interop.py

recipes: $(SYNCED) ## docs/recipes.md with every runtime that is here; fetches what Node, Java and .NET need
	@mkdir -p $(RECIPES)
	@if command -v npm >/dev/null && ! test -d $(RECIPES)/node_modules/better-sqlite3; then \
	  npm install --prefix $(RECIPES) --no-save --silent --no-audit --no-fund $(NPM_DRIVER); fi
	@if command -v mvn >/dev/null && ! ls $(RECIPES)/*.jar >/dev/null 2>&1; then \
	  mvn -q -B dependency:copy -Dartifact=$(JAVA_DRIVER) -DoutputDirectory=$(CURDIR)/$(RECIPES); fi
	@if command -v dotnet >/dev/null && ! test -d $(RECIPES)/csharp; then \
	  dotnet new console --output $(RECIPES)/csharp >/dev/null \
	  && dotnet add $(RECIPES)/csharp package $(NET_DRIVER) >/dev/null; fi
	$(BIN)/python -m pytest -v tests/store/test_recipes.py

simulate: $(SYNCED) ## the daemon through seeded disasters, judged by a model: SEEDS=2000 FROM=1
	$(BIN)/python -m tests.simulation --seeds $(FROM)-$$(($(FROM) + $(SEEDS) - 1))

bench: $(BENCHED) ## measure everything: half an hour; tables, and figures and charts in bench/results
	$(BIN)/python -m bench

bench-%: $(BENCHED) ## one of them: drain, latency, isolation, backlog, subscriptions, idle, guest ...
	$(BIN)/python -m bench $*

soak: $(SYNCED) ## the real daemon among faults for MINUTES=30; memory, descriptors, WAL and lag stay bounded
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

dist: $(SYNCED) ## webhookd.pyz, wheel and sdist in dist/, each of which must run the demo
	@packaging/dist $(CURDIR)/$(BIN)/uv
	@$(MAKE) --no-print-directory dist-smoke

dist-smoke: $(SYNCED) ## the demo with each file in dist/ and a Python that has nothing installed
	@packaging/smoke "$$($(BIN)/python -c 'import sys; print(sys._base_executable)')"

format: $(SYNCED) ## put the code into the house's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove all that make made
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SYNCED): $(UV) pyproject.toml uv.lock
	@echo "make: fetching what webhookd needs into .venv" >&2
	@$(BIN)/uv sync --frozen --quiet 2>.venv/.said || $(call no_index,the dependencies)
	@touch $@

# What the daemon is measured against; `make` puts it there for the benchmarks alone.
$(BENCHED): $(SYNCED)
	@$(BIN)/uv sync --frozen --inexact --quiet --group bench 2>.venv/.said || $(call no_index,what is compared with)
	@touch $@

# What receivers in Node verify with. Without npm, or its registry, one test is skipped and says so.
$(NODE)/.$(NPM_PACKAGE):
	@mkdir -p $(NODE)
	@if ! command -v npm >/dev/null; then echo "make: no npm here: what Node says is not tested"; \
	elif npm install --prefix $(NODE) --no-save --silent --no-audit --no-fund $(NPM_PACKAGE); \
	then touch $@; \
	else echo "make: npm cannot fetch $(NPM_PACKAGE): what Node says is not tested" >&2; fi

# A .venv that uv made has no place for uv itself (a sync removes it), so only our own is kept.
$(UV):
	@if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || grep -q '^uv = ' .venv/pyvenv.cfg; then \
	  for python in $(PYTHONS); do \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null && break; \
	    python=; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "make: no Python 3.11 or newer with the venv module here; install one (on Debian: apt install python3 python3-venv)" >&2; \
	    exit 1; \
	  fi; \
	  $$python -m venv --clear .venv; \
	fi
	@echo "make: fetching uv into .venv, which fetches the rest: a minute or so, once" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 \
	  uv==$(UV_VERSION) 2>.venv/.said || $(call no_index,uv)
	@rm -f .venv/.uv-* && touch $@
