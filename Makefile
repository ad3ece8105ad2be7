# `make demo` and `make test` set up what they need in .venv; a second run starts at once.
# Choose with PYTHON=python3.12, TORCH=2.8.0 (empty: the newest), OUT=folder of the demo, which must
# be new: a second demo needs OUT=demo2, or `demo` deleted first. N and SEED: cases of `make fuzz`.

PYTHON ?= python3
TORCH  ?= 2.13.0
OUT    ?= demo
N      ?= 1000
SEED   ?= 1

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests are many small ones: a process per core, each with one thread, halves their time.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 8
PINNED := torch$(if $(TORCH),==$(TORCH))
# The stamps carry torch's version, so that another TORCH= installs anew.
BASE := $(VENV)/.torch-$(TORCH)
DEV  := $(BASE)-dev

.PHONY: help demo test test-all fuzz lint format docs bench clean

help:
	@echo "make demo      train on synthetic scanners, report in $(OUT)/ (minutes on two cores)"
	@echo "               once more: make demo OUT=demo2, or delete $(OUT)/ first"
	@echo "make test      ruff, mypy, pytest: what every change must pass"
	@echo "make test-all  as test, with the slow tests and those that download weights"
	@echo "make fuzz      N=$(N) mutated inputs, drawn from SEED=$(SEED), and the hostile ones, on all cores"
	@echo "make lint      ruff and mypy alone          make format   let ruff rewrite the code"
	@echo "make docs      docs/cli.md from the code     make bench    time a step on this machine"
	@echo "make clean     remove $(VENV) and caches (runs and $(OUT)/ stay)"

demo: $(BASE)
	$(BIN)/synfoc demo --out "$(OUT)"

test: lint
	$(PYTEST)

test-all: lint
	$(BIN)/pytest -m "not gpu"

fuzz: $(DEV)
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m fuzz.run --cases $(N) --seed $(SEED)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(BASE)
	$(BIN)/python docs/reference.py

bench: $(BASE)
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "synfoc: $(PYTHON) cannot be used"; \
	  echo "  found     $$($(PYTHON) --version 2>&1 | tail -n 1)"; \
	  echo "  expected  Python 3.10 or newer"; \
	  echo "  fix       make PYTHON=python3.12 (any newer interpreter that is installed)"; \
	  exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "synfoc: cannot make a virtual environment in $(VENV)"; \
	  echo "  found     $(PYTHON) -m venv failed, see above"; \
	  echo "  expected  an interpreter with the modules venv and ensurepip"; \
	  echo "  fix       on Debian or Ubuntu: apt install python3-venv; else make PYTHON=..."; \
	  exit 2; }
	@echo "installing $(PINNED) and synfoc into $(VENV) (once, some minutes)"
	@$(PIP) $(PINNED)
	@$(PIP) --editable .
	@rm -f $(VENV)/.torch-* && touch $@

$(DEV): $(BASE)
	@echo "installing the tools for tests into $(VENV)"
	@$(PIP) --editable ".[dev]"
	@# Without what its other networks need: that brings torchvision, and another torch with it.
	@$(PIP) --no-deps "dynamic-network-architectures==0.4.4"
	@touch $@
