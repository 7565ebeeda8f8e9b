# make run: the whole pipeline on built-in data; make test: format, lint, types, tests; make ui: the runs in MLflow.
# Options of `imitation-refinement run` can be given: make run RUN="--profile smoke --seed 1".
RUN ?= --profile default
RUNS ?= runs
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test ui format clean

run: .venv/ready
	$(BIN)/imitation-refinement run $(RUN)

test: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy shared components pipelines
	$(BIN)/pytest

ui: .venv/ready
	$(BIN)/imitation-refinement ui --runs $(RUNS)

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache *.egg-info shared/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew, from nothing, when the lock or the package's own metadata change.
.venv/ready: requirements.lock setup.cfg
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
