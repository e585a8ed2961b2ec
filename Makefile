PYTHON ?= python3.11
BIN := .venv/bin
SOURCES := pipelines serving jobs tests benchmarks
RESULTS := benchmarks/results

.PHONY: help setup browser demo peers bench bench-full test check audit unit clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/.ready ## make .venv with everything in it; nothing to do when it is there

# .ready is written last: a set-up that was broken off starts again
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

browser: ## a Chromium for the tests of the console, by apt; nothing to do where there is one
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

demo: setup ## generate a catalogue, build, print and serve a few answers; on a terminal the console stays until Ctrl-C
	$(BIN)/python -m jobs.demo demo

check: setup ## style, types, direction of imports
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: setup ## asks the databases of advisories what is known of the packages; says so where none can be reached
	$(BIN)/python -m tests.audit

unit: setup ## the quick tests, no Ray
	$(BIN)/pytest tests/unit tests/serving

peers: .venv/.peers ## what benchmarks compare with, kindling[bench]; cmfrec may be compiled

.venv/.peers: .venv/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

bench: peers ## speed beside the peers, short form, under ten minutes; nothing is written
	set -e; for name in embedding als ranking service preparation; do $(BIN)/python benchmarks/$$name.py --quick; done

bench-full: peers ## the same at full size, growth and faults; takes long; writes benchmarks/results
	$(BIN)/python benchmarks/embedding.py --stage --out $(RESULTS)/embedding_cpu.md
	$(BIN)/python benchmarks/als.py --ray --memory --out $(RESULTS)/als_cpu.md
	$(BIN)/python benchmarks/ranking.py --width 192 512 --out $(RESULTS)/ranking_cpu.md
	$(BIN)/python benchmarks/service.py --out $(RESULTS)/serving_cpu.md
	$(BIN)/python benchmarks/preparation.py --out $(RESULTS)/preparation_cpu.md
	$(BIN)/python benchmarks/growth.py --out $(RESULTS)/growth_cpu.md
	$(BIN)/python benchmarks/faults.py --out $(RESULTS)/faults.md
	$(BIN)/python benchmarks/service_faults.py --out $(RESULTS)/service_faults.md

test: check ## everything; what starts Ray one after the other, for it wants the machine to itself
	$(BIN)/pytest tests/unit tests/serving -n 2 --dist loadfile
	$(BIN)/pytest tests/e2e tests/ray tests/realdata tests/gpu

clean: ## remove what make made
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
