# Each target sets up what it needs in .venv; nothing has to be installed first but Python 3.11+.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
READY := $(VENV)/.ready

.PHONY: demo test check clean

# Makes people, trains, evaluates, searches, and writes a page: $(OUT)/index.html.
# With REAL=FOLDER, real networks on real frames instead.
demo: $(READY)
	$(BIN)/personsearch demo --out $(OUT) $(if $(REAL),--real $(REAL))

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist
