# Each target makes the virtual environment from the pinned requirements if it isn't there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# EXTRAS=all installs everything that goes together, as CI does.
EXTRAS ?= dev,sentencepiece,serve,web
comma := ,
READY := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
# Packages that this environment can't have as old, or as new, as they are pinned.
UNPINNED ?= none
# A module's tests share what is slow to make, so they stay together. Three processes keep two
# cores busy: tests of sweeps and of servers often wait.
TESTS := $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-slow test-ray lint format bench clean ray

run: $(READY)            ## the main job: a GRU on the embedded movie reviews
	$(BIN)/python main.py task=sentiment model=gru

test: $(READY)           ## the test suite
	$(TESTS)

test-slow: $(READY)      ## and the tests that take long
	$(TESTS) --slow

test-ray:                ## Ray, in an environment of its own: it wants older packages
	$(MAKE) ray VENV=.venv-ray EXTRAS=dev,ray UNPINNED='cloudpickle|joblib|python-dateutil'

ray: $(READY)
	$(BIN)/python -m pytest --fail-on-skip --slow tests/launch \
		"tests/end_to_end/test_foreign_code.py::test_the_jobs_of_launchers_run_nothing_of_the_working_directory[ray]"

lint: $(READY)           ## style, types, and imports that point one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)          ## the quick benchmarks; see benchmarks/README.md for the others
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/start_up.py

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	grep -vE '^($(UNPINNED))==' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) .venv-ray .pytest_cache .mypy_cache .ruff_cache
