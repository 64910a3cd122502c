# Two commands set everything up on a machine with Python 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BASELINE := results/baselines/tiny-egoworld.json
GATE ?= statistical
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help install demo test test-slow check lint format wheel-check fuzz audit bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## make .venv and install the project into it (editable)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## run the study on the embedded pair: 300 questions, 5 and 10 frames
	$(BIN)/probes run experiment=demo

test: $(STAMP) ## all tests but the slow ones
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(STAMP) ## the slow tests
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

check: $(STAMP) ## run the embedded pair afresh and compare it with its baseline (GATE=exact: the other gate)
	rm -rf build/check
	HF_HUB_OFFLINE=1 PROBES_HOME=$(CURDIR)/build/check/home $(BIN)/probes run experiment=ci hydra.run.dir=build/check/run
	$(BIN)/probes check build/check/run --against $(BASELINE) --gate $(GATE) --junit build/check/junit.xml --summary build/check/summary.md

lint: $(STAMP) ## ruff, typos and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/mypy

format: $(STAMP) ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-check: $(STAMP) ## build the wheel and run it away from the checkout
	.ci/wheel-check $(abspath $(BIN))

bench: $(STAMP) ## every benchmark; tables on the screen, JSON under benchmarks/results/
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

fuzz: $(STAMP) ## fuzz the readers of files (RUNS=100000 inputs, SECONDS_MOST=600)
	$(BIN)/python fuzz/readers.py --runs $(or $(RUNS),100000) --seconds $(or $(SECONDS_MOST),600)

audit: $(STAMP) ## known vulnerabilities of the packages in constraints.txt (asks PyPI)
	.ci/audit $(BIN)/python

clean: ## remove what make made (not runs, not $PROBES_HOME)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
