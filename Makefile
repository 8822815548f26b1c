# Each target makes the virtual environment from the pinned requirements if it isn't there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A module's tests share what is slow to make, so they stay together.
TESTS := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-slow lint format bench clean

run: $(READY)            ## the main job: a GRU on the embedded movie reviews
	$(BIN)/python main.py task=sentiment model=gru

test: $(READY)           ## the test suite
	$(TESTS)

test-slow: $(READY)      ## and the tests that take long
	$(TESTS) --slow

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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,sentencepiece,serve,web]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
