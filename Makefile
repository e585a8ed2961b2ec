PYTHON ?= python3.11
BIN := .venv/bin
SOURCES := pipelines serving jobs tests benchmarks

.PHONY: help setup demo bench test check unit clean

help: ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/.ready ## make .venv with everything in it; nothing to do when it is there

# .ready is written last: a set-up that was broken off starts again
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup ## generate a catalogue, build, print and serve a few answers
	$(BIN)/python -m jobs.demo demo

check: setup ## style, types, direction of imports
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup ## the quick tests, no Ray
	$(BIN)/pytest tests/unit tests/serving

bench: setup ## the peers of kindling[bench] too; cmfrec is compiled
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'

test: check ## everything, two files at a time
	$(BIN)/pytest -n 2 --dist loadfile

clean: ## remove what make made
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
