# Each target does its own set-up; a second call skips what is done.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ENV    := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow test-page test-docs lint clean

demo: $(STAMP)
	$(ENV) $(BIN)/finescale demo

test: $(STAMP)
	$(ENV) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: $(STAMP)
	$(ENV) $(BIN)/python -m pytest -m slow

test-page: $(STAMP)
	$(ENV) tests/page_tests.sh $(BIN)/python

test-docs: $(STAMP)
	$(ENV) $(BIN)/python -m pytest -m slow tests/slow/test_tutorials.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "finescale needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "python's venv module is missing: apt-get install python3-venv"; exit 1; }
	@echo "Installing what finescale needs into $(VENV) (a few minutes the first time) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lab,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
