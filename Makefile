# Each target sets up what it needs in .venv; nothing has to be installed first but Python 3.11+.
PYTHON ?= python3
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
READY := $(VENV)/.ready

.PHONY: demo test fuzz check clean browser

# Makes people, trains, evaluates, searches, and writes a page: $(OUT)/index.html.
# With REAL=FOLDER, real networks on real frames instead.
demo: $(READY)
	$(BIN)/personsearch demo --out $(OUT) $(if $(REAL),--real $(REAL))

test: $(READY) browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Files and requests of any content, MINUTES in all, with random seeds. Prints the inputs tried and
# what escaped, which is added to tests/fuzz/corpus.
MINUTES ?= 30
fuzz: $(READY)
	PERSONSEARCH_FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest tests/fuzz

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) test

# The tests drive the page with a browser of the system, and the API's examples with curl.
browser:
	@if [ -x /usr/bin/chromium ] && command -v curl >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
	    --no-install-recommends chromium curl fonts-dejavu-core >/dev/null; \
	else \
	  echo "the tests need /usr/bin/chromium and curl; as root: apt-get install chromium curl" >&2; \
	  exit 1; \
	fi

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist
