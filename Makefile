# The environment is .venv. It is made by the first target that needs it, and brought up to date when the
# requirements change. Another Python for it: make setup PYTHON=python3.12
PYTHON ?= python3
# The fast tests run in so many processes; each holds a TensorFlow, 2 to 3 GB.
WORKERS ?= 2

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
INSTALLED := .venv/.installed
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-export demo test test-slow lint type docs fuzz faults load intrude mutants cluster clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(INSTALLED) ## Make .venv and install the tested versions

setup-export: .venv/.installed-export ## Add ONNX and OpenVINO to .venv: make test then runs their tests too

demo: $(INSTALLED) ## Generate data, train, evaluate, export and segment, into demo/
	@$(PY) scripts/demo.py

test: $(INSTALLED) ## Run the tests that take seconds
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(INSTALLED) ## Run the tests that take minutes
	@$(PY) -m pytest -m slow

lint: $(INSTALLED) ## Check style and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

type: $(INSTALLED) ## Check types
	@$(PY) -m mypy

DOCS := .venv-docs
docs: $(DOCS)/.installed ## Build the documentation as a site, into site/
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict --quiet
	@echo "open site/index.html; for the search: python -m http.server --directory site"

# A cluster on this machine, see docs/scale.md: it needs Java 17 and Maven, and has an environment of its own.
ENGINE ?= flink
CLUSTER_WORKERS ?= 2
SLOTS ?= 1
BEAM_PY := .venv-beam/bin/python
BEAM_INSTALLED := .venv-beam/.installed-cluster
cluster: $(BEAM_INSTALLED) ## Start Flink or Spark here (ENGINE=flink), label IMAGES= with MODEL= into OUT= there, stop it
	@$(BEAM_PY) -m scripts.cluster --engine=$(ENGINE) --workers=$(CLUSTER_WORKERS) --slots=$(SLOTS) \
	  $(if $(MODEL),'--model=$(MODEL)') $(if $(IMAGES),'--images=$(IMAGES)') $(if $(OUT),'--out=$(OUT)')

# Longer campaigns, see docs/reliability.md: each adds to docs/reliability.json.
SECONDS ?= 600
TARGET ?= all
fuzz: $(INSTALLED) ## Damage what TARGET=image, mask, ... reads, for SECONDS=600
	@$(PY) -m tests.fuzz $(TARGET) --seconds=$(SECONDS)

faults: $(INSTALLED) ## Kill the commands, fill the disk, take rights away, for SECONDS=600
	@$(PY) -m tests.faults --seconds=$(SECONDS)

load: $(INSTALLED) ## Ask an exported network from eight threads, good and bad mixed, for SECONDS=600
	@$(PY) -m tests.load --seconds=$(SECONDS)

intrude: $(INSTALLED) ## Attack the local page as other programs and pages could, for SECONDS=600
	@$(PY) -m tests.intrusions --seconds=$(SECONDS)

mutants: $(INSTALLED) ## Change the mathematics line by line and count what the tests notice, for SECONDS=600
	@$(PY) -m tests.mutants --seconds=$(SECONDS)

clean: ## Remove demo/, site/ and caches; .venv stays
	rm -rf demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so whatever was interrupted is done again. A .venv that cannot run pip is made anew.
$(INSTALLED): requirements.txt requirements-dev.txt requirements-webapp.txt requirements-crf.txt constraints.txt pyproject.toml
	@rm -f $@
	@if ! { $(PY) -c '$(SUPPORTED)' && $(PY) -m pip --version; } >/dev/null 2>&1; then \
	  command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON); install Python 3.11 to 3.13, or name one: make setup PYTHON=python3.12" >&2; exit 2; }; \
	  $(PYTHON) -c '$(SUPPORTED)' || { echo "error: Python 3.11 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make setup PYTHON=python3.12" >&2; exit 2; }; \
	  rm -rf .venv; \
	  $(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 2; }; \
	fi
	@echo "installing the requirements into .venv: TensorFlow is large, this takes some minutes the first time"
	@$(PIP) install -r requirements.txt -r requirements-dev.txt -c constraints.txt
	@$(PIP) install -r requirements-crf.txt -c constraints.txt >.venv/crf-install.log 2>&1 || true
	@$(PY) -c 'import pydensecrf.densecrf' 2>/dev/null || \
	  echo "note: pydensecrf was not installed (it needs a C++ compiler and Python 3.11 or 3.12); all works but --crf_backend=pydensecrf. See .venv/crf-install.log" >&2
	@touch $@

.venv/.installed-export: $(INSTALLED) requirements-export.txt constraints-export.txt
	@$(PIP) install -r requirements-export.txt -c constraints-export.txt
	@touch $@

# An environment of its own: the packages of the site are not to change those of the project.
$(DOCS)/.installed: requirements-docs.txt
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip --disable-pip-version-check --quiet install -r requirements-docs.txt
	@touch $@

$(BEAM_INSTALLED): requirements.txt requirements-beam.txt requirements-cluster.txt constraints-beam.txt
	@rm -f $@
	@test -x $(BEAM_PY) || $(PYTHON) -m venv .venv-beam
	@echo "installing Beam, Flink and Spark into .venv-beam: some 1.5 GB, this takes minutes the first time"
	@$(BEAM_PY) -m pip --disable-pip-version-check --quiet install -r requirements-beam.txt -r requirements-cluster.txt -c constraints-beam.txt
	@touch $@
